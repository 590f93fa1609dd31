// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

const (
	// pageSize is how many collections are asked for at a time: enough for
	// nearly every name, and some 300 kB with their manifests.
	pageSize = 100
	// linkPage is likewise, of links, which are small: the most that API
	// servers give.
	linkPage = 1000
	// noYear and those before are what builders write that want every build
	// to be the same, or that do not know the time (Unix' and FAT's epochs).
	noYear = 1980
)

// made is when the image was made. It decides which of several images a name
// means, so it is not later than the collection, whose time the API server has
// set, and legacy images and those that hide their time count by that.
func (f Found) made() time.Time {
	if t := f.Properties.Timestamp; t.Year() > noYear && t.Before(f.CreatedAt) {
		return t
	}
	return f.CreatedAt
}

// newestFirst is a total order: equal answers for equal data.
func newestFirst(a, b Found) int {
	return cmp.Or(b.made().Compare(a.made()), b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.UUID, a.UUID))
}

// search is one lookup under way: the images found so far.
type search struct {
	lookup
	api    API
	name   string
	policy Policy

	heads    []head
	found    []Found
	seen     map[string]bool  // UUIDs
	refusals map[string]error // by UUID; nil for an image in order
}

// head is a collection that links give the name to.
type head struct {
	uuid   string
	said   time.Time // when the image was made, by its links; zero if they do not tell
	before time.Time // the collection has been made before
}

// run collects images until none that is left can be the newest.
func (s *search) run(ctx context.Context) error {
	if s.policy.Links && s.links != nil {
		if err := s.readLinks(ctx); err != nil {
			return err
		}
	}
	for _, filter := range s.collections {
		filters := s.policy.byOwner(filter)
		for offset, more := 0, true; more; more = offset > 0 {
			var err error
			if offset, err = s.read(ctx, filters, offset); err != nil {
				return err
			}
		}
	}
	rest := slices.DeleteFunc(s.heads, func(h head) bool { return s.seen[h.uuid] })
	for len(rest) > 0 && !s.decided(rest[0].before) {
		uuids := []string{}
		for _, h := range rest[:min(pageSize, len(rest))] {
			uuids = append(uuids, h.uuid)
		}
		rest = rest[len(uuids):]
		if _, err := s.read(ctx, s.policy.byOwner(arvados.Filter{Attr: "uuid", Operator: "in", Operand: uuids}), 0); err != nil {
			return err
		}
	}
	return nil
}

// read adds the page of collections at offset. It returns the offset of the
// next one, 0 if nothing that comes matters.
func (s *search) read(ctx context.Context, filters []arvados.Filter, offset int) (int, error) {
	limit := pageSize
	found, more, err := page(ctx, s.api, s.name, arvados.ResourceListParams{Filters: filters, Limit: &limit, Offset: offset})
	if err != nil {
		return 0, err
	}
	for _, f := range found {
		if s.seen[f.UUID] {
			continue
		}
		s.seen[f.UUID] = true
		if s.is != nil && !s.is(f) {
			continue
		}
		if f.Properties.Timestamp.IsZero() {
			// arv-keepdocker writes it into links only.
			for _, h := range s.heads {
				if h.uuid == f.UUID {
					f.Properties.Timestamp = h.said
				}
			}
		}
		s.found = append(s.found, f)
	}
	if !more || s.decided(found[len(found)-1].CreatedAt) {
		return 0, nil
	}
	return offset + len(found), nil
}

// decided reports whether no collection made at or before the given time can be
// the one any more.
func (s *search) decided(before time.Time) bool {
	best, _ := s.winner()
	return best != nil && best.made().After(before)
}

// winner is the newest image in order, nil if there is none, and what had to be
// passed over to come to it.
func (s *search) winner() (*Found, []PassedOver) {
	slices.SortFunc(s.found, newestFirst)
	var passedOver []PassedOver
	for i, f := range s.found {
		reason, known := s.refusals[f.UUID]
		if !known {
			reason = s.check(f)
			s.refusals[f.UUID] = reason
		}
		if reason == nil {
			return &s.found[i], passedOver
		}
		passedOver = append(passedOver, PassedOver{Found: f, Reason: reason})
	}
	return nil, passedOver
}

// readLinks fills in heads, those first that may be the newest. Who makes a
// link decides what a name means, so it takes as much trust as a collection.
func (s *search) readLinks(ctx context.Context) error {
	known := map[string]int{}
	limit := linkPage
	for offset, more := 0, true; more; {
		var answer arvados.LinkList
		err := s.api.RequestAndDecodeContext(ctx, &answer, http.MethodGet, "arvados/v1/links", nil, arvados.ResourceListParams{
			Filters: s.policy.byOwner(slices.Clone(s.links)...),
			Select:  []string{"head_uuid", "created_at", "properties"},
			Order:   "created_at desc",
			Limit:   &limit,
			Offset:  offset,
			Count:   "none",
		})
		if err != nil {
			return apiFault("find links of image", s.name, err)
		}
		for _, link := range answer.Items {
			if !strings.Contains(link.HeadUUID, "-4zz18-") {
				continue // portable data hashes have no owner to trust
			}
			i, ok := known[link.HeadUUID]
			if !ok {
				i = len(s.heads)
				known[link.HeadUUID] = i
				s.heads = append(s.heads, head{uuid: link.HeadUUID})
			}
			s.heads[i].before = link.CreatedAt // they come newest first
			if said := timeOf(link.Properties[linkTime]); said.After(s.heads[i].said) {
				s.heads[i].said = said
			}
		}
		offset += len(answer.Items)
		more = isFull(len(answer.Items), answer.Limit, limit)
	}
	slices.SortFunc(s.heads, func(a, b head) int { return cmp.Or(b.before.Compare(a.before), cmp.Compare(b.uuid, a.uuid)) })
	return nil
}
