// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

func init() {
	resourceMakers = append(resourceMakers, keepServiceResource, workflowResource, configResource, vocabularyResource)
}

func keepServiceResource(s *Server) *resource {
	k := kinds[keepServices]
	all := s.crud(k, rules{})
	accessible := all["GET"]
	accessible.doc = "List the Keep services that the caller can reach."
	return &resource{name: k.plural, kind: k, actions: map[string]action{
		"GET": all["GET"], "GET /{uuid}": all["GET /{uuid}"], "GET /accessible": accessible,
	}}
}

func workflowResource(s *Server) *resource {
	k := kinds[workflows]
	check := func(_ *Tx, _ *Call, ch change) error {
		if ch.rec["collection_uuid"] != nil {
			return refuse(422, "Collection uuid must be null")
		}
		return nil
	}
	return &resource{name: k.plural, kind: k, actions: s.crud(k, rules{check: check})}
}

// vocabularyResource says that any property will do.
func vocabularyResource(*Server) *resource {
	return &resource{name: "vocabulary", actions: map[string]action{
		"GET": {public: true, doc: "Read which properties are known.", run: func(*Tx, *Call) (any, error) {
			return verbatim(map[string]any{"strict_tags": false, "tags": map[string]any{}}), nil
		}},
	}}
}

func configResource(s *Server) *resource {
	return &resource{name: "config", actions: map[string]action{
		"GET": {public: true, doc: "Read the cluster's configuration.", run: func(*Tx, *Call) (any, error) {
			return verbatim(s.exportedConfig()), nil
		}},
	}}
}

// exportedConfig is the part of a cluster's configuration that clients see, by
// the keys of Arvados's config.yml.
//
// One key is this server's own: Containers.ResolveImagesByProperties tells that
// the image of a container request is found by the properties of collections
// as well as by links, so that nobody has to write links for it.
func (s *Server) exportedConfig() map[string]any {
	type object = map[string]any
	url := "https://" + s.cfg.APIAddress + "/"
	services := object{}
	for _, name := range []string{"Controller", "Keepproxy", "Websocket", "WebDAV", "WebDAVDownload", "WebShell", "Workbench1", "Workbench2", "ContainerWebServices"} {
		services[name] = object{"ExternalURL": ""}
	}
	// Clients of workflows print links to Workbench, and insist on an
	// address for it.
	for _, name := range []string{"Controller", "Workbench1", "Workbench2"} {
		services[name] = object{"ExternalURL": url}
	}
	ttl := s.cfg.BlobSigningTTL.String()
	return object{
		"ClusterID": s.clusterID,
		"API": object{
			"MaxItemsPerResponse": maxLimit, "MaxRequestSize": maxRequestSize, "RequestTimeout": "5m0s", "SendTimeout": "6m0s",
			"FreezeProjectRequiresDescription": false, "UnfreezeProjectRequiresAdmin": false,
		},
		"Collections": object{
			"BlobSigning": true, "BlobSigningTTL": ttl, "CollectionVersioning": false, "DefaultReplication": 1,
			"DefaultTrashLifetime": trashLifetime.String(), "ForwardSlashNameSubstitution": "", "ManagedProperties": object{},
			"PreserveVersionIfIdle": "-1s", "S3FolderObjects": true, "TrustAllContent": false,
		},
		"Containers": object{
			"AlwaysUsePreemptibleInstances": false, "DefaultKeepCacheRAM": 268435456, "MaxRetryAttempts": 3,
			"ReserveExtraRAM": 268435456, "RuntimeEngine": "docker",
			"SupportedDockerImageFormats": object{"v2": object{}},
			"ShellAccess":                 object{"Admin": false, "User": false},
			"ResolveImagesByProperties":   true,
		},
		"InstanceTypes":  object{},
		"Login":          object{"LoginCluster": ""},
		"RemoteClusters": object{},
		"Services":       services,
		"StorageClasses": object{"default": object{"Default": true, "Priority": 0}},
		"TLS":            object{"Insecure": true},
		"Users":          object{"AnonymousUserToken": "", "CanCreateRoleGroups": true, "SupportEmailAddress": ""},
		"Volumes": object{wellKnown(s.clusterID, "nyw5e", "000000000000000"): object{
			"AccessViaHosts": object{}, "ReadOnly": false, "Replication": 1, "StorageClasses": object{"default": true},
		}},
		"Workbench": object{"SiteName": "Embedded cluster " + s.clusterID},
	}
}
