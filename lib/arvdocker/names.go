// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"net/http"
	"slices"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// Keys of the properties of image collections that this package writes or asks
// for by itself; doc/image-collection.md has all of them.
const (
	keyMarker  = "arv:docker-image"
	keyRepoTag = "docker-image-repo-tag"
	keyDigest  = "arv:docker-image-digest"
	keyTagged  = "arv:docker-image-tagged"
	keyTwin    = "arv:" + keyRepoTag // where the vocabulary refuses the plain one
)

// maxOwn is how many collections with one content are looked at: more of them
// help only where some are damaged.
const maxOwn = 10

// findOwn finds an unchanged image collection of the owner with a property, the
// newest, or nil. It is one request.
func (s *session) findOwn(ctx context.Context, owner, key, value string) (*arvados.Collection, error) {
	return s.findImage(ctx,
		arvados.Filter{Attr: "owner_uuid", Operator: "=", Operand: owner},
		arvados.Filter{Attr: "properties." + key, Operator: "contains", Operand: value})
}

// findImage finds the newest collection that the filters let through and that
// can pass as an image, or nil.
func (s *session) findImage(ctx context.Context, filters ...arvados.Filter) (*arvados.Collection, error) {
	limit := maxOwn
	var list arvados.CollectionList
	err := s.call(ctx, &list, http.MethodGet, "collections", arvados.ResourceListParams{
		Filters: filters,
		Select:  []string{"uuid", "owner_uuid", "name", "portable_data_hash", "created_at", "manifest_text", "properties"},
		Order:   "created_at desc",
		Limit:   &limit,
		Count:   "none",
	})
	if err != nil {
		return nil, err
	}
	for _, coll := range list.Items {
		found := dockerimage.Found{
			UUID: coll.UUID, PDH: coll.PortableDataHash, ManifestText: coll.ManifestText,
			Properties: dockerimage.ParseProperties(coll.Properties),
		}
		if found.Check() == nil {
			return &coll, nil
		}
	}
	return nil, nil
}

// collection is one collection.
func (s *session) collection(ctx context.Context, uuid string) (*arvados.Collection, error) {
	coll := &arvados.Collection{}
	return coll, s.call(ctx, coll, http.MethodGet, "collections/"+uuid, nil)
}

// addNames gives an image collection names, besides those it has, and their
// links. It does nothing if it has them all.
func (s *session) addNames(ctx context.Context, coll *arvados.Collection, names []string, links string) error {
	has := dockerimage.ParseProperties(coll.Properties).RepoTags
	all := slices.Clone(has)
	for _, name := range names {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	if len(all) == len(has) {
		return nil
	}
	key := keyRepoTag
	if coll.Properties[keyRepoTag] == nil && coll.Properties[keyTwin] != nil {
		key = keyTwin
	}
	properties := attrs{}
	for name, value := range coll.Properties {
		properties[name] = value
	}
	if properties[key] = all; len(all) == 1 {
		properties[key] = all[0]
	}
	properties[keyTagged] = time.Now().UTC().Format(time.RFC3339Nano)
	err := s.call(ctx, coll, http.MethodPut, "collections/"+coll.UUID, attrs{"collection": attrs{"properties": properties}})
	if err != nil {
		return err
	}
	return s.writeLinks(ctx, *coll, links)
}
