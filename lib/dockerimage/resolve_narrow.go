// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

const (
	// barePage is how many collections are asked for at a time without their
	// manifests.
	barePage = 250
	// manifestPage is how many manifests are asked for then: of several
	// collections, in case that the first cannot pass as an image.
	manifestPage = 5
)

// narrow collects those of many images that may be newer than the best so far.
// A site that has brought all its old images in at once has thousands under one
// name, of which any may be the newest. API servers cannot sort by a property,
// but they can leave out images that claim to be older.
//
// They compare times as texts, so only days are compared, and one more of them
// because of the zones. A text that is no time but begins like one is not found
// here.
func (s *search) narrow(ctx context.Context, filters []arvados.Filter) error {
	// The twin of the time counts where there is no other.
	twins := where(filters, KeyTimestamp, "exists", false)
	// Those whose own time does not count. The newest may decide at once.
	for _, undated := range [][]arvados.Filter{
		where(filters, KeyTimestamp, "=", nil),
		where(filters, KeyTimestamp, "<", strconv.Itoa(NoYear+2)),
		where(twins, Twin+KeyTimestamp, "exists", false),
		where(twins, Twin+KeyTimestamp, "=", nil),
		where(twins, Twin+KeyTimestamp, "<", strconv.Itoa(NoYear+2)),
	} {
		if err := s.readOn(ctx, bareAttrs, barePage, arvados.ResourceListParams{Filters: undated}); err != nil {
			return err
		}
	}
	if err := s.readSince(ctx, filters, KeyTimestamp); err != nil {
		return err
	}
	return s.readSince(ctx, twins, Twin+KeyTimestamp)
}

// where is filters and one more, about a property.
func where(filters []arvados.Filter, key, operator string, operand interface{}) []arvados.Filter {
	return append(slices.Clone(filters), arvados.Filter{Attr: "properties." + key, Operator: operator, Operand: operand})
}

// readSince collects those that tell a time, under the given key, at which they may
// be newer than the best so far.
func (s *search) readSince(ctx context.Context, filters []arvados.Filter, key string) error {
	// UUIDs are random, so that by their order each page is a fair sample,
	// whose best leaves few of the others, in whatever order they were
	// brought in.
	since := ""
	for params, more := (arvados.ResourceListParams{Order: "uuid"}), true; more; {
		best, _, err := s.winner(ctx)
		if err != nil {
			return err
		}
		if best != nil {
			if day := best.made().AddDate(0, 0, -1).Format(time.DateOnly); day > since {
				since, params.Offset = day, 0
			}
		}
		params.Filters = where(filters, key, ">=", since)
		var n int
		if n, more, err = s.read(ctx, bareAttrs, barePage, params); err != nil {
			return err
		}
		params.Offset += n
	}
	return nil
}

// errGone is why a collection cannot be used that was there a moment ago.
var errGone = errors.New("it has been removed meanwhile")

// fetch reads those of the images again, with their manifests, that lack them.
func (s *search) fetch(ctx context.Context, images []Found) error {
	uuids := []string{}
	for _, f := range images {
		if s.bare[f.UUID] {
			uuids = append(uuids, f.UUID)
		}
	}
	limit := len(uuids)
	whole, _, err := page(ctx, s.api, s.name, wholeAttrs, arvados.ResourceListParams{
		Filters: []arvados.Filter{{Attr: "uuid", Operator: "in", Operand: uuids}}, Limit: &limit,
	})
	if err != nil {
		return err
	}
	for _, uuid := range uuids {
		delete(s.bare, uuid)
		s.refusals[uuid] = errGone
	}
	for _, f := range whole {
		delete(s.refusals, f.UUID)
		images[slices.IndexFunc(images, func(bare Found) bool { return bare.UUID == f.UUID })] = s.dated(f)
	}
	return nil
}
