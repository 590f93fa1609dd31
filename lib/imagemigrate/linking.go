// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"golang.org/x/sync/errgroup"
)

// linking is ToLinks under way.
type linking struct {
	*ToLinks
	Position
	store Store // by its API
	pace  *pace
}

// linkJob is one collection and the links that it lacks.
type linkJob struct {
	Row
	missing []arvados.Link
}

// do gives some collections their links.
func (l *linking) do(ctx context.Context, colls []Collection) error {
	jobs, err := l.plan(ctx, colls)
	if err != nil {
		return err
	}
	writers, writing := errgroup.WithContext(ctx)
	writers.SetLimit(cmp.Or(l.Parallel, defaultParallel))
	for _, j := range jobs {
		if j.Action == Written {
			writers.Go(func() error { return l.write(writing, j) })
		}
	}
	if err := writers.Wait(); err != nil {
		return err
	}
	for _, j := range jobs {
		l.Summary.Heads++
		if err := l.Summary.tell(j.Row, l.Report); err != nil {
			return err
		}
	}
	return nil
}

// plan says what is to be done with each collection. Links of others than its
// owner do not count: who can read the collection may not be able to read them.
func (l *linking) plan(ctx context.Context, colls []Collection) ([]*linkJob, error) {
	var uuids []string
	for _, coll := range colls {
		uuids = append(uuids, coll.UUID)
	}
	there, err := linksTo(ctx, l.API, uuids)
	if err != nil {
		return nil, err
	}
	var jobs []*linkJob
	owners := map[string]bool{}
	for _, coll := range colls {
		l.Summary.Links += len(there[coll.UUID])
		implied, left, cases := impliedLinks(coll)
		j := &linkJob{Row: Row{Collection: coll.UUID, Owner: coll.OwnerUUID, Action: Left, Cases: cases}}
		j.missing = slices.DeleteFunc(implied, func(link arvados.Link) bool {
			return slices.ContainsFunc(there[coll.UUID], func(old arvados.Link) bool {
				return old.LinkClass == link.LinkClass && old.Name == link.Name && old.OwnerUUID == coll.OwnerUUID
			})
		})
		switch {
		case left:
		case len(j.missing) == 0:
			j.Action = Unchanged
		default:
			j.Action = Written
			owners[coll.OwnerUUID] = true
		}
		jobs = append(jobs, j)
	}
	no, err := l.store.Frozen(ctx, slices.Sorted(maps.Keys(owners)))
	if err != nil {
		return nil, err
	}
	for _, j := range jobs {
		switch {
		case j.Action != Written:
		case no[j.Owner]:
			j.Action = Left
			j.Cases = append(j.Cases, Case{Kind: Frozen})
		case l.DryRun:
			j.Action = WouldWrite
			for _, link := range j.missing {
				j.Links = append(j.Links, NewLink{Class: link.LinkClass, Name: link.Name})
			}
		}
	}
	return jobs, nil
}

// write makes the links of one collection. They belong to its owner.
func (l *linking) write(ctx context.Context, j *linkJob) error {
	for _, link := range j.missing {
		if err := l.pace.wait(ctx); err != nil {
			return err
		}
		var made arvados.Link
		err := l.API.RequestAndDecodeContext(ctx, &made, http.MethodPost, "arvados/v1/links", nil, map[string]interface{}{
			"link": map[string]interface{}{
				"owner_uuid": j.Owner, "link_class": link.LinkClass, "name": link.Name,
				"head_uuid": j.Collection, "properties": link.Properties,
			},
		})
		if isRefusal(err) {
			j.Action, j.Error = Failed, err.Error()
			return nil
		}
		if err != nil {
			return apiFault("write link to collection", j.Collection, err)
		}
		j.Links = append(j.Links, NewLink{UUID: made.UUID, Class: link.LinkClass, Name: link.Name})
	}
	return nil
}

// linksTo are the links to collections that call them images, by collection.
func linksTo(ctx context.Context, api dockerimage.API, uuids []string) (map[string][]arvados.Link, error) {
	links := map[string][]arvados.Link{}
	for chunk := range slices.Chunk(uuids, collectionPage) {
		for after := ""; ; {
			list, err := listLinks(ctx, api, "uuid",
				arvados.Filter{Attr: "link_class", Operator: "in", Operand: []string{classHash, className}},
				arvados.Filter{Attr: "head_uuid", Operator: "in", Operand: chunk},
				arvados.Filter{Attr: "uuid", Operator: ">", Operand: after})
			if err != nil {
				return nil, err
			}
			for _, link := range list.Items {
				links[link.HeadUUID] = append(links[link.HeadUUID], link)
				after = link.UUID
			}
			if isLast(list) {
				break
			}
		}
	}
	return links, nil
}
