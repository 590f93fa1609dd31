// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"golang.org/x/sync/errgroup"
)

// ByAPI is what an administrator's client sees of a cluster, and changes, several
// requests at a time; 0 means 4.
func ByAPI(api dockerimage.API, parallel int) Store { return apiStore{api, parallel} }

type apiStore struct {
	api      dockerimage.API
	parallel int
}

func (s apiStore) Heads(ctx context.Context, after string) iter.Seq2[[]arvados.Link, error] {
	return func(yield func([]arvados.Link, error) bool) {
		for g, err := range groups(ctx, s.api, "head_uuid", after, classHash, className) {
			if !yield(g.links, err) {
				return
			}
		}
	}
}

func (s apiStore) LinksTo(ctx context.Context, head string) ([]arvados.Link, error) {
	class := arvados.Filter{Attr: "link_class", Operator: "in", Operand: []string{classHash, className}}
	list, err := listLinks(ctx, s.api, "uuid", class, arvados.Filter{Attr: "head_uuid", Operator: "=", Operand: head})
	if err != nil || isLast(list) {
		return list.Items, err
	}
	return rest(ctx, s.api, group{key: head, links: list.Items}, class, "head_uuid")
}

// collectionPage is how many collections are asked for at a time. They come with
// manifests, of some 100 bytes for 64 MiB.
const collectionPage = 100

var (
	headAttrs  = []string{"uuid", "owner_uuid", "portable_data_hash", "created_at", "manifest_text", "properties"}
	writeAttrs = []string{"uuid", "owner_uuid", "portable_data_hash", "properties"}
	lostAttrs  = []string{"uuid", "current_version_uuid"}
)

func (s apiStore) Collections(ctx context.Context, attr string, values []string) ([]Collection, error) {
	return s.collections(ctx, headAttrs, attr, values)
}

func (s apiStore) Properties(ctx context.Context, uuids []string) ([]Collection, error) {
	return s.collections(ctx, writeAttrs, "uuid", uuids)
}

func (s apiStore) collections(ctx context.Context, attrs []string, attr string, values []string) ([]Collection, error) {
	var all []Collection
	for chunk := range slices.Chunk(values, collectionPage) {
		after := ""
		for {
			var list struct{ Items []Collection }
			limit := collectionPage
			err := s.api.RequestAndDecodeContext(ctx, &list, http.MethodGet, "arvados/v1/collections", nil, arvados.ResourceListParams{
				Filters: []arvados.Filter{{Attr: attr, Operator: "in", Operand: chunk}, {Attr: "uuid", Operator: ">", Operand: after}},
				Select:  attrs, Order: "uuid", Limit: &limit, Count: "none",
			})
			if err != nil {
				return nil, apiFault("list", "collections", err)
			}
			for i := range list.Items {
				list.Items[i].Decode()
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

func (s apiStore) Gone(ctx context.Context, uuids []string) (map[string]Kind, error) {
	gone := map[string]Kind{}
	for _, uuid := range uuids {
		gone[uuid] = GoneHead
	}
	for chunk := range slices.Chunk(uuids, collectionPage) {
		limit := collectionPage
		var list arvados.CollectionList
		err := s.api.RequestAndDecodeContext(ctx, &list, http.MethodGet, "arvados/v1/collections", nil, arvados.ResourceListParams{
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

func (s apiStore) Replacements(ctx context.Context, pdhs []string) (map[string]string, error) {
	newest := map[string]arvados.Link{}
	for chunk := range slices.Chunk(pdhs, collectionPage) {
		limit := linkPage
		var list arvados.LinkList
		err := s.api.RequestAndDecodeContext(ctx, &list, http.MethodGet, "arvados/v1/links", nil, arvados.ResourceListParams{
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

func (s apiStore) Frozen(ctx context.Context, owners []string) (map[string]bool, error) {
	projects := slices.DeleteFunc(slices.Clone(owners), func(uuid string) bool { return !strings.Contains(uuid, "-j7d0g-") })
	no := map[string]bool{}
	for chunk := range slices.Chunk(projects, collectionPage) {
		limit := collectionPage
		var list arvados.GroupList
		err := s.api.RequestAndDecodeContext(ctx, &list, http.MethodGet, "arvados/v1/groups", nil, arvados.ResourceListParams{
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

// Write writes several at a time. There is no way to make a change depend on what
// was there before, so it looks just before: what is changed within the moment
// between is lost.
func (s apiStore) Write(ctx context.Context, changes []Planned, wait func(context.Context) error, done func(i int, err error) error) error {
	first := 0
	for some := range slices.Chunk(changes, cmp.Or(s.parallel, defaultParallel)) {
		for range some {
			if err := wait(ctx); err != nil {
				return err
			}
		}
		outcomes, err := s.writeSome(ctx, some)
		for i, outcome := range outcomes {
			if !errors.Is(outcome, errUnknown) {
				err = cmp.Or(err, done(first+i, outcome))
			}
		}
		if err != nil {
			return err
		}
		first += len(some)
	}
	return nil
}

// errUnknown is what has become of a change that the server has said nothing of.
var errUnknown = errors.New("no answer")

// writeSome makes changes at the same time, and tells what has become of each, also
// if it ends with an error.
func (s apiStore) writeSome(ctx context.Context, changes []Planned) ([]error, error) {
	same, err := s.unchanged(ctx, changes)
	if err != nil {
		return nil, err
	}
	outcomes := make([]error, len(changes))
	writers, ctx := errgroup.WithContext(ctx)
	for i, change := range changes {
		if !same[change.Collection] {
			outcomes[i] = ErrChanged
			continue
		}
		writers.Go(func() error {
			err := s.api.RequestAndDecodeContext(ctx, nil, http.MethodPatch, "arvados/v1/collections/"+change.Collection, nil,
				map[string]interface{}{"collection": map[string]interface{}{"properties": change.After}})
			if err == nil || isRefusal(err) || isFailure(err) {
				outcomes[i] = err
				return nil
			}
			outcomes[i] = errUnknown
			return apiFault("change collection", change.Collection, err)
		})
	}
	return outcomes, writers.Wait()
}

// unchanged are the collections that still are as they were read.
func (s apiStore) unchanged(ctx context.Context, changes []Planned) (map[string]bool, error) {
	was := map[string]Collection{}
	var uuids []string
	for _, change := range changes {
		was[change.Collection] = change.Read
		uuids = append(uuids, change.Collection)
	}
	limit := len(uuids)
	var list struct{ Items []Collection }
	err := s.api.RequestAndDecodeContext(ctx, &list, http.MethodGet, "arvados/v1/collections", nil, arvados.ResourceListParams{
		Filters: []arvados.Filter{{Attr: "uuid", Operator: "in", Operand: uuids}},
		Select:  writeAttrs, Limit: &limit, Count: "none",
	})
	if err != nil {
		return nil, apiFault("list", "collections", err)
	}
	same := map[string]bool{}
	for _, is := range list.Items {
		is.Decode()
		read := was[is.UUID]
		same[is.UUID] = is.OwnerUUID == read.OwnerUUID && is.PortableDataHash == read.PortableDataHash && reflect.DeepEqual(is.Properties, read.Properties)
	}
	return same, nil
}
