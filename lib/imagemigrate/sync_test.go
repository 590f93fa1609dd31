// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"gopkg.in/check.v1"
)

type syncSuite struct {
	ctx  context.Context
	s    *server
	rows []Row
}

var _ = check.Suite(&syncSuite{ctx: context.Background()})

func (t *syncSuite) SetUpTest(*check.C) {
	t.s = &server{groups: []record{{"uuid": project, "can_write": true, "owner_uuid": project}}}
	t.rows = nil
}

// sync is one of the test's server, whose clock goes by hours.
func (t *syncSuite) sync(c *check.C) *Sync {
	return &Sync{
		API: &view{server: t.s}, Rollback: rollbackFile(c), Every: time.Millisecond, Overlap: 3 * time.Hour,
		Report: func(row Row) error { t.rows = append(t.rows, row); return nil },
		Passed: func(SyncPosition) error { return nil },
		Warn:   func(err error) { c.Error(err) },
	}
}

func (t *syncSuite) look(c *check.C, y *syncing) { c.Assert(y.look(t.ctx), check.IsNil) }

// names are those that a collection has by its properties.
func (s *server) names(uuid string) []string { return parsed(s.get(uuid)) }

func parsed(coll record) []string {
	properties, _ := coll["properties"].(record)
	switch names := properties[keyNames].(type) {
	case string:
		return []string{names}
	case []interface{}:
		var all []string
		for _, name := range names {
			all = append(all, name.(string))
		}
		return all
	}
	return nil
}

// Names given on one side come to the other, and nothing that it has written makes
// it write again.
func (t *syncSuite) TestBothWays(c *check.C) {
	linked := t.s.image(alice, 1, nil)
	t.s.link(alice, classHash, "sha256:"+hexOf(1), linked, made)
	t.s.link(alice, className, "lab/app:1", linked, made)
	described := t.s.image(alice, 2, record{keyNames: "lab/app:2"})
	other := t.s.collection(alice, manifestOf("README"), record{"type": "output"})
	s := t.sync(c)
	y := s.begin()
	t.look(c, y)
	c.Check(t.s.names(linked), check.DeepEquals, []string{"lab/app:1"})
	c.Check(t.s.linksOf(described), check.DeepEquals, []string{
		alice + " docker_image_hash sha256:" + hexOf(2) + " <nil>", alice + " docker_image_repo+tag lab/app:2 <nil>"})
	c.Check(t.s.writes, check.Equals, 4) // two of properties, two links
	for range 3 {
		t.look(c, y)
	}
	c.Check(t.s.writes, check.Equals, 4)

	// Later changes.
	t.s.link(bob, className, "lab/app:3", linked, made)
	properties := t.s.get(described)["properties"].(record)
	properties[keyNames] = []interface{}{"lab/app:2", "lab/app:4"}
	t.s.get(described)["modified_at"] = t.s.tick()
	t.look(c, y)
	c.Check(t.s.names(linked), check.DeepEquals, []string{"lab/app:3", "lab/app:1"})
	c.Check(t.s.linksOf(described), check.HasLen, 3)
	// One of properties, the owner's own link for what bob says, and one link.
	c.Check(t.s.writes, check.Equals, 7)
	for range 3 {
		t.look(c, y)
	}
	c.Check(t.s.writes, check.Equals, 7)
	c.Check(t.s.get(other)["properties"], check.DeepEquals, record{"type": "output"})
	for _, row := range t.rows {
		c.Check(row.Action, check.Equals, Written)
	}
}

// Where names by others are left out, they are on neither side, and counted.
func (t *syncSuite) TestOwnNamesOnly(c *check.C) {
	uuid := t.s.image(project, 1, nil)
	t.s.link(project, className, "lab/app:1", uuid, made)
	t.s.link(bob, className, "lab/app:2", uuid, made)
	s := t.sync(c)
	s.OwnNamesOnly = true
	y := s.begin()
	t.look(c, y)
	t.look(c, y)
	c.Check(t.s.names(uuid), check.DeepEquals, []string{"lab/app:1"})
	c.Check(t.s.linksOf(uuid), check.HasLen, 3) // those and the one with the hash
	c.Check(s.Stats.others > 0, check.Equals, true)
}

// What it has dealt with is not asked for again within the overlap.
func (t *syncSuite) TestQuiet(c *check.C) {
	for n := range 40 {
		t.s.link(alice, className, fmt.Sprintf("lab/app:%d", n), t.s.image(alice, n, nil), made)
	}
	s := t.sync(c)
	s.Overlap = 1000 * time.Hour
	y := s.begin()
	t.look(c, y)
	t.look(c, y)
	t.s.asked = 0
	t.look(c, y)
	c.Check(t.s.asked, check.Equals, 2+len(streams()))
}

// What was changed long ago is not asked for again, neither where nothing at all was
// changed in that way, nor where all of it was changed after the look began that
// has dealt with it, as what a look has written itself.
func (t *syncSuite) TestComesForward(c *check.C) {
	for n := range 40 {
		t.s.link(alice, className, fmt.Sprintf("lab/app:%d", n), t.s.image(alice, n, nil), made)
	}
	s := t.sync(c)
	passed := SyncPosition{}
	s.Passed = func(at SyncPosition) error {
		passed = SyncPosition{Until: maps.Clone(at.Until)}
		return nil
	}
	y := s.begin()
	t.look(c, y)
	for _, stream := range streams() { // by markers all are found
		c.Check(passed.Until[stream.name].IsZero(), check.Equals, false, check.Commentf("%s", stream.name))
	}
	t.look(c, y)
	for name := range y.Until {
		y.Until[name] = start
	}
	s.Overlap = 1000 * time.Hour
	t.look(c, y)
	newest, err := lastChange(t.ctx, s.API, "collections", time.Now())
	c.Assert(err, check.IsNil)
	c.Check(newest.After(start), check.Equals, true)
	c.Check(y.Until["arv:docker-image"], check.Equals, newest)
	c.Check(passed.Until, check.DeepEquals, y.Until)
	s.Overlap = 3 * time.Hour
	t.s.widest, t.s.writes = 0, 0
	t.look(c, y)
	c.Check(t.s.widest <= 3, check.Equals, true, check.Commentf("%d", t.s.widest))
	c.Check(len(y.seen["arv:docker-image"]) <= 3, check.Equals, true)
	c.Check(t.s.writes, check.Equals, 0)
}

// In clusters in which all that is awkward comes together it ends in a state in
// which nothing is left to do by any way, however often it starts anew.
func (t *syncSuite) TestSettles(c *check.C) {
	for seed := range uint64(9) {
		t.s = many(100 + seed)
		t.s.strict = seed%3 == 0
		t.s.page = []int{0, 3, 7}[seed%3]
		s := t.sync(c)
		s.OwnNamesOnly = seed%2 == 1
		t.look(c, s.begin())
		t.s.written = nil
		// Replacements of old images get names by links of others; their own
		// links come by the next look.
		y := s.begin()
		t.look(c, y)
		first := t.s.written
		t.s.written = nil
		t.look(c, y)
		c.Check(t.s.written, check.HasLen, 0, check.Commentf("seed %d, before: %v", seed, first))
		t.look(c, s.begin())
		m := &Migration{Store: ByAPI(s.API, 0), Rules: s.Rules, Rollback: s.Rollback}
		_, err := m.Run(t.ctx)
		c.Assert(err, check.IsNil)
		_, err = (&ToLinks{API: s.API}).Run(t.ctx)
		c.Assert(err, check.IsNil)
		c.Check(t.s.written, check.HasLen, 0, check.Commentf("seed %d", seed))
	}
}

// Changes that become visible late, and times from a clock that is wrong.
func (t *syncSuite) TestLateAndOdd(c *check.C) {
	early := t.s.image(alice, 1, record{keyNames: "lab/app:1"})
	hidden := t.s.collections
	t.s.collections = nil
	t.s.tick()
	late := t.s.collection(alice, manifestOf("sha256:"+hexOf(2)+".tar"), record{keyNames: "lab/app:2"})
	t.s.get(late)["uuid"] = "zzzzz-4zz18-late00000000000"
	y := t.sync(c).begin()
	t.look(c, y)
	t.s.collections = append(t.s.collections, hidden...)
	t.look(c, y)
	c.Check(t.s.linksOf(early), check.HasLen, 2)

	ahead := t.s.image(alice, 3, record{keyNames: "lab/app:3"})
	t.s.get(ahead)["modified_at"] = "2999-01-01T00:00:00Z"
	t.look(c, y)
	c.Check(t.s.linksOf(ahead), check.HasLen, 2)
	next := t.s.image(alice, 4, record{keyNames: "lab/app:4"})
	t.s.get(next)["modified_at"] = time.Now().UTC().Format(time.RFC3339Nano)
	t.look(c, y)
	c.Check(t.s.linksOf(next), check.HasLen, 2)
}

// A whole page of one instant is no obstacle.
func (t *syncSuite) TestOneInstant(c *check.C) {
	for n := range 25 {
		uuid := t.s.image(alice, n, record{keyNames: fmt.Sprintf("lab/app:%d", n)})
		if n > 3 && n < 20 {
			t.s.get(uuid)["modified_at"] = start.Add(4 * time.Hour).Format(time.RFC3339Nano)
		}
	}
	for _, page := range []int{1, 2, 4, 5, 16, 25, 0} {
		t.s.page = page
		var got []string
		for change, err := range streams()[2].changes(t.ctx, &view{server: t.s}, time.Time{}) {
			c.Assert(err, check.IsNil)
			got = append(got, change.UUID)
		}
		c.Check(got, check.HasLen, 25, check.Commentf("pages of %d", page))
		slices.Sort(got)
		c.Check(slices.Compact(got), check.HasLen, 25)
	}
}

// Wherever it is stopped, it goes on from there, and comes to the same end.
func (t *syncSuite) TestStoppedAnywhere(c *check.C) {
	// The order of names is that in which it has come by those of images that
	// others have replaced, and means nothing.
	state := func(s *server) (all []string) {
		for _, coll := range s.collections {
			names := parsed(coll)
			slices.Sort(names)
			all = append(all, fmt.Sprint(coll["uuid"], s.linksOf(coll.text("uuid")), names))
		}
		return all
	}
	settle := func(y *syncing) error {
		err := y.look(t.ctx)
		if err == nil {
			err = y.look(t.ctx)
		}
		return err
	}
	t.s = many(3)
	c.Assert(settle(t.sync(c).begin()), check.IsNil)
	want, requests := state(t.s), t.s.asked
	dir := c.MkDir()
	for stop := 1; stop < requests; stop += 1 + requests/12 {
		t.s = many(3)
		path := filepath.Join(dir, fmt.Sprint(stop))
		for attempt, done := 0, false; !done; attempt++ {
			left := stop
			if attempt > 2 {
				left = 10 * requests
			}
			t.s.refuse = func(string, string) error {
				if left--; left < 0 {
					return errStopped
				}
				return nil
			}
			s := t.sync(c)
			var err error
			s.Start, err = LoadSyncPosition(path)
			c.Assert(err, check.IsNil)
			s.Passed = func(p SyncPosition) error { return p.Save(path) }
			err = settle(s.begin())
			done = err == nil
			c.Assert(done || errors.Is(err, errStopped), check.Equals, true)
		}
		for i, got := range state(t.s) {
			c.Assert(got, check.Equals, want[i], check.Commentf("stopped after %d requests", stop))
		}
	}
}

// Trouble of the server is sat out, also where it looks like a wrong request. A token
// that is not taken and trouble here end it; so does ctx, without an error.
func (t *syncSuite) TestRun(c *check.C) {
	uuid := t.s.image(alice, 1, record{keyNames: "lab/app:1"})
	ctx, cancel := context.WithCancel(t.ctx)
	s := t.sync(c)
	var warned []error
	s.Warn = func(err error) { warned = append(warned, err) }
	asked := 0
	t.s.refuse = func(string, string) error {
		switch asked++; {
		case asked <= 4:
			return refusal([]int{429, 503, 500, 422}[asked-1], "busy")
		case len(t.s.linksOf(uuid)) == 2:
			cancel()
		}
		return nil
	}
	c.Check(s.Run(ctx), check.IsNil)
	c.Check(warned, check.HasLen, 4)
	c.Check(fault.Transient(warned[0]), check.Equals, true)
	c.Check(t.s.linksOf(uuid), check.HasLen, 2)

	w := httptest.NewRecorder()
	s.Stats.ServeHTTP(w, nil)
	text := w.Body.String()
	c.Check(w.Header().Get("Content-Type"), check.Equals, "text/plain; version=0.0.4; charset=utf-8")
	for _, line := range []string{"looks_total 4", "failed_looks_total 4", "properties_written_total 1", "links_written_total 2", "refused_total 0",
		"names_by_others_total 0", "last_look_timestamp_seconds 0", `changes_total{kind="docker-image-repo-tag"} 1`} {
		c.Check(strings.Contains(text, "\narv_docker_sync_"+line+"\n"), check.Equals, true, check.Commentf("%s in\n%s", line, text))
	}
	for _, status := range []int{401, 403} {
		t.s.refuse = func(string, string) error { return refusal(status, "who?") }
		c.Check(t.sync(c).Run(t.ctx), check.ErrorMatches, fmt.Sprintf("api: .*%d.*who.*", status))
	}
	s = t.sync(c)
	s.Passed = func(SyncPosition) error { return errStopped }
	t.s.refuse = nil
	c.Check(s.Run(t.ctx), check.Equals, errStopped)

	// Nobody has to listen.
	ctx, cancel = context.WithCancel(t.ctx)
	next := t.s.image(alice, 2, record{keyNames: "lab/app:2"})
	asked = 0
	t.s.refuse = func(string, string) error {
		switch asked++; {
		case asked == 1:
			return refusal(503, "busy")
		case len(t.s.linksOf(next)) == 2:
			cancel()
		}
		return nil
	}
	quiet := &Sync{API: s.API, Rollback: s.Rollback, Every: time.Millisecond}
	c.Check(quiet.Run(ctx), check.IsNil)
	c.Check(t.s.linksOf(next), check.HasLen, 2)
}

func (t *syncSuite) TestPosition(c *check.C) {
	path := filepath.Join(c.MkDir(), "state")
	none, err := LoadSyncPosition(path)
	c.Check(err, check.IsNil)
	c.Check(none, check.DeepEquals, SyncPosition{})
	p := SyncPosition{Server: "x.example", Until: map[string]time.Time{"links": start}}
	c.Assert(p.Save(path), check.IsNil)
	loaded, err := LoadSyncPosition(path)
	c.Check(err, check.IsNil)
	c.Check(loaded, check.DeepEquals, p)
}
