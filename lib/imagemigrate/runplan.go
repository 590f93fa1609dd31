// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"context"
	"maps"
	"slices"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// plan says what links tell of each head, and of images that have replaced some of
// them.
func (r *run) plan(ctx context.Context, chunk []group) ([]*job, error) {
	var uuids []string
	for _, g := range chunk {
		if g.isLocalCollection() {
			uuids = append(uuids, g.key)
		}
	}
	colls, err := r.Store.Collections(ctx, "uuid", uuids)
	if err != nil {
		return nil, err
	}
	byUUID := map[string]Collection{}
	for _, coll := range colls {
		byUUID[coll.UUID] = coll
	}
	gone := map[string]Kind{}
	if missing := slices.DeleteFunc(uuids, func(uuid string) bool { return byUUID[uuid].UUID != "" }); len(missing) > 0 {
		if gone, err = r.Store.Gone(ctx, missing); err != nil {
			return nil, err
		}
	}
	var jobs []*job
	replaced := map[string][]arvados.Link{} // by portable data hash
	for _, g := range chunk {
		coll, there := byUUID[g.key]
		j := &job{Row: Row{Collection: g.key, Owner: coll.OwnerUUID, Action: Left}, coll: coll}
		switch {
		case there:
			j.change = r.Plan(coll.Collection, g.links, nil)
			if !isCompatible(coll.ManifestText) {
				replaced[coll.PortableDataHash] = append(replaced[coll.PortableDataHash], g.links...)
			}
		case g.isLocalCollection():
			j.change.Cases = []Case{{Kind: gone[g.key]}}
		case arvados.PDHMatch(g.key):
			j.change.Cases = []Case{{Kind: HashHead}}
		default:
			j.change.Cases = []Case{{Kind: OtherHead}}
		}
		jobs = append(jobs, j)
	}
	more, err := r.planReplacements(ctx, replaced)
	if err != nil {
		return nil, err
	}
	// What a replacement gets includes what it gets by links of its own.
	for _, j := range more {
		jobs = slices.DeleteFunc(jobs, func(own *job) bool { return own.Collection == j.Collection })
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// planReplacements plans for collections with images that have replaced others,
// whose links are given.
func (r *run) planReplacements(ctx context.Context, replaced map[string][]arvados.Link) ([]*job, error) {
	if len(replaced) == 0 {
		return nil, nil
	}
	to, err := r.Store.Replacements(ctx, slices.Sorted(maps.Keys(replaced)))
	if err != nil || len(to) == 0 {
		return nil, err
	}
	inherited := map[string][]arvados.Link{}
	for from, pdh := range to {
		inherited[pdh] = append(inherited[pdh], replaced[from]...)
	}
	colls, err := r.Store.Collections(ctx, "portable_data_hash", slices.Sorted(maps.Keys(inherited)))
	if err != nil {
		return nil, err
	}
	var jobs []*job
	for _, coll := range colls {
		own, err := r.Store.LinksTo(ctx, coll.UUID)
		if err != nil {
			return nil, err
		}
		j := &job{
			Row:    Row{Collection: coll.UUID, Owner: coll.OwnerUUID, Action: Left},
			coll:   coll,
			change: r.Plan(coll.Collection, own, inherited[coll.PortableDataHash]),
		}
		for _, link := range inherited[coll.PortableDataHash] {
			j.from = append(j.from, link.HeadUUID)
		}
		slices.Sort(j.from)
		j.from = slices.Compact(j.from)
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// decide says what becomes of each job, before anything is written.
func (r *run) decide(ctx context.Context, jobs []*job) error {
	owners := map[string]bool{}
	for _, j := range jobs {
		if j.change.Properties != nil {
			owners[j.coll.OwnerUUID] = true
		}
	}
	no, err := r.Store.Frozen(ctx, slices.Sorted(maps.Keys(owners)))
	if err != nil {
		return err
	}
	for _, j := range jobs {
		j.Names, j.Cases = j.change.Names, j.change.Cases
		switch {
		case j.coll.UUID == "" || j.change.Left:
		case j.change.Properties == nil:
			j.Action = Unchanged
		case j.coll.Obstacle != "":
			j.Names = nil
			j.Cases = append(j.Cases, Case{Kind: j.coll.Obstacle})
		case no[j.coll.OwnerUUID]:
			j.Names = nil
			j.Cases = append(j.Cases, Case{Kind: Frozen})
		case r.DryRun:
			j.Action = WouldWrite
		default:
			j.Action = Written
		}
	}
	return nil
}
