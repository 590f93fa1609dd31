// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"cmp"
	"context"
	"iter"
	"net/http"
	"slices"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// How many records are asked for at a time: few at first, so that the first line
// comes at once, then twice as many with each page, up to what API servers give;
// of links up to fewer, since the images that they name are asked for, too.
const (
	firstPage = 50
	pageSize  = 1000
	linkPage  = 200
)

// Classes of links that say that a collection is an image, and the property of
// theirs that tells when it was made.
const (
	linkHash = dockerimage.LinkHash
	linkName = dockerimage.LinkName
	linkTime = dockerimage.LinkTime
)

// listedImage is an image in the list.
type listedImage struct {
	arvados.Collection
	at    time.Time // when it was stored, or named by a link: its place in the list
	names []string
	hash  string
	made  time.Time
	size  int64
}

// list merges the images that properties and links tell of into one list without
// duplicates.
func (s *session) list(ctx context.Context, want wanted) iter.Seq2[listedImage, error] {
	return func(yield func(listedImage, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var pulls []func() (listedImage, error, bool)
		for _, images := range []iter.Seq2[listedImage, error]{
			s.byProperty(ctx, want, arvados.Filter{Attr: "properties." + keyMarker, Operator: "exists", Operand: true}),
			// Of other programs.
			s.byProperty(ctx, want, arvados.Filter{Attr: "properties." + keyRepoTag, Operator: "exists", Operand: true},
				arvados.Filter{Attr: "properties." + keyMarker, Operator: "exists", Operand: false}),
			s.byLinks(ctx, want),
		} {
			next, stop := ahead(images)
			defer stop()
			pulls = append(pulls, next)
		}
		defer cancel() // before they stop, which would wait for answers
		heads := make([]listedImage, len(pulls))
		next := func(i int) error {
			image, err, ok := pulls[i]()
			if !ok {
				pulls[i] = nil
			}
			heads[i] = image
			return err
		}
		for i := range pulls {
			if err := next(i); err != nil {
				yield(listedImage{}, err)
				return
			}
		}
		seen := map[string]bool{}
		for {
			best := -1
			for i := range pulls {
				if pulls[i] != nil && (best < 0 || heads[i].at.After(heads[best].at)) {
					best = i
				}
			}
			if best < 0 {
				return
			}
			image := heads[best]
			if !seen[image.UUID] {
				seen[image.UUID] = true
				if !yield(image, nil) {
					return
				}
			}
			if err := next(best); err != nil {
				yield(listedImage{}, err)
				return
			}
		}
	}
}

// collectionAttrs are what the list needs of a collection; not the manifest,
// which is large.
var collectionAttrs = []string{"uuid", "owner_uuid", "portable_data_hash", "created_at", "file_size_total", "properties"}

// ahead is iter.Pull2 of what is collected meanwhile: all lists are asked for at
// the same time, and the next page while one is printed.
func ahead(images iter.Seq2[listedImage, error]) (next func() (listedImage, error, bool), stop func()) {
	type item struct {
		image listedImage
		err   error
	}
	items, done, ended := make(chan item), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer close(items)
		for image, err := range images {
			select {
			case items <- item{image, err}:
			case <-done:
				return
			}
		}
	}()
	next = func() (listedImage, error, bool) {
		got, ok := <-items
		return got.image, got.err, ok
	}
	return next, func() { close(done); <-ended }
}

// byProperty are the collections that the filters for properties let through.
func (s *session) byProperty(ctx context.Context, want wanted, filters ...arvados.Filter) iter.Seq2[listedImage, error] {
	if want.repoTag != "" {
		filters = append(filters, arvados.Filter{Attr: "properties." + keyRepoTag, Operator: "contains", Operand: want.repoTag})
	}
	return func(yield func(listedImage, error) bool) {
		pages(ctx, pageSize, func(limit *int, offset int) (n, most int, goOn bool) {
			var list arvados.CollectionList
			err := s.call(ctx, &list, http.MethodGet, "collections", arvados.ResourceListParams{
				Filters: filters, Select: collectionAttrs, Order: "created_at desc", Limit: limit, Offset: offset, Count: "none",
			})
			if err != nil {
				yield(listedImage{}, err)
				return 0, 0, false
			}
			for _, coll := range list.Items {
				if !yield(describe(coll), nil) {
					return 0, 0, false
				}
			}
			return len(list.Items), list.Limit, true
		})
	}
}

// byLinks are the collections that links call images.
func (s *session) byLinks(ctx context.Context, want wanted) iter.Seq2[listedImage, error] {
	filters := []arvados.Filter{{Attr: "link_class", Operator: "in", Operand: []string{linkHash, linkName}}}
	if want.repoTag != "" {
		filters = []arvados.Filter{
			{Attr: "link_class", Operator: "=", Operand: linkName},
			{Attr: "name", Operator: "=", Operand: want.repoTag},
		}
	}
	return func(yield func(listedImage, error) bool) {
		seen := map[string]bool{}
		pages(ctx, linkPage, func(limit *int, offset int) (n, most int, goOn bool) {
			var list arvados.LinkList
			err := s.call(ctx, &list, http.MethodGet, "links", arvados.ResourceListParams{
				Filters: filters,
				Select:  []string{"link_class", "name", "head_uuid", "created_at", "properties"},
				Order:   "created_at desc", Limit: limit, Offset: offset, Count: "none",
			})
			var found []listedImage
			if err == nil {
				found, err = s.heads(ctx, list.Items, seen)
			}
			if err != nil {
				yield(listedImage{}, err)
				return 0, 0, false
			}
			for _, image := range found {
				if !yield(image, nil) {
					return 0, 0, false
				}
			}
			return len(list.Items), list.Limit, true
		})
	}
}

// pages calls read with one offset after the other until it has read all, the
// largest number of records at a time in the end.
func pages(ctx context.Context, largest int, read func(limit *int, offset int) (n, most int, goOn bool)) {
	for offset, limit := 0, firstPage; ctx.Err() == nil; limit = min(2*limit, largest) {
		n, most, goOn := read(&limit, offset)
		if most > 0 && most < limit { // the server gives no more at a time
			limit = most
		}
		if offset += n; !goOn || n < limit {
			return
		}
	}
}

// heads are the collections that links point to and that were not seen before,
// in the order of the links, with what links tell of them.
func (s *session) heads(ctx context.Context, links []arvados.Link, seen map[string]bool) ([]listedImage, error) {
	var uuids []string
	for _, link := range links {
		// Heads given by portable data hash never counted.
		if strings.Contains(link.HeadUUID, "-4zz18-") && !seen[link.HeadUUID] {
			seen[link.HeadUUID] = true
			uuids = append(uuids, link.HeadUUID)
		}
	}
	if len(uuids) == 0 {
		return nil, nil
	}
	// The names of an image may be on several pages.
	var colls arvados.CollectionList
	var all arvados.LinkList
	limit := 1000
	err := s.call(ctx, &colls, http.MethodGet, "collections", arvados.ResourceListParams{
		Filters: []arvados.Filter{{Attr: "uuid", Operator: "in", Operand: uuids}}, Select: collectionAttrs, Limit: &limit, Count: "none",
	})
	if err == nil {
		err = s.call(ctx, &all, http.MethodGet, "links", arvados.ResourceListParams{
			Filters: []arvados.Filter{
				{Attr: "link_class", Operator: "in", Operand: []string{linkHash, linkName}},
				{Attr: "head_uuid", Operator: "in", Operand: uuids},
			},
			Select: []string{"link_class", "name", "head_uuid", "created_at", "properties"},
			Order:  "created_at desc", Limit: &limit, Count: "none",
		})
	}
	if err != nil {
		return nil, err
	}
	var found []listedImage
	for _, coll := range colls.Items {
		image := describe(coll)
		for _, link := range append(all.Items, links...) {
			if link.HeadUUID == coll.UUID {
				image.add(link)
			}
		}
		found = append(found, image)
	}
	slices.SortFunc(found, func(a, b listedImage) int { return cmp.Or(b.at.Compare(a.at), cmp.Compare(b.UUID, a.UUID)) })
	return found, nil
}

// describe is what a collection itself tells.
func describe(coll arvados.Collection) listedImage {
	props := dockerimage.ParseProperties(coll.Properties)
	image := listedImage{
		Collection: coll, at: coll.CreatedAt,
		names: props.RepoTags, hash: props.Hash, made: props.Timestamp, size: props.Size,
	}
	if image.made.IsZero() {
		image.made = coll.CreatedAt
	}
	if image.size == 0 {
		image.size = coll.FileSizeTotal
	}
	return image
}

// add is what a link tells besides.
func (i *listedImage) add(link arvados.Link) {
	if link.CreatedAt.After(i.at) {
		i.at = link.CreatedAt
	}
	switch {
	case link.LinkClass == linkHash && i.hash == "":
		i.hash = link.Name
	case link.LinkClass == linkName && !slices.Contains(i.names, link.Name):
		i.names = append(i.names, link.Name)
	}
	if said, ok := link.Properties[linkTime].(string); ok && i.made.Equal(i.CreatedAt) {
		if t, err := time.Parse(time.RFC3339Nano, said); err == nil {
			i.made = t
		}
	}
}
