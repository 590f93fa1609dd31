// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// defaultParallel is how many writes are under way at a time. API servers have
// more to do.
const defaultParallel = 4

// Run goes through all links. It ends with an error if the API server does not
// answer, cannot take the token or something cannot be written here; collections
// that the server refuses to change are in the report, and counted.
func (m *Migration) Run(ctx context.Context) (Summary, error) {
	r := &run{Migration: m, Position: m.Start, pace: newPace(m.Rate), twins: m.Strict}
	r.Summary.Cases = maps.Clone(m.Start.Summary.Cases)
	if r.Summary.Cases == nil {
		r.Summary.Cases = map[Kind]int{}
	}
	var chunk []group
	for links, err := range r.Store.Heads(ctx, r.After) {
		if err != nil {
			return r.Summary, err
		}
		if chunk = append(chunk, group{links[0].HeadUUID, links}); len(chunk) == r.pace.chunk() {
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
	// twins are written once a server has refused keys because its vocabulary
	// is strict.
	twins bool
	told  map[string]told // what images tell, by job.content
}

// job is one collection, or what else links point to.
type job struct {
	Row
	coll    Collection
	change  Change
	changed bool // somebody has changed the collection since it was read
}

// do brings some heads to their end.
func (r *run) do(ctx context.Context, chunk []group) error {
	if len(chunk) == 0 {
		return nil
	}
	jobs, err := r.settle(ctx, chunk)
	if err != nil {
		return err
	}
	r.Summary.Heads += len(chunk)
	for _, g := range chunk {
		r.Summary.Links += len(g.links)
	}
	for _, j := range jobs {
		if err := r.Summary.tell(j.Row, r.Report); err != nil {
			return err
		}
	}
	r.After = chunk[len(chunk)-1].key
	if r.Passed == nil {
		return nil
	}
	return r.Passed(r.Position)
}

// attempts are how often changes are made anew for collections that somebody else
// is changing, and pause is the time between them.
const (
	attempts = 5
	pause    = 200 * time.Millisecond
)

// settle plans and writes, anew for what somebody has changed in between.
func (r *run) settle(ctx context.Context, chunk []group) ([]*job, error) {
	settled := map[string]*job{}
	r.told = map[string]told{}
	for attempt := 1; ; attempt++ {
		jobs, err := r.learned(ctx, chunk)
		if err == nil {
			err = r.decide(ctx, jobs)
		}
		if err != nil {
			return nil, err
		}
		for i, j := range jobs {
			if was := settled[j.Collection]; was != nil {
				jobs[i] = was
			}
		}
		todo := slices.DeleteFunc(slices.Clone(jobs), func(j *job) bool { return j.Action != Written || settled[j.Collection] != nil })
		if err := r.write(ctx, todo); err != nil {
			return nil, err
		}
		changed := slices.ContainsFunc(jobs, func(j *job) bool { return j.changed })
		if !changed || attempt == attempts {
			return jobs, nil
		}
		for _, j := range jobs {
			if !j.changed {
				settled[j.Collection] = j
			}
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
	}
}

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
		jobs = append(jobs, &job{
			Row:    Row{Collection: coll.UUID, Owner: coll.OwnerUUID, Action: Left},
			coll:   coll,
			change: r.Plan(coll.Collection, own, inherited[coll.PortableDataHash]),
		})
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

// write writes what is planned, after what it takes to undo it is safe.
func (r *run) write(ctx context.Context, jobs []*job) error {
	if len(jobs) == 0 {
		return nil
	}
	var changes []Planned
	var undo []Undo
	for _, j := range jobs {
		if r.twins {
			j.twin()
		}
		raw, err := json.Marshal(j.change.Properties)
		if err != nil {
			return err
		}
		undo = append(undo, Undo{Collection: j.Collection, Before: j.coll.Raw, After: raw})
		changes = append(changes, Planned{undo[len(undo)-1], j.coll})
	}
	if err := r.Rollback.add(undo...); err != nil {
		return err
	}
	refusals, err := r.Store.Write(ctx, changes, r.pace.wait)
	if err != nil {
		return err
	}
	// Those that a strict vocabulary has refused are written in its form.
	known := r.twins
	var again []*job
	for i, j := range jobs {
		err := refusals[i]
		_, twinned := dockerimage.Twinned(j.change.Properties)
		j.changed = errors.Is(err, ErrChanged)
		switch {
		case err == nil:
		case !known && twinned && dockerimage.RefusesKeys(err):
			r.twins = true
			again = append(again, j)
		default:
			j.Action, j.Names, j.Error = Failed, nil, err.Error()
		}
	}
	return r.write(ctx, again)
}

// twin changes a job to keys that a strict vocabulary lets pass, also where the
// collection has the others from before: servers look at all properties that they
// are given.
func (j *job) twin() {
	if twinned, ok := dockerimage.Twinned(j.change.Properties); ok {
		j.change.Properties = twinned
		j.Cases = append(j.Cases, Case{Kind: Twinned})
	}
}

// tell counts what has become of a collection, and reports it to whoever asks.
func (s *Summary) tell(row Row, report func(Row) error) error {
	s.count(row.Action, row.Collection, row.Error)
	s.NewLinks += len(row.Links)
	for _, c := range row.Cases {
		s.Cases[c.Kind]++
	}
	if report == nil {
		return nil
	}
	return report(row)
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
