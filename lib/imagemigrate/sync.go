// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// Sync keeps links and properties of images in step, for as long as some programs
// look at the ones and some at the others. It looks again and again at what was
// changed, and does with each image what a Migration does, and then ToLinks. So it
// adds on both sides, and removes on none.
type Sync struct {
	API dockerimage.API // as an administrator, who can read everything
	Rules
	Parallel int           // writes at a time; 0 means 4
	Rate     float64       // writes a second at most; 0 for no limit
	Rollback *RollbackFile // gets what is needed to undo changes of properties
	Every    time.Duration // between two looks; 0 means 10 seconds
	Overlap  time.Duration // see defaultOverlap, which 0 means
	// Start is where to begin: zero, which is with everything that there is,
	// or the SyncPosition of an earlier one. Passed is told of each that is
	// reached.
	Start  SyncPosition
	Passed func(SyncPosition) error
	Report func(Row) error // is told of what was written, and of failures
	Warn   func(error)     // is told of trouble that may pass
	Stats  SyncStats
}

// SyncPosition is how far a Sync has come. In JSON it is the content of the file by
// which one goes on.
type SyncPosition struct {
	Server string               `json:"server,omitempty"` // for whoever keeps it: which cluster it is in
	Until  map[string]time.Time `json:"until"`            // changes up to then have been dealt with, by kind
	Late   []string             `json:"late,omitempty"`   // but for these images, at which the server has failed
}

const (
	defaultEvery = 10 * time.Second
	// longestWait is the time between two looks while the API server does not
	// answer, at most.
	longestWait = 5 * time.Minute
	// defaultOverlap is how far each look goes back before the last change
	// that was seen. A record gets its modified_at when a transaction changes
	// it, and is seen when that ends; API servers give up requests after five
	// minutes (API.RequestTimeout). Clocks of several servers of one cluster
	// differ by less.
	defaultOverlap = 5 * time.Minute
)

// syncing is a Sync under way.
type syncing struct {
	*Sync
	SyncPosition
	properties *run
	links      *linking
	// seen are the changes within the overlap before the last one that have been
	// dealt with, by kind and UUID.
	seen   map[string]map[string]time.Time
	failed []string // images of this chunk that are to be tried again
	again  retrial
}

// Run ends without an error when ctx does, and with one if the API server does not
// take the token or something cannot be written here. Other trouble it sits out,
// with growing pauses.
func (s *Sync) Run(ctx context.Context) error {
	s.Every = cmp.Or(s.Every, defaultEvery)
	s.Overlap = cmp.Or(s.Overlap, defaultOverlap)
	y := s.begin()
	for wait := s.Every; ; {
		err := y.look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			wait = s.Every
			s.Stats.looked()
		case endsSync(err):
			return err
		default:
			s.Stats.failed()
			if s.Warn != nil {
				s.Warn(err)
			}
			wait = min(2*wait, max(longestWait, s.Every))
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// endsSync reports whether there is no point in waiting. Of what an API server
// answers that is only that it does not take the token: some versions of it tell
// trouble with their database in the same way as requests that are wrong.
func endsSync(err error) bool {
	var refused *arvados.TransactionError
	if errors.As(err, &refused) {
		return refused.StatusCode == http.StatusUnauthorized || refused.StatusCode == http.StatusForbidden
	}
	return fault.SideOf(err) != fault.API
}

// begin makes the two ways of which this consists, which share their pace.
func (s *Sync) begin() *syncing {
	pace, store := newPace(s.Rate), ByAPI(s.API, s.Parallel)
	y := &syncing{Sync: s, SyncPosition: s.Start, seen: map[string]map[string]time.Time{}}
	report := func(row Row) error {
		s.Stats.count(row)
		y.failed = append(y.failed, row.late...)
		if s.Report == nil || row.Action != Written && row.Action != Failed {
			return nil
		}
		return s.Report(row)
	}
	y.Until, y.Late = maps.Clone(s.Start.Until), slices.Clone(s.Start.Late)
	if y.Until == nil {
		y.Until = map[string]time.Time{}
	}
	y.properties = &run{
		Migration: &Migration{Store: store, Rules: s.Rules, Rollback: s.Rollback, Report: report},
		pace:      pace,
	}
	y.links = &linking{ToLinks: &ToLinks{API: s.API, Parallel: s.Parallel, Report: report}, store: store, pace: pace}
	y.properties.Summary.Cases, y.links.Summary.Cases = map[Kind]int{}, map[Kind]int{}
	return y
}

// look deals with all that was changed since the last time. A server that fails at one
// kind of records may not fail at the others.
func (y *syncing) look(ctx context.Context) error {
	now := time.Now()
	newest := map[string]time.Time{}
	for _, path := range []string{"links", "collections"} {
		var err error
		if newest[path], err = lastChange(ctx, y.API, path, now); err != nil {
			return err
		}
	}
	var trouble error // the first, which mostly is that of all
	for _, s := range streams() {
		err := y.follow(ctx, s, newest[s.path], now)
		if err != nil && (!isFailure(err) || endsSync(err)) {
			return err
		}
		trouble = cmp.Or(trouble, err)
	}
	return cmp.Or(trouble, y.tryAgain(ctx, now))
}

// follow deals with what was changed of one kind, of which the newest is given.
func (y *syncing) follow(ctx context.Context, s stream, newest, now time.Time) error {
	if y.seen[s.name] == nil {
		y.seen[s.name] = map[string]time.Time{}
	}
	seen := y.seen[s.name]
	from := y.Until[s.name]
	if !from.IsZero() {
		from = from.Add(-y.Overlap)
	}
	maps.DeleteFunc(seen, func(_ string, at time.Time) bool { return !at.After(from) })
	var chunk []touched
	for c, err := range s.changes(ctx, y.API, from) {
		if err != nil {
			return err
		}
		if seen[c.UUID].Equal(c.ModifiedAt) {
			continue
		}
		if chunk = append(chunk, c); len(chunk) == y.links.pace.chunk() {
			if err := y.deal(ctx, s, chunk, newest, now); err != nil {
				return err
			}
			chunk = nil
		}
	}
	if err := y.deal(ctx, s, chunk, newest, now); err != nil {
		return err
	}
	// Whatever there was up to the last change of all has come by, also where
	// none of it is of this kind.
	if !y.reach(s, newest) {
		return nil
	}
	y.Stats.changed(s.name, 0, y.Until[s.name])
	return y.pass()
}

// lastChange is when a record was changed last, by the clock of the server, but
// before now; zero if there is none. What is later is by a clock that is wrong.
func lastChange(ctx context.Context, api dockerimage.API, path string, now time.Time) (time.Time, error) {
	limit := 1
	var list struct{ Items []touched }
	err := api.RequestAndDecodeContext(ctx, &list, http.MethodGet, "arvados/v1/"+path, nil, arvados.ResourceListParams{
		Filters: []arvados.Filter{{Attr: "modified_at", Operator: "<", Operand: now.UTC().Format(time.RFC3339Nano)}},
		Select:  []string{"uuid", "modified_at"}, Order: "modified_at desc", Limit: &limit, Count: "none",
	})
	if err != nil {
		return time.Time{}, apiFault("list changes of", path, err)
	}
	if len(list.Items) == 0 {
		return time.Time{}, nil
	}
	return list.Items[0].ModifiedAt, nil
}

// reach notes that changes of a kind have been dealt with up to a time, and reports
// whether that is news.
func (y *syncing) reach(s stream, until time.Time) bool {
	if !until.After(y.Until[s.name]) {
		return false
	}
	y.Until[s.name] = until
	return true
}

// pass tells how far this has come.
func (y *syncing) pass() error {
	if y.Passed == nil {
		return nil
	}
	return y.Passed(y.SyncPosition)
}

// deal brings the images into step that some changes are about.
func (y *syncing) deal(ctx context.Context, s stream, chunk []touched, newest, now time.Time) error {
	if len(chunk) == 0 {
		return nil
	}
	var images []string
	for _, c := range chunk {
		images = append(images, c.image())
	}
	slices.Sort(images)
	if err := y.bring(ctx, slices.Compact(images)); err != nil {
		return err
	}
	for _, c := range chunk {
		if !c.ModifiedAt.After(now) { // else by a clock that is wrong
			y.reach(s, c.ModifiedAt)
		}
	}
	// Nothing older comes by again once all has come by. What this look writes
	// itself comes by after the newest that it has begun with.
	edge := newest
	if until := y.Until[s.name]; until.After(newest) {
		edge = until
	}
	seen := y.seen[s.name]
	for _, c := range chunk {
		seen[c.UUID] = c.ModifiedAt
	}
	maps.DeleteFunc(seen, func(_ string, at time.Time) bool { return !at.After(edge.Add(-y.Overlap)) })
	y.Stats.changed(s.name, len(chunk), y.Until[s.name])
	return y.pass()
}

// bring brings images into step: properties first, so that what links imply by
// these is written at once, and nothing is left to do when this is seen as a
// change itself.
func (y *syncing) bring(ctx context.Context, images []string) error {
	y.failed = nil
	links, err := linksTo(ctx, y.API, images)
	if err != nil {
		return err
	}
	var heads []group
	var here []string
	for _, image := range images {
		head := group{key: image, links: links[image]}
		heads = append(heads, head)
		if head.isLocalCollection() {
			here = append(here, image)
		}
	}
	if err := y.properties.do(ctx, heads); err != nil {
		return err
	}
	colls, err := y.properties.Store.Collections(ctx, "uuid", here)
	if err != nil {
		return err
	}
	if err := y.links.do(ctx, colls); err != nil {
		return err
	}
	return y.brought(images)
}
