// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"regexp"
	"slices"
	"strings"
)

// discoveryRevision is the revision of the Arvados API that this server
// answers like: clients compare it with the revision that a feature came with.
const discoveryRevision = "20250402"

// parameter is a query parameter that actions take.
type parameter struct {
	typ, absent, doc string
}

var parameters = map[string]parameter{
	"filters":              {"array", "", "Conditions on the records: a list of [attribute, operator, operand]."},
	"where":                {"object", "", "Older form of filters: attributes and their values."},
	"order":                {"array", "", "What to sort by: a list of \"attribute asc\" and \"attribute desc\"."},
	"select":               {"array", "", "The attributes to show."},
	"distinct":             {"boolean", "false", "Show records that look the same once."},
	"limit":                {"integer", "100", "How many records to show."},
	"offset":               {"integer", "0", "How many records to pass over."},
	"count":                {"string", "exact", "Whether to count all records: exact or none."},
	"cluster_id":           {"string", "", "Taken, without effect: there is one cluster."},
	"bypass_federation":    {"boolean", "false", "Taken, without effect: there is one cluster."},
	"include_trash":        {"boolean", "false", "Also look into the trash."},
	"include_old_versions": {"boolean", "false", "Taken, without effect: there are no old versions."},
	"ensure_unique_name":   {"boolean", "false", "Change the name if the owner has given it already, instead of refusing."},
	"include":              {"array", "", "What to show beside the records: owner_uuid, container_uuid."},
	"recursive":            {"boolean", "false", "Also list what lies in the projects below."},
	"uuid":                 {"string", "", "The project or user whose belongings to list; without it, everybody's that the caller can read."},
	"replace_files":        {"object", "", "Files to take from other collections, by target."},
}

// usualParams are the parameters of actions, by method and rest of the path.
var usualParams = map[string][]string{
	"GET": {"filters", "where", "order", "select", "distinct", "limit", "offset", "count", "cluster_id",
		"bypass_federation", "include_trash", "include_old_versions"},
	"GET /{uuid}":   {"select", "include_trash"},
	"POST":          {"select", "ensure_unique_name", "cluster_id"},
	"PATCH /{uuid}": {"select", "ensure_unique_name", "bypass_federation"},
}

// methodNames are the names of actions whose paths do not say them.
var methodNames = map[string]string{
	"GET": "list", "GET /{uuid}": "get", "POST": "create", "PATCH /{uuid}": "update", "DELETE /{uuid}": "delete",
}

type object = map[string]any

// discoveryDocument describes the API in Google's format, from which Python
// and Ruby clients make their methods.
func (s *Server) discoveryDocument() object {
	resources, schemas := object{}, object{}
	for name, res := range s.resources {
		if res.kind == nil {
			// Documents of their own: the resource is in the plural, and
			// its one method is get.
			plural := strings.TrimSuffix(strings.TrimSuffix(name, "s"), "y") + map[bool]string{true: "ies", false: "s"}[strings.HasSuffix(name, "y")]
			resources[plural] = object{"methods": object{"get": object{
				"id": "arvados." + plural + ".get", "path": name, "httpMethod": "GET", "description": res.actions["GET"].doc,
				"parameters": object{}, "response": object{}, "scopes": []string{},
			}}}
			continue
		}
		resources[name] = object{"methods": res.methods()}
		schemas[res.kind.class], schemas[res.kind.class+"List"] = res.kind.schema()
	}
	return object{
		"kind": "discovery#restDescription", "discoveryVersion": "v1", "protocol": "rest",
		"id": "arvados:v1", "name": "arvados", "version": "v1", "revision": discoveryRevision,
		"source_version": "embedded", "sourceVersion": "embedded", "packageVersion": "",
		"title": "Arvados API", "description": "The API of an embedded Arvados cluster.",
		"documentationLink": "http://doc.arvados.org/api/index.html",
		"rootUrl":           "https://" + s.cfg.APIAddress + "/",
		"basePath":          "/arvados/v1/", "servicePath": "arvados/v1/", "batchPath": "batch",
		"uuidPrefix": s.clusterID, "maxRequestSize": maxRequestSize, "maxItemsPerResponse": maxLimit,
		"defaultCollectionReplication": 1, "dockerImageFormats": []string{"v2"},
		"blobSignatureTtl":     int64(s.cfg.BlobSigningTTL.Seconds()),
		"defaultTrashLifetime": int64(trashLifetime.Seconds()),
		"remoteHosts":          object{}, "remoteHostsViaDNS": false, "websocketUrl": "", "workbenchUrl": "", "keepWebServiceUrl": "", "gitUrl": "",
		"parameters": object{
			"alt": object{"type": "string", "location": "query", "default": "json", "enum": []string{"json"},
				"enumDescriptions": []string{"JSON"}, "description": "Form of the reply."},
			"fields":       object{"type": "string", "location": "query", "description": "Taken, without effect."},
			"key":          object{"type": "string", "location": "query", "description": "Taken, without effect."},
			"oauth_token":  object{"type": "string", "location": "query", "description": "Taken, without effect."},
			"prettyPrint":  object{"type": "boolean", "location": "query", "default": "true", "description": "Taken, without effect."},
			"quotaUser":    object{"type": "string", "location": "query", "description": "Taken, without effect."},
			"uploadType":   object{"type": "string", "location": "query", "description": "Taken, without effect."},
			"userIp":       object{"type": "string", "location": "query", "description": "Taken, without effect."},
			"access_token": object{"type": "string", "location": "query", "description": "Taken, without effect."},
		},
		"auth": object{"oauth2": object{"scopes": object{
			"https://api.arvados.org/auth/arvados": object{"description": "View and change records."},
		}}},
		"resources": resources,
		"schemas":   schemas,
	}
}

var lastWord = regexp.MustCompile(`[a-z_]+$`)

// methods describes the actions of a resource.
func (res *resource) methods() object {
	methods := object{}
	for pattern, act := range res.actions {
		name := methodNames[pattern]
		if name == "" {
			name = lastWord.FindString(pattern)
		}
		httpMethod, rest, _ := strings.Cut(pattern, " ")
		if _, twice := res.actions[httpMethod+" /"+name]; twice && strings.Contains(rest, "{uuid}") {
			continue // the same by another path
		}
		if httpMethod == "PATCH" {
			httpMethod = "PUT" // what clients of this document send
		}
		params := object{}
		for _, param := range slices.Concat(usualParams[pattern], act.params) {
			p := parameters[param]
			described := object{"type": p.typ, "location": "query", "required": false, "description": p.doc}
			if p.absent != "" {
				described["default"] = p.absent
			}
			params[param] = described
		}
		method := object{
			"id": "arvados." + res.name + "." + name, "path": res.name + rest, "httpMethod": httpMethod, "description": act.doc,
			"parameters": params, "response": object{"$ref": res.kind.class + map[bool]string{true: "List"}[name == "list" || name == "accessible" || name == "contents"]},
			"scopes": []string{"https://api.arvados.org/auth/arvados"},
		}
		if strings.Contains(rest, "{uuid}") {
			params["uuid"] = object{"type": "string", "location": "path", "required": true, "description": "UUID of the " + res.kind.singular + "."}
			method["parameterOrder"] = []string{"uuid"}
		}
		if name == "create" || name == "update" {
			method["request"] = object{"required": true, "properties": object{res.kind.singular: object{"$ref": res.kind.class}}}
		}
		methods[name] = method
	}
	return methods
}

// schema describes records of a kind, and lists of them.
func (k *kind) schema() (record, list object) {
	properties := object{"etag": object{"type": "string", "description": "Changes whenever the record does."}}
	for _, a := range k.attrs {
		if !a.secret {
			properties[a.name] = object{"type": string(a.typ), "description": a.doc}
		}
	}
	id := k.class
	record = object{"id": id, "type": "object", "description": "A " + k.singular + ".", "uuidPrefix": k.infix, "properties": properties}
	list = object{"id": id + "List", "type": "object", "description": "A list of " + k.plural + ".", "properties": object{
		"kind":  object{"type": "string", "default": k.arvadosKind() + "List", "description": "Kind of the reply."},
		"etag":  object{"type": "string", "description": "Kept empty."},
		"items": object{"type": "array", "description": "The records.", "items": object{"$ref": id}},
	}}
	return record, list
}
