// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"crypto/md5"
	"fmt"
	"math/big"
	"slices"
)

// page is one page of a list.
type page struct {
	items     []Record
	available *int // nil if nobody asked
	limit     int
	offset    int
}

// show makes an action's result the body of a reply.
func (c *Call) show(tx *Tx, result any) (any, error) {
	switch result := result.(type) {
	case literal:
		return result.value, nil
	case Record:
		return c.showRecord(tx, result, false)
	case *page:
		items := []any{}
		for _, rec := range result.items {
			item, err := c.showRecord(tx, rec, true)
			if err != nil {
				return nil, err
			}
			items = append(items, item)
		}
		body := map[string]any{
			"kind":   c.resource.kind.arvadosKind() + "List",
			"items":  items,
			"limit":  result.limit,
			"offset": result.offset,
		}
		if result.available != nil {
			body["items_available"] = *result.available
		}
		if c.resource.raw {
			body["etag"], body["self_link"] = "", ""
		}
		return body, nil
	}
	return nil, fmt.Errorf("%s: no reply in %T", c.path, result)
}

// showRecord shows a record to the caller. Items of lists go without manifests
// unless these are selected.
func (c *Call) showRecord(tx *Tx, rec Record, listed bool) (map[string]any, error) {
	k, selected := c.resource.kind, c.Params.Strings("select")
	if c.resource.prepare != nil {
		if err := c.resource.prepare(tx, c, rec); err != nil {
			return nil, err
		}
	}
	shown := map[string]any{"kind": k.arvadosKind()}
	switch {
	case c.resource.raw && len(selected) > 0: // RailsAPI shows what is selected
	case len(selected) > 0 && listed:
		shown["etag"] = ""
	default:
		shown["etag"] = etag(rec)
	}
	for _, a := range k.attrs {
		switch {
		case a.secret:
		case len(selected) > 0 && !slices.Contains(selected, a.name):
		case len(selected) == 0 && listed && a.apart:
		case len(selected) == 0 && a.hidden && listed:
		default:
			shown[a.name] = rec[a.name]
			if rec[a.name] == nil {
				shown[a.name] = a.null
			}
		}
	}
	for _, name := range []string{"can_manage", "can_write", "writable_by"} {
		if value, ok := rec[name]; ok && (len(selected) == 0 || slices.Contains(selected, name)) {
			shown[name] = value
		}
	}
	return shown, nil
}

// etag changes whenever the record does.
func etag(rec Record) string {
	sum := md5.Sum(fmt.Appendf(nil, "%v %v", rec["uuid"], rec["modified_at"]))
	return new(big.Int).SetBytes(sum[:]).Text(36)
}
