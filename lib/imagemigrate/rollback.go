// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"slices"

	"git.arvados.org/arvados.git/lib/fault"
)

// Rollback undoes what a rollback file tells, the last change first. Properties that
// somebody has changed since stay as they are; all others get what they had, and a
// collection that nobody has touched since has exactly what it had, as far as the
// store can tell: the API knows numbers to 16 digits.
type Rollback struct {
	Store  Store
	Path   string // of the file; it is only read, and may be used again
	DryRun bool
	Rate   float64                   // writes a second at most; 0 for no limit
	Passed func(done, all int) error // is told how many lines are done
	Report func(Undone) error
}

// Undone is one line of the report of a rollback.
type Undone struct {
	Collection string   `json:"collection"`
	Action     Action   `json:"action"`         // Written, WouldWrite, Unchanged, Failed or Left
	Why        Kind     `json:"why,omitempty"`  // it is left
	Kept       []string `json:"kept,omitempty"` // keys that somebody has changed since
	Error      string   `json:"error,omitempty"`
}

// Run undoes it all, and counts.
func (r *Rollback) Run(ctx context.Context) (Summary, error) {
	lines, err := readRollback(r.Path)
	if err != nil {
		return Summary{}, err
	}
	defer lines.file.Close()
	b := &rollingBack{Rollback: r, lines: lines, pace: newPace(r.Rate), summary: Summary{Cases: map[Kind]int{}}, would: map[string]json.RawMessage{}}
	var batch []undoing
	seen := map[string]bool{}
	flush := func() error {
		err := b.undo(ctx, batch)
		batch = nil
		clear(seen)
		return err
	}
	for _, start := range slices.Backward(lines.starts) {
		line, err := lines.at(start)
		if err != nil {
			return b.summary, &fault.Error{Op: "read rollback file", Side: fault.Request, Subject: r.Path, Err: err}
		}
		// Two changes of one collection have an order.
		if seen[line.Collection] || len(batch) == b.pace.chunk() {
			if err := flush(); err != nil {
				return b.summary, err
			}
		}
		seen[line.Collection] = true
		batch = append(batch, undoing{Undo: line, start: start})
	}
	return b.summary, flush()
}

// rollingBack is a Rollback under way.
type rollingBack struct {
	*Rollback
	lines   *rollbackLines
	pace    *pace
	streak  streak
	summary Summary
	would   map[string]json.RawMessage // be there by now but for a dry run, where older changes of a collection build upon it
}

// undoing is a line on its way to be undone.
type undoing struct {
	Undo
	start  int64 // of the line
	undone Undone
	done   bool
}

// undo undoes changes of different collections, anew for what somebody has changed
// in between.
func (b *rollingBack) undo(ctx context.Context, batch []undoing) error {
	for attempt := 1; ; attempt++ {
		changed, err := b.try(ctx, batch)
		if err != nil {
			return err
		}
		if !changed || attempt == attempts {
			break
		}
		if err := sleep(ctx, pauseAfter(attempt)); err != nil {
			return err
		}
	}
	for _, u := range batch {
		b.summary.Heads++
		b.summary.count(u.undone.Action, u.Collection, u.undone.Error)
		if u.undone.Why != "" {
			b.summary.Cases[u.undone.Why]++
		}
		if b.Report != nil {
			if err := b.Report(u.undone); err != nil {
				return err
			}
		}
	}
	if b.Passed == nil {
		return nil
	}
	return b.Passed(b.summary.Heads, len(b.lines.starts))
}

// try undoes those changes of a batch that are not undone yet, and reports whether
// there are some that somebody is changing.
func (b *rollingBack) try(ctx context.Context, batch []undoing) (bool, error) {
	colls, frozen, err := b.read(ctx, batch)
	if err != nil {
		return false, err
	}
	gone, err := b.gone(ctx, batch, colls)
	if err != nil {
		return false, err
	}
	var changes []Planned
	var changing []*undoing
	for i := range batch {
		u := &batch[i]
		if u.done {
			continue
		}
		u.done = true
		coll, there := colls[u.Collection]
		u.undone = Undone{Collection: u.Collection, Action: Left}
		if !there {
			u.undone.Why = gone[u.Collection]
			continue
		}
		result, kept, err := u.from(coll)
		if err == nil {
			u.undone.Kept, err = b.keptSince(*u, coll, kept)
		}
		switch {
		case err != nil:
			return false, &fault.Error{Op: "read rollback file", Side: fault.Request, Subject: u.Collection, Err: err}
		case result == nil && coll.Obstacle != NoObject:
			u.undone.Action = Unchanged
		case coll.Obstacle != "":
			u.undone.Why = coll.Obstacle
		case frozen[coll.OwnerUUID]:
			u.undone.Why = Frozen
		case b.DryRun:
			u.undone.Action = WouldWrite
			if len(b.lines.of[u.Collection]) > 1 {
				b.would[u.Collection] = result
			}
		default:
			u.undone.Action = Written
			changes = append(changes, Planned{Undo{u.Collection, coll.Raw, result}, coll})
			changing = append(changing, u)
		}
	}
	if len(changes) == 0 {
		return false, nil
	}
	taken := false
	err = b.Store.Write(ctx, changes, b.pace.wait, func(i int, err error) error {
		u := changing[i]
		if err != nil {
			u.undone.Action, u.undone.Error = Failed, err.Error()
		}
		if isTaken(err) {
			u.done, taken = false, true
		}
		return b.streak.add(u.Collection, err)
	})
	return taken, err
}

// read reads the collections of a batch, and which of their owners are frozen.
func (b *rollingBack) read(ctx context.Context, batch []undoing) (map[string]Collection, map[string]bool, error) {
	var uuids []string
	for _, u := range batch {
		if !u.done {
			uuids = append(uuids, u.Collection)
		}
	}
	list, err := b.Store.Properties(ctx, uuids)
	if err != nil {
		return nil, nil, err
	}
	colls, owners := map[string]Collection{}, map[string]bool{}
	for _, coll := range list {
		if raw, ok := b.would[coll.UUID]; ok {
			coll.Raw = raw
			coll.Decode()
		}
		colls[coll.UUID] = coll
		owners[coll.OwnerUUID] = true
	}
	frozen, err := b.Store.Frozen(ctx, slices.Sorted(maps.Keys(owners)))
	return colls, frozen, err
}

// gone tells what has become of those collections of a batch that are not seen: what
// is in the trash may come back as it was migrated.
func (b *rollingBack) gone(ctx context.Context, batch []undoing, seen map[string]Collection) (map[string]Kind, error) {
	var missing []string
	for _, u := range batch {
		if _, there := seen[u.Collection]; !there && !u.done {
			missing = append(missing, u.Collection)
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	return b.Store.Gone(ctx, missing)
}

// keptSince are those of the keys that somebody has changed since, and not this
// program, which undoes the changes before this one as well, and may have done so
// before.
func (b *rollingBack) keptSince(u undoing, coll Collection, kept []string) ([]string, error) {
	if len(kept) == 0 {
		return nil, nil
	}
	for _, start := range b.lines.of[u.Collection] {
		if start >= u.start {
			break
		}
		older, err := b.lines.at(start)
		if err != nil {
			return nil, err
		}
		before, err := decode(older.Before)
		if err != nil {
			return nil, err
		}
		kept = slices.DeleteFunc(kept, func(key string) bool {
			was, had := before[key]
			is, has := coll.Properties[key]
			return has == had && reflect.DeepEqual(is, was)
		})
	}
	return kept, nil
}

// from is what a collection's properties are to be, nil if they are that already,
// and the keys that somebody has changed since.
func (u Undo) from(coll Collection) (json.RawMessage, []string, error) {
	before, err := decode(u.Before)
	if err != nil {
		return nil, nil, err
	}
	after, err := decode(u.After)
	if err != nil {
		return nil, nil, err
	}
	now := coll.Properties
	if reflect.DeepEqual(now, after) {
		return u.Before, nil, nil
	}
	result := map[string]interface{}{}
	maps.Copy(result, now)
	changed := false
	var kept []string
	// What a strict vocabulary refuses is in one of the two only.
	keys := map[string]interface{}{}
	maps.Copy(keys, before)
	maps.Copy(keys, after)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		was, had := before[key]
		is, has := now[key]
		wrote, gave := after[key]
		switch {
		case gave == had && reflect.DeepEqual(wrote, was): // not ours
		case has == had && reflect.DeepEqual(is, was): // is undone
		case has != gave || !reflect.DeepEqual(is, wrote):
			kept = append(kept, key)
		case had:
			result[key], changed = was, true
		default:
			delete(result, key)
			changed = true
		}
	}
	if !changed {
		return nil, kept, nil
	}
	raw, err := json.Marshal(result)
	return raw, kept, err
}
