// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// contentKinds are the kinds of a project's contents, in the order in which
// they are listed, as in Arvados.
var contentKinds = []string{groups, containerRequests, workflows, collections}

// contents is one page of what lies in a project or in a user's home; without
// a UUID, of all that the caller can read. Kinds follow one another, each in
// the order that was asked for, and offset and limit count over all of them.
//
// Filters on an attribute "KIND.NAME" are for that kind alone. Filters and
// orders on one that a kind does not have: the kind is passed over, or sorted
// by the rest.
func (s *Server) contents(tx *Tx, c *Call) (any, error) {
	filters, err := parseFilters(c.Params["filters"])
	if err != nil {
		return nil, err
	}
	result := &contentsPage{included: map[string][]Record{}}
	if result.limit, err = c.Params.Int("limit", defaultLimit); err != nil {
		return nil, err
	}
	if result.offset, err = c.Params.Int("offset", 0); err != nil {
		return nil, err
	}
	result.limit = min(result.limit, maxLimit)
	owners, err := tx.contentOwners(c)
	if err != nil {
		return nil, err
	}
	if owners != nil {
		filters = append(filters, Where("owner_uuid", "in", owners))
	}
	total := 0
	for _, name := range contentKinds {
		q := Query{Reader: c.Caller, IncludeTrash: c.Params.Bool("include_trash")}
		var ok bool
		if q.Filters, ok = filtersFor(kinds[name], filters); !ok {
			continue
		}
		n, err := tx.Count(name, q)
		if err != nil {
			return nil, err
		}
		// What of this kind is on the page, after those before it.
		q.Order = parseOrder(kinds[name], c.Params, nil)
		q.Offset = max(0, result.offset-total)
		q.Limit = result.limit - len(result.items)
		total += n
		if q.Limit == 0 || q.Offset >= n {
			continue
		}
		found, err := tx.List(name, q)
		if err != nil {
			return nil, err
		}
		for _, rec := range found {
			result.items = append(result.items, contentItem{of: s.resources[name], rec: rec})
		}
	}
	if c.Params.String("count") != "none" {
		result.available = &total
	}
	if err := tx.include(c, result); err != nil {
		return nil, err
	}
	return s.showContents(tx, c, result)
}

// contentOwners are the UUIDs whose belongings are asked for, nil for all.
func (tx *Tx) contentOwners(c *Call) ([]any, error) {
	if c.UUID == "" {
		c.UUID = c.Params.String("uuid")
	}
	if c.UUID == "" {
		return nil, nil
	}
	k := kindOf(c.UUID)
	if k == nil || k.plural != users && k.plural != groups {
		return nil, errNotFound
	}
	if _, err := get(tx, c, k); err != nil {
		return nil, err
	}
	owners := []any{c.UUID}
	if !c.Params.Bool("recursive") {
		return owners, nil
	}
	below, err := tx.pairs(`WITH RECURSIVE below (uuid) AS (SELECT ?
		UNION SELECT g.uuid FROM groups g JOIN below ON g.owner_uuid = below.uuid) SELECT uuid, '' FROM below`, c.UUID)
	for _, pair := range below {
		owners = append(owners, pair[0])
	}
	return owners, err
}

// filtersFor are the filters as they are for a kind. It is not ok if no record
// of that kind can pass them.
func filtersFor(k *kind, filters []Filter) ([]Filter, bool) {
	var own []Filter
	for _, f := range filters {
		f.Attrs = slices.Clone(f.Attrs)
		others := false
		for i, attr := range f.Attrs {
			prefix, name, prefixed := strings.Cut(attr, ".")
			if prefixed && kinds[prefix] != nil {
				others = others || prefix != k.plural
				f.Attrs[i] = name
			}
		}
		switch {
		case others:
			continue
		case f.Op != "is_a" && !slices.ContainsFunc(f.Attrs, func(attr string) bool {
			name, _, _ := strings.Cut(attr, ".")
			return name == "any" || name == "uuid" || k.attr(name) != nil
		}):
			return nil, false
		}
		own = append(own, f)
	}
	// The rest of these are roles, which lie nowhere.
	if k.plural == groups {
		own = append(own, Where("group_class", "in", []any{"project", "filter"}))
	}
	return own, true
}

// contentsPage is a page of records of several kinds.
type contentsPage struct {
	items         []contentItem
	included      map[string][]Record // by kind
	available     *int
	limit, offset int
}

type contentItem struct {
	of  *resource
	rec Record
}

// include reads the records to which those of the page refer, by the
// attributes that "include" names.
func (tx *Tx) include(c *Call, p *contentsPage) error {
	wanted := c.Params.Strings("include")
	seen := map[any]bool{}
	for _, attr := range wanted {
		if attr != "owner_uuid" && attr != "container_uuid" {
			return refuse(http.StatusUnprocessableEntity, fmt.Sprintf("Invalid include parameter: %q", attr))
		}
		for _, item := range p.items {
			uuid, _ := item.rec[attr].(string)
			k := kindOf(uuid)
			if k == nil || seen[uuid] {
				continue
			}
			seen[uuid] = true
			found, err := tx.List(k.plural, Query{Filters: []Filter{Where("uuid", "=", uuid)}, Reader: c.Caller})
			if err != nil {
				return err
			}
			p.included[k.plural] = append(p.included[k.plural], found...)
		}
	}
	return nil
}

// showContents shows each record as the resource does that it belongs to.
func (s *Server) showContents(tx *Tx, c *Call, p *contentsPage) (any, error) {
	show := func(res *resource, rec Record) (any, error) {
		of := *c
		of.resource = res
		return of.showRecord(tx, rec, true)
	}
	items, included := []any{}, []any{}
	for _, item := range p.items {
		shown, err := show(item.of, item.rec)
		if err != nil {
			return nil, err
		}
		items = append(items, shown)
	}
	for _, name := range []string{users, groups, containers} {
		for _, rec := range p.included[name] {
			shown, err := show(s.resources[name], rec)
			if err != nil {
				return nil, err
			}
			included = append(included, shown)
		}
	}
	body := map[string]any{"kind": "arvados#objectList", "etag": "", "self_link": "", "items": items, "limit": p.limit, "offset": p.offset}
	if len(c.Params["include"]) > 0 {
		body["included"] = included
	}
	if p.available != nil {
		body["items_available"] = *p.available
	}
	return verbatim(body), nil
}
