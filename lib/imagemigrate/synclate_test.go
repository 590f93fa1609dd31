// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gopkg.in/check.v1"
)

// An image at which the server fails holds up nothing, and is tried again until the
// server does not fail at it any more, also by the next one that goes on from there.
func (t *syncSuite) TestOneFailure(c *check.C) {
	for _, method := range []string{"PATCH", "POST"} {
		t.SetUpTest(c)
		properties := record{keyNames: "lab/own:1", keyHash: "sha256:" + hexOf(1), "arv:docker-image": "1"}
		bad := t.s.image(alice, 1, properties)
		if method == "PATCH" {
			t.s.link(alice, className, "lab/app:1", bad, made)
		}
		var good []string
		for n := range 30 {
			good = append(good, t.s.image(alice, n+2, nil))
			t.s.link(alice, className, "lab/app:1", good[n], made)
			t.s.link(alice, classHash, "sha256:"+hexOf(n+2), good[n], made)
		}
		failing, tried := true, 0
		t.s.refuse = func(m, path string) error {
			if m != method || m == "PATCH" && !strings.HasSuffix(path, bad) || !failing {
				return nil
			}
			tried++ // links are made to this one only
			return refusal(503, "busy")
		}
		path := filepath.Join(c.MkDir(), "state")
		s := t.sync(c)
		s.Passed = func(p SyncPosition) error { return p.Save(path) }
		y := s.begin()
		t.look(c, y)
		for _, uuid := range good {
			c.Check(t.s.names(uuid), check.DeepEquals, []string{"lab/app:1"})
			c.Check(t.s.linksOf(uuid), check.HasLen, 2)
		}
		c.Check(y.Late, check.DeepEquals, []string{bad}, check.Commentf("%s", method))
		c.Check(s.Stats.refused, check.Equals, tried)

		// The time for it grows, but for what has changed besides.
		c.Check(y.again.wait, check.Equals, s.Every)
		y.again.at = time.Now().Add(time.Hour)
		t.look(c, y)
		for range 3 {
			before, wait := tried, y.again.wait
			y.again.at = time.Now().Add(time.Hour)
			t.look(c, y)
			c.Check(tried, check.Equals, before)
			y.again.at = start
			t.look(c, y)
			c.Check(tried, check.Equals, before+1)
			c.Check(y.again.wait, check.Equals, 2*wait)
			c.Check(y.Late, check.DeepEquals, []string{bad})
		}
		y.again = retrial{wait: longestRetrial, at: start}
		t.look(c, y)
		c.Check(y.again.wait, check.Equals, longestRetrial)

		failing = false
		next := t.sync(c)
		var err error
		next.Start, err = LoadSyncPosition(path)
		c.Assert(err, check.IsNil)
		c.Check(next.Start.Late, check.DeepEquals, []string{bad})
		y = next.begin()
		t.look(c, y)
		y.again.at = start
		t.look(c, y)
		c.Check(y.Late, check.HasLen, 0)
		c.Check(t.s.linksOf(bad), check.HasLen, map[string]int{"PATCH": 3, "POST": 2}[method])
		t.look(c, y)
		c.Check(y.again, check.Equals, retrial{})
	}
}

// A name that comes from an image that another has replaced is not lost either.
func (t *syncSuite) TestFailureOfReplacement(c *check.C) {
	old := t.s.collection(alice, manifestOf(hexOf(1)+".tar"), nil)
	replacement := t.s.image(alice, 2, nil)
	t.s.link(alice, className, "lab/old:1", old, made)
	t.s.link(system, classMigration, "migrate_1.9_1.10", t.s.get(replacement).text("portable_data_hash"), nil)
	t.s.links[1]["tail_uuid"] = t.s.get(old)["portable_data_hash"]
	failing := true
	t.s.refuse = func(method, _ string) error {
		if method == "PATCH" && failing {
			return refusal(500, "busy")
		}
		return nil
	}
	y := t.sync(c).begin()
	t.look(c, y)
	want := []string{old, replacement}
	slices.Sort(want)
	c.Check(y.Late, check.DeepEquals, want)
	failing = false
	y.again.at = start
	t.look(c, y)
	c.Check(t.s.names(replacement), check.DeepEquals, []string{"lab/old:1"})
	c.Check(y.Late, check.HasLen, 0)
}

// Where the server fails at one kind of records, the others are dealt with, and that
// one is as soon as it can be.
func (t *syncSuite) TestOneStreamFails(c *check.C) {
	linked := t.s.image(alice, 1, nil)
	t.s.link(alice, className, "lab/app:1", linked, made)
	described := t.s.image(alice, 2, record{keyNames: "lab/app:2"})
	failing := true
	t.s.refuse = func(_, path string) error {
		// The first to ask for links is the last change, the second that stream.
		if failing && t.s.asked == 3 && strings.HasSuffix(path, "/links") {
			return refusal(503, "busy")
		}
		return nil
	}
	y := t.sync(c).begin()
	c.Check(y.look(t.ctx), check.ErrorMatches, "api: list changes of links: .*busy.*")
	c.Check(t.s.linksOf(described), check.HasLen, 2)
	c.Check(y.Until["links"].IsZero(), check.Equals, true)
	c.Check(t.s.names(linked), check.HasLen, 0)
	failing = false
	t.look(c, y)
	c.Check(t.s.names(linked), check.DeepEquals, []string{"lab/app:1"})

	// A server that does not answer at all, or not to this token, is not asked
	// for each of them.
	for _, answer := range []error{errStopped, context.DeadlineExceeded, refusal(401, "who?"), refusal(429, "busy")} {
		t.s.asked = 0
		t.s.refuse = func(string, string) error {
			if t.s.asked == 3 {
				return answer
			}
			return nil
		}
		c.Check(y.look(t.ctx), check.NotNil)
		c.Check(t.s.asked, check.Equals, 3)
	}
}

// A server that fails at everything gets no further.
func (t *syncSuite) TestAllFail(c *check.C) {
	for n := range 50 {
		t.s.link(alice, className, "lab/app:1", t.s.image(alice, n, nil), made)
	}
	t.s.refuse = func(method, _ string) error {
		if method == "PATCH" {
			return refusal(503, "busy")
		}
		return nil
	}
	y := t.sync(c).begin()
	c.Check(y.look(t.ctx), check.ErrorMatches, "api: write for the 10th time in a row, .*")
	c.Check(y.Until["links"].IsZero(), check.Equals, true)
	t.s.refuse = nil
	t.look(c, y)
	c.Check(t.s.names(t.s.collections[49].text("uuid")), check.HasLen, 1)

	// Nor are more than so many left for later.
	for n := range mostLate {
		y.Late = append(y.Late, fmt.Sprintf("zzzzz-4zz18-late%011d", n))
	}
	y.failed = nil
	c.Check(y.brought([]string{"x"}), check.IsNil)
	y.failed = []string{"y", "y"}
	c.Check(y.brought([]string{"x"}), check.ErrorMatches, "api: bring into step images: the server has failed at 1001, which is too many to go on")
	y.failed = nil
	c.Check(y.brought([]string{"y"}), check.IsNil)
}

// What was changed long ago does not come by again, and is not kept in memory, neither
// on the first look nor later, whether it is written on that look or was before.
func (t *syncSuite) TestMemory(c *check.C) {
	for n := range 500 {
		t.s.link(alice, className, "lab/app:1", t.s.image(alice, n, nil), made)
	}
	for range 2 { // as it is, and after another one has written everything
		s := t.sync(c)
		var y *syncing
		most := 0
		s.Passed = func(SyncPosition) error {
			for _, seen := range y.seen {
				most = max(most, len(seen))
			}
			return nil
		}
		y = s.begin()
		t.look(c, y)
		c.Check(most > 0 && most <= int(s.Overlap/time.Hour), check.Equals, true, check.Commentf("%d", most))
		t.s.asked = 0
		t.look(c, y)
		t.look(c, y)
		c.Check(t.s.asked < 50, check.Equals, true)
	}
	c.Check(t.s.writes, check.Equals, 1000)
}
