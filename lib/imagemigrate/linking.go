// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"golang.org/x/sync/errgroup"
)

// linking is ToLinks under way.
type linking struct {
	*ToLinks
	Position
	store  Store // by its API
	pace   *pace
	mtx    sync.Mutex // guards Summary and streak, and that one row is told at a time
	streak streak
}

// linkJob is one collection and the links that it lacks.
type linkJob struct {
	Row
	coll    arvados.Collection
	missing []arvados.Link
}

// do gives some collections their links. It tells what has become of each as soon as
// that is known, first of those that need none.
func (l *linking) do(ctx context.Context, colls []Collection) error {
	jobs, err := l.plan(ctx, colls)
	if err != nil {
		return err
	}
	var todo []*linkJob
	for _, j := range jobs {
		if j.Action == Written {
			todo = append(todo, j)
		} else if err := l.tell(j, nil); err != nil {
			return err
		}
	}
	writers, ctx := errgroup.WithContext(ctx)
	writers.SetLimit(cmp.Or(l.Parallel, defaultParallel))
	for _, j := range todo {
		writers.Go(func() error { return l.write(ctx, j) })
	}
	return writers.Wait()
}

// tell tells what has become of a collection. failure is that of its last write.
func (l *linking) tell(j *linkJob, failure error) error {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	l.Summary.Heads++
	if err := l.Summary.tell(j.Row, l.Report); err != nil {
		return err
	}
	if len(j.Links) > 0 {
		l.streak = 0
	}
	return l.streak.add(j.Collection, failure)
}

// plan says what is to be done with each collection.
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
		j := &linkJob{Row: Row{Collection: coll.UUID, Owner: coll.OwnerUUID, Action: Left, Cases: cases}, coll: coll.Collection}
		j.missing = dockerimage.MissingLinks(implied, coll.OwnerUUID, there[coll.UUID])
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

// write makes the links of one collection, and tells of those that it has made, also
// if it ends with an error: by that, somebody can delete them.
func (l *linking) write(ctx context.Context, j *linkJob) error {
	err := l.makeMissing(ctx, j)
	if err == nil {
		return l.tell(j, nil)
	}
	j.Action, j.Error = Failed, err.Error()
	switch {
	case ctx.Err() != nil: // err may be about another collection
	case isFailure(err):
		j.late = []string{j.Collection}
		return l.tell(j, err)
	case isRefusal(err):
		return l.tell(j, nil)
	}
	err = apiFault("write link to collection", j.Collection, err)
	if len(j.Links) > 0 {
		err = cmp.Or(l.tell(j, nil), err)
	}
	return err
}

// makeMissing makes links until the server does not. They belong to the collection's
// owner.
func (l *linking) makeMissing(ctx context.Context, j *linkJob) error {
	for _, link := range j.missing {
		if err := l.pace.wait(ctx); err != nil {
			return err
		}
		made, err := dockerimage.MakeLink(ctx, l.API, j.coll, link)
		if err != nil {
			return err
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
