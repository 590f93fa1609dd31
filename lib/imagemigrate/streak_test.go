// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"errors"
	"fmt"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"gopkg.in/check.v1"
)

// images are so many, each with a name by a link.
func (t *runSuite) images(n int) (uuids []string) {
	for i := range n {
		uuids = append(uuids, t.s.image(alice, i, nil))
		t.s.link(alice, className, "lab/app:1", uuids[i], made)
	}
	return uuids
}

// refuseWrites lets the n-th change of a collection, counted from 1, end as answer
// says.
func (t *runSuite) refuseWrites(answer func(n int) error) {
	n := 0
	t.s.refuse = func(method, _ string) error {
		if method != "PATCH" {
			return nil
		}
		n++
		return answer(n)
	}
}

// trouble is what API servers answer whose database has trouble, by the version.
var trouble = []error{refusal(500, "busy"), refusal(503, "busy"),
	refusal(422, "#<ActiveRecord::Deadlocked: PG::TRDeadlockDetected: ERROR:  deadlock detected> (req-1)"),
	refusal(422, "#<ActiveRecord::StatementInvalid: PG::ConnectionBad: PQconsumeInput() server closed the connection> (req-1)"),
	refusal(422, "//railsapi.internal/x: 422 Unprocessable Entity: #<ActiveRecord::QueryCanceled: PG::QueryCanceled: ERROR> (req-1)")}

// One collection that cannot be changed does not stop the others, whether the server
// refuses that or fails at it.
func (t *runSuite) TestOneRefusal(c *check.C) {
	for _, answer := range append(trouble, refusal(422, "no"), refusal(403, "no")) {
		t.SetUpTest(c)
		uuids := t.images(3)
		t.s.refuse = func(method, path string) error {
			if method == "PATCH" && strings.HasSuffix(path, uuids[1]) {
				return answer
			}
			return nil
		}
		summary := t.run(c, t.migration(c))
		c.Check(summary.Written, check.Equals, 2)
		c.Check(summary.Failed, check.Equals, 1)
		c.Check(t.rows[uuids[1]].Action, check.Equals, Failed)
		c.Check(t.rows[uuids[1]].Names, check.IsNil)
		c.Check(t.rows[uuids[1]].Error, check.Equals, answer.Error())
		c.Check(summary.LastFailure, check.Equals, uuids[1]+": "+answer.Error())
		t.s.refuse = nil
		again := t.run(c, t.migration(c))
		c.Check(again.Written, check.Equals, 1)
		c.Check(again.Unchanged, check.Equals, 2)
	}
}

// A server that does not answer, does not take the token or has too much to do ends
// it at once.
func (t *runSuite) TestTrouble(c *check.C) {
	t.images(3)
	for _, answer := range []error{refusal(429, "busy"), refusal(401, "who?"), errors.New("no route to host")} {
		t.refuseWrites(func(int) error { return answer })
		_, err := t.migration(c).Run(t.ctx)
		c.Check(fault.SideOf(err), check.Equals, fault.API)
		c.Check(fault.Transient(err), check.Equals, !strings.Contains(answer.Error(), "401"))
		c.Check(t.rows, check.HasLen, 0)
	}
}

// A server that fails at everything ends it, and one that does not goes on, however
// often it fails.
func (t *runSuite) TestStreak(c *check.C) {
	for _, answer := range trouble {
		t.SetUpTest(c)
		t.images(30)
		t.refuseWrites(func(int) error { return answer })
		_, err := t.migration(c).Run(t.ctx)
		c.Check(err, check.ErrorMatches, `api: write for the 10th time in a row, now to collection zzzzz-4zz18-.{15}: .*`)
		c.Check(errors.Is(err, answer), check.Equals, true)
		c.Check(fault.Transient(err), check.Equals, true)
		c.Check(t.rows, check.HasLen, longestStreak)
	}
	for _, other := range []error{nil, refusal(403, "no")} {
		t.SetUpTest(c)
		t.images(100)
		t.refuseWrites(func(n int) error {
			if n%longestStreak == 0 {
				return other
			}
			return trouble[0]
		})
		summary := t.run(c, t.migration(c))
		c.Check(summary.Written+summary.Failed, check.Equals, 100)
		c.Check(t.rows, check.HasLen, 100)
	}
	// To undo it is a way of the same kind.
	t.SetUpTest(c)
	t.images(30)
	m := t.migration(c)
	t.run(c, m)
	back := &Rollback{Store: m.Store, Path: closed(c, m.Rollback)}
	t.refuseWrites(func(int) error { return trouble[0] })
	_, err := back.Run(t.ctx)
	c.Check(err, check.ErrorMatches, `api: write for the 10th time in a row, .*`)
	t.refuseWrites(func(n int) error {
		if n == 5 {
			return trouble[0]
		}
		return nil
	})
	summary, err := back.Run(t.ctx)
	c.Check(err, check.IsNil)
	c.Check(summary.Written, check.Equals, 29)
	c.Check(summary.Failed, check.Equals, 1)
}

// So it is with links.
func (t *toLinksSuite) TestStreak(c *check.C) {
	for n := range 40 {
		t.s.image(alice, n, record{keyNames: fmt.Sprintf("lab/app:%d", n)})
	}
	posts, good := 0, 0
	t.s.refuse = func(method, _ string) error {
		if method != "POST" {
			return nil
		}
		if posts++; good > 0 && posts%good == 0 {
			return nil
		}
		return trouble[0]
	}
	l := t.way()
	l.Parallel = 1
	_, err := l.Run(t.ctx)
	c.Check(err, check.ErrorMatches, `api: write for the 10th time in a row, now to collection .*`)
	c.Check(t.rows, check.HasLen, longestStreak)
	good = longestStreak / 2
	c.Check(t.run(c, t.way()).Failed > longestStreak, check.Equals, true)
}

// Whatever it has written when it ends with an error is in the report.
func (t *runSuite) TestReportedAtOnce(c *check.C) {
	for _, parallel := range []int{1, 4} {
		for stop := 1; stop <= 12; stop++ {
			t.SetUpTest(c)
			t.images(12)
			t.refuseWrites(func(n int) error {
				if n == stop {
					return errStopped
				}
				return nil
			})
			m := t.migration(c)
			m.Store = ByAPI(&view{server: t.s}, parallel)
			m.Report = func(row Row) error {
				c.Check(t.s.writes-len(t.rows) <= parallel, check.Equals, true)
				return t.report(row)
			}
			_, err := m.Run(t.ctx)
			c.Check(errors.Is(err, errStopped), check.Equals, true)
			c.Check(len(t.s.written) >= stop-1, check.Equals, true)
			c.Check(t.rows, check.HasLen, len(t.s.written))
			for _, uuid := range t.s.written {
				c.Check(t.rows[uuid].Action, check.Equals, Written)
			}
		}
	}
}

// So are all links, also those of a collection that has not got all of its own.
func (t *toLinksSuite) TestReportedAtOnce(c *check.C) {
	for _, parallel := range []int{1, 4} {
		for stop := 1; stop <= 15; stop++ {
			t.SetUpTest(c)
			for n := range 5 {
				t.s.image(alice, n, record{keyNames: []string{"lab/app:1", "lab/app:2"}})
			}
			posts := 0
			t.s.refuse = func(method, _ string) error {
				if method == "POST" {
					if posts++; posts == stop {
						return errStopped
					}
				}
				return nil
			}
			l := t.way()
			l.Parallel = parallel
			_, err := l.Run(t.ctx)
			c.Check(errors.Is(err, errStopped), check.Equals, true)
			told := map[string]bool{}
			for _, row := range t.rows {
				c.Check(row.Action == Failed, check.Equals, len(row.Links) < 3)
				for _, link := range row.Links {
					told[link.UUID] = true
				}
			}
			c.Check(told, check.HasLen, len(t.s.links))
			for _, link := range t.s.links {
				c.Check(told[link.text("uuid")], check.Equals, true)
			}
		}
	}
}

// A report that cannot be written ends it.
func (t *toLinksSuite) TestReportFails(c *check.C) {
	written := t.s.image(alice, 1, record{keyNames: "lab/app:1"})
	t.s.collection(alice, manifestOf("README"), record{keyNames: "lab/app:1"})
	for _, only := range []Action{Written, Left} {
		l := t.way()
		l.Report = func(row Row) error {
			if row.Action == only {
				return errStopped
			}
			return nil
		}
		_, err := l.Run(t.ctx)
		c.Check(err, check.Equals, errStopped, check.Commentf("%s", only))
		c.Check(t.s.linksOf(written), check.HasLen, 2)
	}
}
