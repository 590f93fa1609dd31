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
	"slices"
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

// collectionPage is how many collections are asked for at a time. They come with
// manifests, of some 100 bytes for 64 MiB.
const collectionPage = 100

var (
	headAttrs = []string{"uuid", "owner_uuid", "portable_data_hash", "created_at", "manifest_text", "properties"}
	lostAttrs = []string{"uuid", "current_version_uuid"}
)

// collections are those of the given UUIDs (or portable data hashes, by attr) that
// are neither in the trash nor old versions.
func collections(ctx context.Context, api dockerimage.API, attr string, values []string) ([]collection, error) {
	var all []collection
	for chunk := range slices.Chunk(values, collectionPage) {
		after := ""
		for {
			var list struct{ Items []collection }
			limit := collectionPage
			err := api.RequestAndDecodeContext(ctx, &list, http.MethodGet, "arvados/v1/collections", nil, arvados.ResourceListParams{
				Filters: []arvados.Filter{{Attr: attr, Operator: "in", Operand: chunk}, {Attr: "uuid", Operator: ">", Operand: after}},
				Select:  headAttrs, Order: "uuid", Limit: &limit, Count: "none",
			})
			if err != nil {
				return nil, apiFault("list", "collections", err)
			}
			if err := decodeAll(list.Items); err != nil {
				return nil, err
			}
			all = append(all, list.Items...)
			// Servers give fewer than were asked for where manifests are
			// large.
			if len(list.Items) == 0 || attr == "uuid" && len(list.Items) == len(chunk) {
				break
			}
			after = list.Items[len(list.Items)-1].UUID
		}
	}
	return all, nil
}

// decodeAll reads the properties of collections.
func decodeAll(colls []collection) (err error) {
	for i := range colls {
		coll := &colls[i]
		if coll.Properties, err = decode(coll.Raw); err != nil {
			return apiFault("read properties of collection", coll.UUID, err)
		}
	}
	return nil
}

// whereGone tells what has become of collections that lookups do not find.
func whereGone(ctx context.Context, api dockerimage.API, uuids []string) (map[string]Kind, error) {
	gone := map[string]Kind{}
	for _, uuid := range uuids {
		gone[uuid] = GoneHead
	}
	for chunk := range slices.Chunk(uuids, collectionPage) {
		limit := collectionPage
		var list arvados.CollectionList
		err := api.RequestAndDecodeContext(ctx, &list, http.MethodGet, "arvados/v1/collections", nil, arvados.ResourceListParams{
			Filters: []arvados.Filter{{Attr: "uuid", Operator: "in", Operand: chunk}},
			Select:  lostAttrs, Limit: &limit, Count: "none", IncludeTrash: true, IncludeOldVersions: true,
		})
		if err != nil {
			return nil, apiFault("list", "collections in the trash", err)
		}
		for _, coll := range list.Items {
			gone[coll.UUID] = TrashedHead
			if coll.CurrentVersionUUID != "" && coll.CurrentVersionUUID != coll.UUID {
				gone[coll.UUID] = OldHead
			}
		}
	}
	return gone, nil
}

// replacements are the portable data hashes of images that have replaced those of
// the given ones, by what docker_image_migration links of the system say; of
// several the newest.
func replacements(ctx context.Context, api dockerimage.API, pdhs []string) (map[string]string, error) {
	newest := map[string]arvados.Link{}
	for chunk := range slices.Chunk(pdhs, collectionPage) {
		limit := linkPage
		var list arvados.LinkList
		err := api.RequestAndDecodeContext(ctx, &list, http.MethodGet, "arvados/v1/links", nil, arvados.ResourceListParams{
			Filters: []arvados.Filter{
				{Attr: "link_class", Operator: "=", Operand: classMigration},
				{Attr: "tail_uuid", Operator: "in", Operand: chunk},
				{Attr: "owner_uuid", Operator: "like", Operand: "%" + systemUser},
			},
			Select: []string{"uuid", "head_uuid", "tail_uuid", "created_at"}, Order: "created_at desc", Limit: &limit, Count: "none",
		})
		if err != nil {
			return nil, apiFault("list", "links of replaced images", err)
		}
		for _, link := range list.Items {
			if was, ok := newest[link.TailUUID]; !ok || link.CreatedAt.After(was.CreatedAt) {
				newest[link.TailUUID] = link
			}
		}
	}
	to := map[string]string{}
	for tail, link := range newest {
		to[tail] = link.HeadUUID
	}
	return to, nil
}

// systemUser ends the UUID of the user that is the system itself.
const systemUser = "-tpzed-000000000000000"

// frozen are those of the owners that are projects which take no changes.
func frozen(ctx context.Context, api dockerimage.API, owners []string) (map[string]bool, error) {
	projects := slices.DeleteFunc(slices.Clone(owners), func(uuid string) bool { return !strings.Contains(uuid, "-j7d0g-") })
	no := map[string]bool{}
	for chunk := range slices.Chunk(projects, collectionPage) {
		limit := collectionPage
		var list arvados.GroupList
		err := api.RequestAndDecodeContext(ctx, &list, http.MethodGet, "arvados/v1/groups", nil, arvados.ResourceListParams{
			Filters: []arvados.Filter{{Attr: "uuid", Operator: "in", Operand: chunk}},
			Select:  []string{"uuid", "can_write"}, Limit: &limit, Count: "none",
		})
		if err != nil {
			return nil, apiFault("list", "projects", err)
		}
		for _, project := range list.Items {
			no[project.UUID] = !project.CanWrite
		}
	}
	return no, nil
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
