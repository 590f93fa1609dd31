// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepdocker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

const (
	// rowFormat is the Python tool's, which scripts take apart.
	rowFormat = "%-30s  %-10s  %-12s  %-29s  %-20s\n"
	// timeFormat is what %c means in the C locale.
	timeFormat = "Mon Jan _2 15:04:05 2006"

	linkHash = dockerimage.LinkHash
	linkName = dockerimage.LinkName
)

// row is a line of the list.
type row struct {
	repo, tag, hash, collection string
	preference
}

// preference decides about the order, newest first: what is said of an image's
// time, and if nothing is, or the same, when that was said.
type preference struct {
	made  time.Time // zero if it is not said
	since time.Time
}

func preferred(a, b preference) int {
	return cmp.Or(b.made.Compare(a.made), b.since.Compare(a.since))
}

func (p preference) shown() string {
	if p.made.IsZero() {
		return p.since.UTC().Format(timeFormat)
	}
	return p.made.Format(timeFormat)
}

// list prints all images that the user can read, a line for each name. Nobody has
// to read all of it.
func (s *session) list(ctx context.Context) error {
	rows, err := s.rows(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Stdout, rowFormat, "REPOSITORY", "TAG", "IMAGE ID", "COLLECTION", "CREATED")
	for _, r := range rows {
		if err == nil {
			_, err = fmt.Fprintf(s.Stdout, rowFormat, r.repo, r.tag, r.hash[:min(12, len(r.hash))], r.collection, r.shown())
		}
	}
	if errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}

// rows are what links and properties tell. Where both do, the links' times count,
// so that the order is the Python tool's.
func (s *session) rows(ctx context.Context) ([]row, error) {
	names, err := s.links(ctx, linkName)
	if err != nil {
		return nil, err
	}
	hashes, err := s.links(ctx, linkHash)
	if err != nil {
		return nil, err
	}
	readable, err := s.described(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.addReadable(ctx, readable, append(slices.Clone(names), hashes...)); err != nil {
		return nil, err
	}
	t := table{hashes: map[string]arvados.Link{}, seen: map[string]map[string]bool{}}
	for _, link := range hashes {
		if _, ok := t.hashes[link.HeadUUID]; !ok {
			t.hashes[link.HeadUUID] = link
		}
	}
	for _, link := range names {
		if coll, ok := readable[link.HeadUUID]; ok {
			t.add(coll, link.Name, preferenceOf(link))
		}
	}
	for _, coll := range sorted(readable) {
		props := dockerimage.ParseProperties(coll.Properties)
		said := preference{made: props.Timestamp, since: coll.CreatedAt}
		for _, name := range props.RepoTags {
			t.add(coll, name, said)
		}
		if len(t.seen[coll.UUID]) == 0 {
			if link, ok := t.hashes[coll.UUID]; ok {
				said = preferenceOf(link)
			}
			t.add(coll, none+":"+none, said)
		}
	}
	slices.SortStableFunc(t.rows, func(a, b row) int { return preferred(a.preference, b.preference) })
	return t.rows, nil
}

// none and unknown stand for what is not there.
const (
	none    = "<none>"
	unknown = "<unknown>"
)

// table is the list in the making.
type table struct {
	hashes map[string]arvados.Link    // the preferred one of each collection
	seen   map[string]map[string]bool // names of each collection
	rows   []row
}

// add adds a row, unless the collection has one of this name.
func (t *table) add(coll arvados.Collection, name string, p preference) {
	if t.seen[coll.UUID] == nil {
		t.seen[coll.UUID] = map[string]bool{}
	}
	if t.seen[coll.UUID][name] {
		return
	}
	t.seen[coll.UUID][name] = true
	r := row{repo: name, tag: none, hash: unknown, collection: coll.UUID, preference: p}
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		r.repo, r.tag = name[:i], name[i+1:]
	}
	if link, ok := t.hashes[coll.UUID]; ok {
		r.hash = link.Name
	} else if hash := dockerimage.ParseProperties(coll.Properties).Hash; hash != "" {
		r.hash = hash
	}
	t.rows = append(t.rows, r)
}

// links are all links of a class that the user can read, preferred ones first.
func (s *session) links(ctx context.Context, class string) ([]arvados.Link, error) {
	links, err := every(ctx, s, "links", []arvados.Filter{{Attr: "link_class", Operator: "=", Operand: class}},
		[]string{"uuid", "name", "head_uuid", "created_at", "properties"},
		func(l arvados.Link) (string, time.Time) { return l.UUID, l.CreatedAt })
	slices.SortStableFunc(links, func(a, b arvados.Link) int { return preferred(preferenceOf(a), preferenceOf(b)) })
	return links, err
}

func preferenceOf(link arvados.Link) preference {
	said, _ := link.Properties[dockerimage.LinkTime].(string)
	return preference{made: naiveTime(said), since: link.CreatedAt}
}

// naiveTime reads a time as the Python tool does: as if every clock of the world
// showed the same. It is zero if it is none.
func naiveTime(text string) time.Time {
	text, _, _ = strings.Cut(strings.TrimSuffix(text, "Z"), "+")
	if i := strings.LastIndexByte(text, '-'); i > len("2006-01-02") {
		text = text[:i]
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.Truncate(time.Microsecond)
		}
	}
	return time.Time{}
}

// collectionAttrs are what the list needs of a collection.
var collectionAttrs = []string{"uuid", "created_at", "properties"}

func place(coll arvados.Collection) (string, time.Time) { return coll.UUID, coll.CreatedAt }

// described are the collections that say themselves that they are images.
func (s *session) described(ctx context.Context) (map[string]arvados.Collection, error) {
	found := map[string]arvados.Collection{}
	for _, key := range []string{dockerimage.KeyMarker, dockerimage.KeyRepoTag} {
		colls, err := every(ctx, s, "collections", []arvados.Filter{{Attr: "properties." + key, Operator: "exists", Operand: true}}, collectionAttrs, place)
		if err != nil {
			return nil, err
		}
		for _, coll := range colls {
			found[coll.UUID] = coll
		}
	}
	return found, nil
}

// maxUUIDs is how many records are asked for by UUID in one request.
const maxUUIDs = 500

// addReadable adds the collections that links point to and the user can read.
func (s *session) addReadable(ctx context.Context, readable map[string]arvados.Collection, links []arvados.Link) error {
	asked := map[string]bool{}
	var uuids []string
	for _, link := range links {
		if _, known := readable[link.HeadUUID]; !known && !asked[link.HeadUUID] {
			asked[link.HeadUUID] = true
			uuids = append(uuids, link.HeadUUID)
		}
	}
	for chunk := range slices.Chunk(uuids, maxUUIDs) {
		colls, err := every(ctx, s, "collections", []arvados.Filter{{Attr: "uuid", Operator: "in", Operand: chunk}}, collectionAttrs, place)
		if err != nil {
			return err
		}
		for _, coll := range colls {
			readable[coll.UUID] = coll
		}
	}
	return nil
}

func sorted(colls map[string]arvados.Collection) []arvados.Collection {
	all := make([]arvados.Collection, 0, len(colls))
	for _, coll := range colls {
		all = append(all, coll)
	}
	slices.SortFunc(all, func(a, b arvados.Collection) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.UUID, b.UUID))
	})
	return all
}

// pageSize is how many records API servers give at a time.
const pageSize = 1000

// every asks for all records that the filters let through, oldest first. Each page
// begins with the time at which the one before has ended, so that none is missed
// if others come or go meanwhile.
func every[T any](ctx context.Context, s *session, path string, filters []arvados.Filter, attributes []string, place func(T) (uuid string, created time.Time)) ([]T, error) {
	var all []T
	var last time.Time
	var atLast []string // UUIDs of what is known of that time
	for {
		limit := pageSize
		from := slices.Clone(filters)
		if len(all) > 0 {
			from = append(from,
				arvados.Filter{Attr: "created_at", Operator: ">=", Operand: last},
				arvados.Filter{Attr: "uuid", Operator: "not in", Operand: atLast})
		}
		var list struct {
			Items []T `json:"items"`
			Limit int `json:"limit"`
		}
		err := s.call(ctx, &list, http.MethodGet, path, arvados.ResourceListParams{
			Filters: from, Select: attributes, Order: "created_at,uuid", Limit: &limit, Count: "none",
		})
		if err != nil {
			return nil, err
		}
		for _, item := range list.Items {
			uuid, created := place(item)
			if !created.Equal(last) {
				last, atLast = created, nil
			}
			atLast = append(atLast, uuid)
		}
		all = append(all, list.Items...)
		if list.Limit > 0 {
			limit = min(limit, list.Limit)
		}
		if len(list.Items) < limit || len(list.Items) == 0 {
			return all, nil
		}
	}
}
