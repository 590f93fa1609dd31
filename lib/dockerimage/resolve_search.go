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
	// NoYear and those before are what builders write that want every build
	// to be the same, or that do not know the time (Unix' and FAT's epochs).
	NoYear = 1980
)

// made is when the image was made. It decides which of several images a name
// means, so it is not later than the collection, whose time the API server has
// set, and legacy images and those that hide their time count by that.
func (f Found) made() time.Time {
	if t := f.Properties.Timestamp; t.Year() > NoYear && t.Before(f.CreatedAt) {
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
	said     map[string]time.Time // by UUID: when images were made, by their links
	found    []Found
	seen     map[string]bool  // UUIDs
	bare     map[string]bool  // UUIDs of those whose manifests are not known yet
	refusals map[string]error // by UUID; nil for an image in order
}

// head is a collection that links give the name to.
type head struct {
	uuid   string
	before time.Time // the collection has been made before
}

func newSearch(l lookup, api API, name string, policy Policy) *search {
	if l.open {
		policy.Trust = TrustAny
	}
	return &search{lookup: l, api: api, name: name, policy: policy,
		said: map[string]time.Time{}, seen: map[string]bool{}, bare: map[string]bool{}, refusals: map[string]error{}}
}

// run collects images until none that is left can be the newest.
func (s *search) run(ctx context.Context) error {
	if s.policy.Links && s.links != nil {
		if err := s.readLinks(ctx); err != nil {
			return err
		}
	}
	for _, filter := range s.collections {
		if err := s.look(ctx, s.policy.byOwner(filter)); err != nil {
			return err
		}
	}
	rest := slices.DeleteFunc(s.heads, func(h head) bool { return s.seen[h.uuid] })
	for len(rest) > 0 {
		if done, err := s.decided(ctx, rest[0].before); done || err != nil {
			return err
		}
		uuids := []string{}
		for _, h := range rest[:min(linkPage, len(rest))] {
			uuids = append(uuids, h.uuid)
		}
		rest = rest[len(uuids):]
		if err := s.look(ctx, s.policy.byOwner(arvados.Filter{Attr: "uuid", Operator: "in", Operand: uuids})); err != nil {
			return err
		}
	}
	return nil
}

// look collects what filters find: a page, and if that does not tell which
// image is the newest, those of the others that may be.
func (s *search) look(ctx context.Context, filters []arvados.Filter) error {
	n, more, err := s.read(ctx, wholeAttrs, pageSize, arvados.ResourceListParams{Filters: filters})
	switch {
	case err != nil || !more:
		return err
	case s.is != nil: // which the manifests tell
		return s.readOn(ctx, wholeAttrs, pageSize, arvados.ResourceListParams{Filters: filters, Offset: n})
	}
	return s.narrow(ctx, filters)
}

// readOn reads one page after the other, newest first.
func (s *search) readOn(ctx context.Context, attrs []string, limit int, params arvados.ResourceListParams) error {
	for more := true; more; {
		n, again, err := s.read(ctx, attrs, limit, params)
		if err != nil {
			return err
		}
		more = again
		params.Offset += n
	}
	return nil
}

// read adds a page of n collections. more tells whether what comes after it may
// matter.
func (s *search) read(ctx context.Context, attrs []string, limit int, params arvados.ResourceListParams) (n int, more bool, err error) {
	params.Limit = &limit
	found, more, err := page(ctx, s.api, s.name, attrs, params)
	if err != nil {
		return 0, false, err
	}
	for _, f := range found {
		if s.seen[f.UUID] {
			continue
		}
		s.seen[f.UUID] = true
		if s.is != nil && !s.is(f) {
			continue
		}
		s.bare[f.UUID] = !slices.Contains(attrs, "manifest_text")
		s.found = append(s.found, s.dated(f))
	}
	if more && params.Order == "" {
		var done bool
		done, err = s.decided(ctx, found[len(found)-1].CreatedAt)
		more = !done
	}
	return len(found), more, err
}

// dated has the time that links tell: arv-keepdocker writes it into them only.
func (s *search) dated(f Found) Found {
	if f.Properties.Timestamp.IsZero() {
		f.Properties.Timestamp = s.said[f.UUID]
	}
	return f
}

// decided reports whether no collection made at or before the given time can be
// the one any more.
func (s *search) decided(ctx context.Context, before time.Time) (bool, error) {
	best, _, err := s.winner(ctx)
	return best != nil && best.made().After(before), err
}

// winner is the newest image in order, nil if there is none, and what had to be
// passed over to come to it.
func (s *search) winner(ctx context.Context) (*Found, []PassedOver, error) {
	slices.SortFunc(s.found, newestFirst)
	var passedOver []PassedOver
	for i := range s.found {
		f := &s.found[i]
		if s.bare[f.UUID] {
			if err := s.fetch(ctx, s.found[i:min(i+manifestPage, len(s.found))]); err != nil {
				return nil, nil, err
			}
		}
		reason, known := s.refusals[f.UUID]
		if !known {
			reason = s.check(*f)
			s.refusals[f.UUID] = reason
		}
		if reason == nil {
			return f, passedOver, nil
		}
		passedOver = append(passedOver, PassedOver{Found: *f, Reason: reason})
	}
	return nil, passedOver, nil
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
			if said := timeOf(link.Properties[LinkTime]); said.After(s.said[link.HeadUUID]) {
				s.said[link.HeadUUID] = said
			}
		}
		offset += len(answer.Items)
		more = isFull(len(answer.Items), answer.Limit, limit)
	}
	slices.SortFunc(s.heads, func(a, b head) int { return cmp.Or(b.before.Compare(a.before), cmp.Compare(b.uuid, a.uuid)) })
	return nil
}
