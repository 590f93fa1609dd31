// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"strings"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// linkPage is how many links are asked for at a time: the most that API servers
// give.
const linkPage = 1000

var linkAttrs = []string{"uuid", "link_class", "name", "owner_uuid", "head_uuid", "created_at", "properties"}

// listLinks is a page of links.
func listLinks(ctx context.Context, api dockerimage.API, order string, filters ...arvados.Filter) (arvados.LinkList, error) {
	limit := linkPage
	var list arvados.LinkList
	err := api.RequestAndDecodeContext(ctx, &list, http.MethodGet, "arvados/v1/links", nil, arvados.ResourceListParams{
		Filters: filters, Select: linkAttrs, Order: order, Limit: &limit, Count: "none",
	})
	if err != nil {
		return list, apiFault("list", "links", err)
	}
	return list, nil
}

// isLast reports whether there is nothing after a page.
func isLast(list arvados.LinkList) bool {
	limit := linkPage
	if list.Limit > 0 { // a server that gives fewer at a time says so
		limit = min(limit, list.Limit)
	}
	return len(list.Items) < limit
}

// group is all links that have an attribute in common.
type group struct {
	key   string
	links []arvados.Link
}

// groups are the links of some classes by head_uuid or name, in the server's order
// of that, from the first one after a value on. They are read page by page, so that
// no more than a page of links is in memory, or one group if that is larger.
func groups(ctx context.Context, api dockerimage.API, by, after string, classes ...string) iter.Seq2[group, error] {
	keyOf := func(link arvados.Link) string {
		if by == "name" {
			return link.Name
		}
		return link.HeadUUID
	}
	class := arvados.Filter{Attr: "link_class", Operator: "in", Operand: classes}
	return func(yield func(group, error) bool) {
		for {
			list, err := listLinks(ctx, api, by+",uuid", class, arvados.Filter{Attr: by, Operator: ">", Operand: after})
			if err != nil {
				yield(group{}, err)
				return
			}
			if len(list.Items) == 0 {
				return
			}
			last := isLast(list)
			var page []group
			for _, link := range list.Items {
				if n := len(page); n == 0 || page[n-1].key != keyOf(link) {
					page = append(page, group{key: keyOf(link)})
				}
				page[len(page)-1].links = append(page[len(page)-1].links, link)
			}
			if !last && len(page) > 1 {
				page = page[:len(page)-1] // perhaps not all of it: again with the next page
			} else if !last {
				if page[0].links, err = rest(ctx, api, page[0], class, by); err != nil {
					yield(group{}, err)
					return
				}
			}
			for _, g := range page {
				if after = g.key; !yield(g, nil) {
					return
				}
			}
			if last {
				return
			}
		}
	}
}

// rest is all links of a group that is larger than a page.
func rest(ctx context.Context, api dockerimage.API, g group, class arvados.Filter, by string) ([]arvados.Link, error) {
	for links := g.links; ; {
		list, err := listLinks(ctx, api, "uuid", class, arvados.Filter{Attr: by, Operator: "=", Operand: g.key},
			arvados.Filter{Attr: "uuid", Operator: ">", Operand: links[len(links)-1].UUID})
		if err != nil {
			return nil, err
		}
		links = append(links, list.Items...)
		if isLast(list) {
			return links, nil
		}
	}
}

// isCollection reports whether a link points to a collection.
func isCollection(uuid string) bool { return arvados.UUIDMatch(uuid) && uuid[6:11] == "4zz18" }

// isLocal reports whether a link points to something of the same cluster. Nothing
// of others is found through it, and to list that would mean to ask them.
func isLocal(link arvados.Link) bool {
	return len(link.HeadUUID) >= 5 && strings.HasPrefix(link.UUID, link.HeadUUID[:5])
}

// isLocalCollection reports whether the links of a head, if there are any, point to
// a collection of the same cluster.
func (g group) isLocalCollection() bool {
	return isCollection(g.key) && (len(g.links) == 0 || isLocal(g.links[0]))
}

// decode reads properties with numbers as they are written.
func decode(raw json.RawMessage) (map[string]interface{}, error) {
	var properties map[string]interface{}
	if len(raw) == 0 {
		return properties, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&properties); err != nil {
		return nil, fmt.Errorf("%.200s: %w", raw, err)
	}
	return properties, nil
}
