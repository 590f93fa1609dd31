// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"maps"
	"net/http"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// Keys of the properties of image collections that this package writes or asks
// for by itself; doc/image-collection.md has all of them.
const (
	keyMarker   = dockerimage.KeyMarker
	keyRepoTag  = dockerimage.KeyRepoTag
	keyHash     = dockerimage.KeyHash
	keyDigest   = dockerimage.KeyDigest
	keyPlatform = dockerimage.KeyPlatform
	// keyLinks says that the links of all names are there, or not needed.
	keyLinks = "arv:docker-image-links"
)

// maxOwn is how many collections with one content are looked at: more of them
// help only where some are damaged.
const maxOwn = 10

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
		if dockerimage.FoundIn(coll).Check() == nil {
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
// links. It asks for nothing if that has been done.
func (s *session) addNames(ctx context.Context, coll *arvados.Collection, names []string, links string) error {
	properties, changed := dockerimage.WithNames(coll.Properties, names, time.Now())
	if !changed && links == linksAuto && coll.Properties[keyLinks] != nil {
		return nil
	}
	needed := s.needsLinks(ctx, links)
	if changed {
		if needed || links == linksNever {
			delete(properties, keyLinks) // of the new names it would not be true
		}
		named, err := s.writeImage(ctx, http.MethodPut, "collections/"+coll.UUID, attrs{"properties": properties})
		if err != nil {
			return err
		}
		*coll = *named
	}
	if !needed {
		return nil
	}
	err := s.writeLinks(ctx, *coll, linksAlways)
	switch {
	case err == nil:
		s.rememberLinks(ctx, coll.UUID, coll.Properties)
	case changed:
		return err
	default: // somebody else's, most likely: it can be used all the same
		s.say("%v", err)
	}
	return nil
}

// writeImage makes or changes an image collection, by the properties that the API
// server's vocabulary lets pass.
func (s *session) writeImage(ctx context.Context, method, path string, fields attrs) (*arvados.Collection, error) {
	params := attrs{"collection": fields}
	if method == http.MethodPost {
		params["ensure_unique_name"] = true
	}
	coll := &arvados.Collection{}
	err := s.call(ctx, coll, method, path, params)
	if twins, ok := dockerimage.WithTwins(fields["properties"].(attrs), err); ok {
		fields["properties"] = twins
		err = s.call(ctx, coll, method, path, params)
	}
	return coll, err
}

// rememberLinks notes in a collection that its links are there, so that nobody
// has to look for them again. Who may not write to it will have to.
func (s *session) rememberLinks(ctx context.Context, uuid string, properties attrs) {
	if properties[keyLinks] != nil {
		return
	}
	properties = maps.Clone(properties)
	properties[keyLinks] = "1"
	_ = s.call(ctx, nil, http.MethodPut, "collections/"+uuid, attrs{"collection": attrs{"properties": properties}})
}
