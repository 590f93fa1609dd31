// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync/atomic"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"golang.org/x/sync/errgroup"
)

// defaultParallel is how many writes are under way at a time. API servers have
// more to do.
const defaultParallel = 4

// Run goes through all links. It ends with an error if the API server does not
// answer, cannot take the token or something cannot be written here; collections
// that the server refuses to change are in the report, and counted.
func (m *Migration) Run(ctx context.Context) (Summary, error) {
	r := &run{Migration: m, Position: m.Start, pace: newPace(m.Rate)}
	r.Summary.Cases = maps.Clone(m.Start.Summary.Cases)
	if r.Summary.Cases == nil {
		r.Summary.Cases = map[Kind]int{}
	}
	var chunk []group
	for g, err := range groups(ctx, m.API, "head_uuid", r.After, classHash, className) {
		if err != nil {
			return r.Summary, err
		}
		if chunk = append(chunk, g); len(chunk) == r.pace.chunk() {
			if err := r.do(ctx, chunk); err != nil {
				return r.Summary, err
			}
			chunk = nil
		}
	}
	return r.Summary, r.do(ctx, chunk)
}

// run is a Migration under way.
type run struct {
	*Migration
	Position
	pace *pace
	// refused is what a server with a strict vocabulary has said of keys
	// without twins; those after it are written in the form that it takes.
	refused atomic.Pointer[error]
}

// job is one collection, or what else links point to.
type job struct {
	Row
	coll   collection
	change Change
}

// do brings some heads to their end.
func (r *run) do(ctx context.Context, chunk []group) error {
	if len(chunk) == 0 {
		return nil
	}
	jobs, err := r.plan(ctx, chunk)
	if err != nil {
		return err
	}
	if err := r.write(ctx, jobs); err != nil {
		return err
	}
	r.Summary.Heads += len(chunk)
	for _, g := range chunk {
		r.Summary.Links += len(g.links)
	}
	for _, j := range jobs {
		r.Summary.count(j.Action, j.Collection, j.Error)
		for _, c := range j.Cases {
			r.Summary.Cases[c.Kind]++
		}
		if r.Report != nil {
			if err := r.Report(j.Row); err != nil {
				return err
			}
		}
	}
	r.After = chunk[len(chunk)-1].key
	if r.Passed == nil {
		return nil
	}
	return r.Passed(r.Position)
}

// plan says what is to be done with each head, and with images that have replaced
// some of them.
func (r *run) plan(ctx context.Context, chunk []group) ([]*job, error) {
	var uuids []string
	for _, g := range chunk {
		if isCollection(g.key) && isLocal(g.links[0]) {
			uuids = append(uuids, g.key)
		}
	}
	colls, err := collections(ctx, r.API, "uuid", uuids)
	if err != nil {
		return nil, err
	}
	byUUID := map[string]collection{}
	for _, coll := range colls {
		byUUID[coll.UUID] = coll
	}
	gone := map[string]Kind{}
	if missing := slices.DeleteFunc(uuids, func(uuid string) bool { return byUUID[uuid].UUID != "" }); len(missing) > 0 {
		if gone, err = whereGone(ctx, r.API, missing); err != nil {
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
		case isCollection(g.key) && isLocal(g.links[0]):
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
	return jobs, r.leaveFrozen(ctx, jobs)
}

// planReplacements plans for collections with images that have replaced others,
// whose links are given.
func (r *run) planReplacements(ctx context.Context, replaced map[string][]arvados.Link) ([]*job, error) {
	if len(replaced) == 0 {
		return nil, nil
	}
	to, err := replacements(ctx, r.API, slices.Sorted(maps.Keys(replaced)))
	if err != nil || len(to) == 0 {
		return nil, err
	}
	inherited := map[string][]arvados.Link{}
	for from, pdh := range to {
		inherited[pdh] = append(inherited[pdh], replaced[from]...)
	}
	colls, err := collections(ctx, r.API, "portable_data_hash", slices.Sorted(maps.Keys(inherited)))
	if err != nil {
		return nil, err
	}
	var jobs []*job
	for _, coll := range colls {
		class := arvados.Filter{Attr: "link_class", Operator: "in", Operand: []string{classHash, className}}
		list, err := listLinks(ctx, r.API, "uuid", class, arvados.Filter{Attr: "head_uuid", Operator: "=", Operand: coll.UUID})
		own := group{key: coll.UUID, links: list.Items}
		if err == nil && !isLast(list) {
			own.links, err = rest(ctx, r.API, own, class, "head_uuid")
		}
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, &job{
			Row:    Row{Collection: coll.UUID, Owner: coll.OwnerUUID, Action: Left},
			coll:   coll,
			change: r.Plan(coll.Collection, own.links, inherited[coll.PortableDataHash]),
		})
	}
	return jobs, nil
}

// leaveFrozen settles what becomes of each job before anything is written.
func (r *run) leaveFrozen(ctx context.Context, jobs []*job) error {
	owners := map[string]bool{}
	for _, j := range jobs {
		if j.change.Properties != nil {
			owners[j.coll.OwnerUUID] = true
		}
	}
	no, err := frozen(ctx, r.API, slices.Sorted(maps.Keys(owners)))
	if err != nil {
		return err
	}
	for _, j := range jobs {
		j.Names, j.Cases = j.change.Names, j.change.Cases
		switch {
		case j.coll.UUID == "" || j.change.Left:
		case j.change.Properties == nil:
			j.Action = Unchanged
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

// write writes what is planned, after what it takes to undo it is safe.
func (r *run) write(ctx context.Context, jobs []*job) error {
	jobs = slices.DeleteFunc(slices.Clone(jobs), func(j *job) bool { return j.Action != Written })
	var undo []Undo
	after := map[*job]json.RawMessage{}
	for _, j := range jobs {
		if refused := r.refused.Load(); refused != nil {
			r.twin(j, *refused)
		}
		raw, err := json.Marshal(j.change.Properties)
		if err != nil {
			return err
		}
		after[j] = raw
		undo = append(undo, Undo{Collection: j.Collection, Before: j.coll.Raw, After: raw})
	}
	if err := r.Rollback.add(undo...); err != nil {
		return err
	}
	writers, ctx := errgroup.WithContext(ctx)
	writers.SetLimit(cmp.Or(r.Parallel, defaultParallel))
	for _, j := range jobs {
		writers.Go(func() error {
			if err := r.pace.wait(ctx); err != nil {
				return err
			}
			return r.writeOne(ctx, j, after[j])
		})
	}
	return writers.Wait()
}

// twin changes a job to keys that a strict vocabulary lets pass, if that is what
// the server has refused.
func (r *run) twin(j *job, refused error) bool {
	twinned, ok := dockerimage.WithTwins(j.change.Properties, refused)
	if ok {
		j.change.Properties = twinned
		j.Cases = append(j.Cases, Case{Kind: Twinned})
	}
	return ok
}

func (r *run) writeOne(ctx context.Context, j *job, after json.RawMessage) error {
	err := setProperties(ctx, r.API, j.Collection, after)
	if err != nil && r.twin(j, err) {
		r.refused.Store(&err)
		if after, err = json.Marshal(j.change.Properties); err != nil {
			return err
		}
		if err = r.Rollback.add(Undo{Collection: j.Collection, Before: j.coll.Raw, After: after}); err != nil {
			return err
		}
		err = setProperties(ctx, r.API, j.Collection, after)
	}
	if isRefusal(err) {
		j.Action, j.Names, j.Error = Failed, nil, err.Error()
		return nil
	}
	if err != nil {
		return apiFault("change collection", j.Collection, err)
	}
	return nil
}

// count counts what has become of a collection.
func (s *Summary) count(action Action, uuid, message string) {
	switch action {
	case Written, WouldWrite:
		s.Written++
	case Unchanged:
		s.Unchanged++
	case Left:
		s.Left++
	case Failed:
		s.Failed++
		s.LastFailure = uuid + ": " + message
	}
}
