// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"context"
	"time"
)

func init() { pause = time.Microsecond }

// Generated is a cluster in which all that is awkward comes together many times, for
// tests of other stores. A frozen one's project takes no changes.
func Generated(seed uint64, frozen bool) *server {
	s := many(seed)
	s.groups[0]["can_write"] = !frozen
	return s
}

// API is what an administrator sees of it.
func (s *server) API() *view { return &view{server: s} }

// Interrupted is a store in which something happens before each write.
type Interrupted struct {
	Store
	Before func([]Planned)
}

// Write calls Before first.
func (s *Interrupted) Write(ctx context.Context, changes []Planned, wait func(context.Context) error, done func(int, error) error) error {
	s.Before(changes)
	return s.Store.Write(ctx, changes, wait, done)
}

// Records are all collections or links.
func (s *server) Records(kind string) []record {
	return map[string][]record{"collections": s.collections, "links": s.links}[kind]
}
