// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtin

import (
	"context"
	"maps"
	"sync"
	"time"
)

// statusInterval is the least time between two updates of runtime_status.
const statusInterval = 3 * time.Second

// Status is a container's runtime_status. The API replaces the whole hash at
// each update, so this is the one place that knows all of it.
type Status struct {
	mtx    sync.Mutex
	fields map[string]string
	dirty  bool
}

// Activity says what goes on, in a few words. It is sent before long, or not
// at all if something newer comes first.
func (s *Status) Activity(text string) { s.set("activity", text) }

// Error says why the container failed.
func (s *Status) Error(text string) { s.set("error", text) }

func (s *Status) set(key, text string) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	if s.fields == nil {
		s.fields = map[string]string{}
	}
	s.dirty = s.dirty || s.fields[key] != text
	s.fields[key] = text
}

// Final is what the last update says: no activity any more.
func (s *Status) Final() map[string]string {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	last := maps.Clone(s.fields)
	delete(last, "activity")
	return last
}

// Follow calls update with each new state of s until ctx ends.
func (s *Status) Follow(ctx context.Context, update func(map[string]string) error) {
	tick := time.NewTicker(statusInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mtx.Lock()
		dirty, fields := s.dirty, maps.Clone(s.fields)
		s.dirty = false
		s.mtx.Unlock()
		if dirty && update(fields) != nil {
			s.mtx.Lock()
			s.dirty = true // try again
			s.mtx.Unlock()
		}
	}
}
