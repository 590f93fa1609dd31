// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// How many records a page has if the client does not say, and at most.
const (
	defaultLimit = 100
	maxLimit     = 1000
)

// list is one page of the records that the caller can read.
func list(tx *Tx, c *Call, k *kind) (any, error) {
	selected, err := c.selected(k)
	if err != nil {
		return nil, err
	}
	q := Query{Reader: c.Caller, IncludeTrash: c.Params.Bool("include_trash")}
	if q.Filters, err = parseFilters(c.Params["filters"]); err != nil {
		return nil, err
	}
	where, err := parseWhere(c.Params["where"])
	if err != nil {
		return nil, err
	}
	q.Filters = append(q.Filters, where...)
	result := &page{}
	if result.limit, err = c.Params.Int("limit", defaultLimit); err != nil {
		return nil, err
	}
	if result.offset, err = c.Params.Int("offset", 0); err != nil {
		return nil, err
	}
	result.limit = min(result.limit, maxLimit)
	q.Order = parseOrder(k, c.Params, selected)
	q.Whole = slices.Contains(selected, "manifest_text") || slices.Contains(selected, "unsigned_manifest_text")
	distinct := c.Params.Bool("distinct") && len(selected) > 0
	if !distinct {
		q.Limit, q.Offset = result.limit, result.offset
	}
	if result.limit > 0 {
		if result.items, err = tx.List(k.plural, q); err != nil {
			return nil, err
		}
	} else if _, err = tx.Count(k.plural, q); err != nil {
		return nil, err
	}
	if c.Params.String("count") != "none" {
		n, err := tx.Count(k.plural, q)
		if err != nil {
			return nil, err
		}
		result.available = &n
	}
	if distinct {
		result.items = distinctBy(result.items, selected)
		if result.available != nil {
			*result.available = len(result.items)
		}
		start := min(result.offset, len(result.items))
		result.items = result.items[start:min(start+result.limit, len(result.items))]
	}
	return result, nil
}

// selected is the parameter "select", checked.
func (c *Call) selected(k *kind) ([]string, error) {
	selected := c.Params.Strings("select")
	var unknown []string
	for _, name := range selected {
		a := k.attr(name)
		if (a == nil || a.secret) && !slices.Contains(sentBack, name) {
			unknown = append(unknown, fmt.Sprintf("%q", name))
		}
	}
	if unknown != nil {
		return nil, argumentError("Invalid attribute(s): [%s]", strings.Join(unknown, ", "))
	}
	return selected, nil
}

// parseOrder reads the parameter "order", and completes it so that the same
// request always gives the same order. What cannot be sorted by is left out
// without a word, as are keys that are not selected: so a list with a "select"
// comes by descending UUID unless it says otherwise.
func parseOrder(k *kind, p Params, selected []string) []Order {
	var orders []Order
	asked := p.Strings("order")
	for _, text := range append(asked, "modified_at desc", "uuid desc") {
		words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(text), k.plural+"."))
		if len(words) == 0 || len(words) > 2 {
			continue
		}
		desc := len(words) == 2 && strings.EqualFold(words[1], "desc")
		a := k.attr(words[0])
		switch {
		case len(words) == 2 && !desc && !strings.EqualFold(words[1], "asc"):
		case a == nil, a.secret, a.hidden, a.apart, a.typ == hash, a.typ == array:
		case len(selected) > 0 && !slices.Contains(selected, a.name):
		case slices.ContainsFunc(orders, func(o Order) bool { return o.Attr == a.name }):
		default:
			orders = append(orders, Order{Attr: a.name, Desc: desc})
		}
		if a != nil && a.name == "uuid" {
			break // nothing after it matters
		}
	}
	return orders
}

// distinctBy leaves one record of those that look the same.
func distinctBy(records []Record, selected []string) []Record {
	seen := map[string]bool{}
	return slices.DeleteFunc(records, func(rec Record) bool {
		values := make([]any, len(selected))
		for i, name := range selected {
			values[i] = rec[name]
		}
		key, err := json.Marshal(values)
		again := err == nil && seen[string(key)]
		seen[string(key)] = true
		return again
	})
}

// railsPath is the path in messages of RailsAPI. For lists it includes the
// query that controller sends there.
func (c *Call) railsPath() string {
	if c.Method != "GET" || strings.Contains(c.path, "/") || c.resource == nil {
		return c.path
	}
	query := url.Values{
		"cluster_id": {""}, "count": {c.Params.String("count")}, "forwarded_for": {c.clusterID + "-"}, "offset": {"0"},
	}
	for _, name := range []string{"filters", "limit", "offset", "order", "select", "distinct", "include_trash"} {
		raw := c.Params[name]
		if len(raw) == 0 {
			continue
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, raw); err != nil {
			continue
		}
		text := compact.String()
		if selected := c.Params.Strings("select"); name == "select" && c.resource.name == collections {
			text = jsonList(append([]string{"is_trashed", "trash_at"}, selected...))
		}
		query.Set(name, text)
	}
	return c.path + "?" + query.Encode()
}
