// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"context"
	"errors"
	"maps"
	"slices"
)

// Late is a collection that somebody else had locked when its turn came.
type Late struct {
	Collection string   `json:"collection"`
	From       []string `json:"from,omitempty"` // heads of links that it inherits
}

// mostLate is how many collections are put off at most. They are in the resume file,
// which is written anew after each chunk.
const mostLate = 1000

// patience is how often changes are made anew in the end, when nothing else is left
// to do: for about a minute.
const patience = 9

// isTaken reports whether somebody else has a collection at the moment.
func isTaken(err error) bool { return errors.Is(err, ErrChanged) || errors.Is(err, ErrLocked) }

// putOff leaves a locked collection for the end, if there is room: others would have
// to wait for whoever has locked it.
func (r *run) putOff(j *job) bool {
	if len(r.Late) >= r.room || !errors.Is(j.taken, ErrLocked) {
		return false
	}
	r.Late = append(r.Late, Late{Collection: j.Collection, From: j.from})
	r.settled[j.Collection] = true
	return true
}

// doLate brings those collections to their end that were put off.
func (r *run) doLate(ctx context.Context) error {
	r.room = 0
	for len(r.Late) > 0 {
		some := r.Late[:min(r.pace.chunk(), len(r.Late))]
		only, heads := map[string]bool{}, map[string]bool{}
		for _, l := range some {
			only[l.Collection], heads[l.Collection] = true, true
			for _, head := range l.From {
				heads[head] = true
			}
		}
		var chunk []group
		for _, head := range slices.Sorted(maps.Keys(heads)) {
			links, err := r.Store.LinksTo(ctx, head)
			if err != nil {
				return err
			}
			chunk = append(chunk, group{head, links})
		}
		if err := r.settle(ctx, chunk, only, patience); err != nil {
			return err
		}
		r.Late = r.Late[len(some):]
		if err := r.pass(); err != nil {
			return err
		}
	}
	return nil
}
