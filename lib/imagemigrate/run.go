// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
)

// defaultParallel is how many writes are under way at a time. API servers have
// more to do.
const defaultParallel = 4

// Run goes through all links. It ends with an error if the API server does not
// answer, cannot take the token, fails at one write after the other, or something
// cannot be written here; collections that the server refuses to change, or fails to,
// are in the report, and counted.
func (m *Migration) Run(ctx context.Context) (Summary, error) {
	r := &run{Migration: m, Position: m.Start, pace: newPace(m.Rate), twins: m.Strict, room: mostLate}
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
	if err := r.do(ctx, chunk); err != nil {
		return r.Summary, err
	}
	return r.Summary, r.doLate(ctx)
}

// run is a Migration under way.
type run struct {
	*Migration
	Position
	pace   *pace
	streak streak
	room   int // how many collections may be put off
	// twins are written once a server has refused keys because its vocabulary
	// is strict.
	twins   bool
	told    map[string]told // what images tell, by job.content
	settled map[string]bool // collections of the chunk that are done
}

// job is one collection, or what else links point to.
type job struct {
	Row
	coll   Collection
	change Change
	from   []string // heads whose links it inherits
	taken  error    // ErrChanged or ErrLocked, and it is not written
}

// do brings some heads to their end.
func (r *run) do(ctx context.Context, chunk []group) error {
	if len(chunk) == 0 {
		return nil
	}
	if err := r.settle(ctx, chunk, nil, attempts); err != nil {
		return err
	}
	r.Summary.Heads += len(chunk)
	for _, g := range chunk {
		r.Summary.Links += len(g.links)
	}
	r.After = chunk[len(chunk)-1].key
	return r.pass()
}

// pass tells how far this has come.
func (r *run) pass() error {
	if r.Passed == nil {
		return nil
	}
	return r.Passed(r.Position)
}

// attempts are how often changes are made anew for collections that somebody else
// is changing.
const attempts = 5

// pause is the time before the second attempt. It doubles with each. Tests do not
// wait.
var pause = 200 * time.Millisecond

// pauseAfter is the time after that attempt.
func pauseAfter(attempt int) time.Duration { return pause << (attempt - 1) }

// settle plans and writes, anew for what somebody has changed in between. It tells
// what has become of each collection as soon as that is known; of some only, if they
// are given.
func (r *run) settle(ctx context.Context, chunk []group, only map[string]bool, attempts int) error {
	r.told, r.settled = map[string]told{}, map[string]bool{}
	for attempt := 1; ; attempt++ {
		jobs, err := r.learned(ctx, chunk)
		if err == nil {
			err = r.decide(ctx, jobs)
		}
		if err != nil {
			return err
		}
		jobs = slices.DeleteFunc(jobs, func(j *job) bool { return r.settled[j.Collection] || only != nil && !only[j.Collection] })
		var todo []*job
		for _, j := range jobs {
			if j.Action == Written {
				todo = append(todo, j)
			} else if err := r.tell(j); err != nil {
				return err
			}
		}
		if err := r.write(ctx, todo); err != nil {
			return err
		}
		taken := slices.DeleteFunc(todo, func(j *job) bool { return j.taken == nil || r.putOff(j) })
		if len(taken) == 0 {
			return nil
		}
		if attempt == attempts {
			for _, j := range taken {
				j.fail(j.taken)
				if err := r.tell(j); err != nil {
					return err
				}
			}
			return nil
		}
		if err := sleep(ctx, pauseAfter(attempt)); err != nil {
			return err
		}
	}
}

// tell tells what has become of a collection, after which nothing more does.
func (r *run) tell(j *job) error {
	r.settled[j.Collection] = true
	return r.Summary.tell(j.Row, r.Report)
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
	// Those that a strict vocabulary has refused are written in its form.
	known := r.twins
	var again []*job
	err := r.Store.Write(ctx, changes, r.pace.wait, func(i int, err error) error {
		j := jobs[i]
		_, twinned := dockerimage.Twinned(j.change.Properties)
		switch {
		case isTaken(err):
			j.taken = err
			return nil
		case !known && twinned && dockerimage.RefusesKeys(err):
			r.twins = true
			again = append(again, j)
			return nil
		case err != nil:
			j.fail(err)
		}
		if err := r.tell(j); err != nil {
			return err
		}
		return r.streak.add(j.Collection, err)
	})
	if err != nil {
		return err
	}
	return r.write(ctx, again)
}

// fail notes why a job cannot be done.
func (j *job) fail(err error) {
	j.Action, j.Names, j.Error = Failed, nil, err.Error()
	if isFailure(err) {
		j.late = append([]string{j.Collection}, j.from...)
	}
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
