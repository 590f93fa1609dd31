// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// WriteLinks makes the links of an image collection that are not there yet: those
// that its properties tell of, and one for each other name in also. They belong to
// whoever the collection belongs to.
func WriteLinks(ctx context.Context, api API, coll arvados.Collection, also ...string) error {
	props := ParseProperties(coll.Properties)
	props.RepoTags = union(props.RepoTags, also)
	var there arvados.LinkList
	limit := linkPage
	err := api.RequestAndDecodeContext(ctx, &there, http.MethodGet, "arvados/v1/links", nil, arvados.ResourceListParams{
		Filters: []arvados.Filter{
			{Attr: "head_uuid", Operator: "=", Operand: coll.UUID},
			{Attr: "owner_uuid", Operator: "=", Operand: coll.OwnerUUID},
			{Attr: "link_class", Operator: "in", Operand: []string{LinkHash, LinkName}},
		},
		Select: []string{"link_class", "name", "owner_uuid"},
		Limit:  &limit,
		Count:  "none",
	})
	if err != nil {
		return apiFault("find links of collection", coll.UUID, err)
	}
	for _, link := range MissingLinks(props, coll.OwnerUUID, there.Items) {
		if _, err := MakeLink(ctx, api, coll, link); err != nil {
			return fmt.Errorf("image %s is in collection %s, but its link %q cannot be written: %w",
				coll.PortableDataHash, coll.UUID, link.Name, apiFault("write link", "", err))
		}
	}
	return nil
}

// MissingLinks are the links that properties imply and that are not among those
// there are. Links of others than the owner do not count: who can read the
// collection may not be able to read them.
func MissingLinks(props Properties, owner string, there []arvados.Link) []arvados.Link {
	return slices.DeleteFunc(props.Links(), func(link arvados.Link) bool {
		return slices.ContainsFunc(there, func(old arvados.Link) bool {
			return old.LinkClass == link.LinkClass && old.Name == link.Name && old.OwnerUUID == owner
		})
	})
}

// MakeLink makes a link to a collection, which belongs to the collection's owner.
func MakeLink(ctx context.Context, api API, coll arvados.Collection, link arvados.Link) (made arvados.Link, err error) {
	err = api.RequestAndDecodeContext(ctx, &made, http.MethodPost, "arvados/v1/links", nil, map[string]interface{}{
		"link": map[string]interface{}{
			"owner_uuid": coll.OwnerUUID,
			"link_class": link.LinkClass,
			"name":       link.Name,
			"head_uuid":  coll.UUID,
			"properties": link.Properties,
		},
	})
	return made, err
}

// WithNames are the raw properties of an image collection with names added as of
// the given time, and whether that changes anything. All else stays as it is.
func WithNames(raw map[string]interface{}, names []string, tagged time.Time) (map[string]interface{}, bool) {
	has := ParseProperties(raw).RepoTags
	all := union(has, names)
	if len(all) == len(has) {
		return raw, false
	}
	named := maps.Clone(raw)
	if named == nil {
		named = map[string]interface{}{}
	}
	written := Properties{RepoTags: all, Tagged: tagged}.Map()
	named[KeyRepoTag], named[KeyTagged] = written[KeyRepoTag], written[KeyTagged]
	return named, true
}

// union is a with what b has besides, in a slice of its own.
func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}
