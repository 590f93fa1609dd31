// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"context"
	"iter"
	"net/http"
	"slices"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// stream is a kind of records whose changes are followed.
type stream struct {
	name    string // in SyncPosition and metrics
	path    string
	attrs   []string
	filters []arvados.Filter
}

// streams are all that a Sync follows.
func streams() []stream {
	all := []stream{{
		name: "links", path: "links", attrs: []string{"uuid", "head_uuid", "modified_at"},
		filters: []arvados.Filter{{Attr: "link_class", Operator: "in", Operand: []string{classHash, className}}},
	}}
	for number, key := range imageKeys {
		all = append(all, stream{name: key, path: "collections", attrs: []string{"uuid", "modified_at"}, filters: imagesBy(number)})
	}
	return all
}

// touched is a record that was changed.
type touched struct {
	UUID       string    `json:"uuid"`
	HeadUUID   string    `json:"head_uuid"` // of a link
	ModifiedAt time.Time `json:"modified_at"`
}

// image is the collection that is to be looked at.
func (c touched) image() string {
	if c.HeadUUID != "" {
		return c.HeadUUID
	}
	return c.UUID
}

// changes are the records of a stream that were changed after a time, those first
// that were changed first. Each request begins where the one before has ended, so
// that nothing is missed or comes twice, even where a whole page is of one instant.
func (s stream) changes(ctx context.Context, api dockerimage.API, at time.Time) iter.Seq2[touched, error] {
	return func(yield func(touched, error) bool) {
		uuid := "" // of the last record, if there may be more of the same instant
		for {
			list, full, err := s.page(ctx, api, at, uuid)
			if err != nil {
				yield(touched{}, err)
				return
			}
			for _, c := range list {
				if at = c.ModifiedAt; !yield(c, nil) {
					return
				}
			}
			switch {
			case full:
				uuid = list[len(list)-1].UUID
			case uuid != "":
				uuid = ""
			default:
				return
			}
		}
	}
}

// page are the records of just an instant after a UUID, or if that is empty, those
// after the instant; and whether there may be more.
func (s stream) page(ctx context.Context, api dockerimage.API, at time.Time, uuid string) ([]touched, bool, error) {
	limit := linkPage
	instant := arvados.Filter{Attr: "modified_at", Operator: ">", Operand: at.Format(time.RFC3339Nano)}
	params := arvados.ResourceListParams{Select: s.attrs, Order: "modified_at,uuid", Limit: &limit, Count: "none"}
	params.Filters = append(slices.Clone(s.filters), instant)
	if uuid != "" {
		instant.Operator = "="
		params.Filters = append(slices.Clone(s.filters), instant, arvados.Filter{Attr: "uuid", Operator: ">", Operand: uuid})
	}
	var list struct {
		Items []touched
		Limit int
	}
	if err := api.RequestAndDecodeContext(ctx, &list, http.MethodGet, "arvados/v1/"+s.path, nil, params); err != nil {
		return nil, false, apiFault("list changes of", s.path, err)
	}
	if list.Limit > 0 { // a server that gives fewer at a time says so
		limit = min(limit, list.Limit)
	}
	return list.Items, len(list.Items) >= limit, nil
}
