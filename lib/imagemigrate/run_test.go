// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"gopkg.in/check.v1"
)

type runSuite struct{ fixture }

var _ = check.Suite(&runSuite{})

// migration is one of the test's server.
func (t *runSuite) migration(c *check.C) *Migration {
	return &Migration{Store: ByAPI(&view{server: t.s}, 1), Rollback: rollbackFile(c), Report: t.report}
}

func (t *runSuite) run(c *check.C, m *Migration) Summary {
	summary, err := m.Run(t.ctx)
	c.Assert(err, check.IsNil)
	return summary
}

// What links point to decides what becomes of them.
func (t *runSuite) TestHeads(c *check.C) {
	usual := t.s.image(alice, 1, record{"type": "output"})
	t.s.link(alice, classHash, "sha256:"+hexOf(1), usual, made)
	t.s.link(alice, className, "lab/app:1", usual, made)
	trashed, old := t.s.image(alice, 2, nil), t.s.image(alice, 3, nil)
	t.s.get(trashed)["is_trashed"] = true
	t.s.get(old)["current_version_uuid"] = usual
	icy := "zzzzz-j7d0g-frozen000000000"
	t.s.groups = append(t.s.groups, record{"uuid": icy, "can_write": false, "owner_uuid": icy})
	frozen := t.s.image(icy, 4, nil)
	none := t.s.collection(alice, manifestOf("README"), nil)
	pdh := t.s.get(usual).text("portable_data_hash")
	want := map[string]Kind{
		trashed: TrashedHead, old: OldHead, frozen: Frozen, none: NotAnImage, pdh: HashHead,
		"zzzzz-4zz18-gone00000000000": GoneHead, alice: OtherHead, "other-4zz18-000000000000001": OtherHead,
	}
	for head := range want {
		t.s.link(alice, className, "lab/app:1", head, made)
	}
	before := t.s.properties(c)
	m := t.migration(c)
	m.DryRun = true
	dry := t.run(c, m)
	c.Check(t.rows[usual].Action, check.Equals, WouldWrite)
	c.Check(t.rows[usual].Names, check.DeepEquals, []string{"lab/app:1"})
	c.Check(t.s.writes, check.Equals, 0)
	c.Check(t.s.properties(c), check.Equals, before)

	m.DryRun = false
	wet := t.run(c, m)
	c.Check(wet, check.DeepEquals, dry)
	c.Check(wet.Links, check.Equals, 10)
	c.Check(wet.Heads, check.Equals, 9)
	c.Check(wet.Written, check.Equals, 1)
	c.Check(wet.Left, check.Equals, 8)
	for head, kind := range want {
		row := t.rows[head]
		c.Check(row.Action, check.Equals, Left)
		c.Check(row.Cases[len(row.Cases)-1].Kind, check.Equals, kind, check.Commentf("%s", head))
		want := 1
		if kind == OtherHead {
			want = 2
		}
		c.Check(wet.Cases[kind], check.Equals, want)
	}
	c.Check(t.rows[usual].Action, check.Equals, Written)
	properties := t.s.get(usual)["properties"].(record)
	c.Check(properties["type"], check.Equals, "output")
	c.Check(properties[keyNames], check.Equals, "lab/app:1")

	again := t.run(c, t.migration(c))
	c.Check(again.Written, check.Equals, 0)
	c.Check(again.Unchanged, check.Equals, 1)
	c.Check(t.s.writes, check.Equals, 1)
}

// A strict vocabulary refuses keys once; then they are written in the form that it
// takes.
func (t *runSuite) TestStrictVocabulary(c *check.C) {
	t.s.strict = true
	for n := range 250 {
		t.s.link(alice, className, "lab/app:1", t.s.image(alice, n, nil), made)
	}
	m := t.migration(c)
	summary := t.run(c, m)
	c.Check(summary.Written, check.Equals, 250)
	c.Check(summary.Cases[Twinned], check.Equals, 250)
	properties := t.s.collections[0]["properties"].(record)
	c.Check(properties["arv:docker-image-hash"], check.Equals, "sha256:"+hexOf(0))
	c.Check(properties["arv:docker-image-timestamp"], check.Equals, made)
	c.Check(properties[keyNames], check.Equals, "lab/app:1")
	again := t.run(c, t.migration(c))
	c.Check(again.Unchanged, check.Equals, 250)
	undone, err := (&Rollback{Store: m.Store, Path: closed(c, m.Rollback)}).Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Check(undone.Written, check.Equals, 250)
	c.Check(t.s.collections[0]["properties"], check.HasLen, 0)
}

// A refusal that the database's own limits cause stays one.
func (t *runSuite) TestRefusalForGood(c *check.C) {
	for _, text := range []string{"#<ActiveRecord::RecordNotUnique: PG::UniqueViolation: ERROR>", "#<ActiveRecord::StatementInvalid: PG::ProgramLimitExceeded: ERROR>",
		"#<ArvadosModel::AlreadyLockedError>"} {
		c.Check(isRefusal(refusal(422, text)), check.Equals, true, check.Commentf("%s", text))
	}
}

// What somebody changes between reading and writing is not lost, and is taken into
// account.
func (t *runSuite) TestChangedMeanwhile(c *check.C) {
	var uuids []string
	for n := range 30 {
		uuids = append(uuids, t.s.image(alice, n, record{"mine": "0"}))
		t.s.link(alice, className, "lab/app:1", uuids[n], made)
	}
	times := 0
	m := t.migration(c)
	m.Store = &Interrupted{Store: m.Store, Before: func([]Planned) {
		if times++; times > 2 {
			return
		}
		for _, uuid := range uuids[:20] {
			t.s.get(uuid)["properties"] = record{"mine": fmt.Sprint(times), keyNames: "lab/mine:1"}
		}
		t.s.get(uuids[20])["owner_uuid"] = bob
		t.s.get(uuids[21])["is_trashed"] = true
	}}
	summary := t.run(c, m)
	c.Check(summary.Written, check.Equals, 29)
	c.Check(summary.Failed, check.Equals, 0)
	c.Check(t.rows[uuids[20]].Owner, check.Equals, bob)
	c.Check(t.rows[uuids[21]].Cases, check.DeepEquals, []Case{{Kind: TrashedHead}})
	for _, uuid := range uuids[:20] {
		properties := t.s.get(uuid)["properties"].(record)
		c.Check(properties["mine"], check.Equals, "2")
		c.Check(properties[keyNames], check.DeepEquals, []interface{}{"lab/app:1", "lab/mine:1"})
	}
	c.Check(t.s.get(uuids[29])["properties"].(record)["mine"], check.Equals, "0")
}

// Properties that are none are left as they are, and do not stop the others.
func (t *runSuite) TestNoObject(c *check.C) {
	odd, usual := t.s.image(alice, 1, nil), t.s.image(alice, 2, nil)
	t.s.get(odd)["properties"] = []string{"x"}
	for _, uuid := range []string{odd, usual} {
		t.s.link(alice, className, "lab/app:1", uuid, made)
	}
	summary := t.run(c, t.migration(c))
	c.Check(summary.Written, check.Equals, 1)
	c.Check(summary.Left, check.Equals, 1)
	row := t.rows[odd]
	c.Check(row.Action, check.Equals, Left)
	c.Check(row.Names, check.IsNil)
	c.Check(row.Cases[len(row.Cases)-1].Kind, check.Equals, NoObject)
	c.Check(t.s.get(odd)["properties"], check.DeepEquals, []string{"x"})
}

// Pages may cut the links of a collection, and be smaller than these are.
func (t *runSuite) TestPages(c *check.C) {
	for _, page := range []int{1, 2, 3, 7, 1000} {
		t.SetUpTest(c)
		t.s.page = page
		total := 0
		for n := range 9 {
			uuid := t.s.image(alice, n, nil)
			for i := range 1 + n*3%8 {
				t.s.link(alice, className, fmt.Sprintf("lab/app%d:%d", n, i), uuid, made)
				total++
			}
		}
		summary := t.run(c, t.migration(c))
		c.Check(summary.Links, check.Equals, total)
		c.Check(summary.Written, check.Equals, 9)
		for n, coll := range t.s.collections {
			c.Check(t.rows[coll.text("uuid")].Names, check.HasLen, 1+n*3%8)
		}
	}
}

// Writes are spread over time.
func (t *runSuite) TestRate(c *check.C) {
	for n := range 6 {
		t.s.link(alice, className, "lab/app:1", t.s.image(alice, n, nil), made)
	}
	m := t.migration(c)
	m.Rate = 50
	began := time.Now()
	t.run(c, m)
	c.Check(time.Since(began) >= 100*time.Millisecond, check.Equals, true)
	c.Check(newPace(10).chunk(), check.Equals, 10)
	c.Check(newPace(0.1).chunk(), check.Equals, 1)
	c.Check(newPace(1e6).chunk(), check.Equals, collectionPage)
	cancelled, cancel := context.WithCancel(t.ctx)
	cancel()
	slow := newPace(0.001)
	c.Check(slow.wait(t.ctx), check.IsNil)
	c.Check(slow.wait(cancelled), check.Equals, context.Canceled)
}

// many makes a cluster of several pages.
func many(seed uint64) *server {
	s := &server{groups: []record{{"uuid": project, "can_write": true, "owner_uuid": project}}}
	rng := rand.New(rand.NewPCG(seed, seed))
	for range 40 {
		part := generate(rng)
		// All of one cluster: UUIDs start anew.
		renamed := map[interface{}]string{}
		for _, coll := range part.collections {
			uuid := fmt.Sprintf("zzzzz-4zz18-%015d", len(s.collections)*7919%1000003)
			renamed[coll["uuid"]] = uuid
			if coll["current_version_uuid"] == coll["uuid"] {
				coll["current_version_uuid"] = uuid
			}
			coll["uuid"] = uuid
			s.collections = append(s.collections, coll)
		}
		for _, link := range part.links {
			if to, ok := renamed[link["head_uuid"]]; ok {
				link["head_uuid"] = to
			}
			link["uuid"] = fmt.Sprintf("zzzzz-o0j2j-%015d", len(s.links)*7907%1000003)
			s.links = append(s.links, link)
		}
	}
	return s
}

var errStopped = errors.New("stopped")

// Wherever it is stopped, it ends as if it had not been; and all can be undone.
func (t *runSuite) TestStoppedAnywhere(c *check.C) {
	whole := many(1)
	original := whole.properties(c)
	t.s = whole
	t.run(c, t.migration(c))
	want := whole.properties(c)
	c.Assert(want, check.Not(check.Equals), original)
	requests := whole.asked
	dir := c.MkDir()
	for stop := 1; stop < requests; stop += 1 + requests/40 {
		t.s = many(1)
		resume, log := filepath.Join(dir, fmt.Sprint("resume", stop)), filepath.Join(dir, fmt.Sprint("rollback", stop))
		// Stops before it has asked this often, again and again.
		for attempt, done := 0, false; !done; attempt++ {
			c.Assert(attempt < requests, check.Equals, true)
			left := stop
			if attempt > 2 {
				left = requests
			}
			t.s.refuse = func(string, string) error {
				if left--; left < 0 {
					return errStopped
				}
				return nil
			}
			position, err := LoadPosition(resume)
			c.Assert(err, check.IsNil)
			rollback, err := OpenRollback(log)
			c.Assert(err, check.IsNil)
			m := &Migration{Store: ByAPI(&view{server: t.s}, 1), Rollback: rollback, Start: position, Passed: func(p Position) error { return p.Save(resume) }}
			_, err = m.Run(t.ctx)
			c.Assert(rollback.Close(), check.IsNil)
			if done = err == nil; !done {
				c.Assert(errors.Is(err, errStopped), check.Equals, true)
				// It may be stopped in the middle of a line.
				file, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
				c.Assert(err, check.IsNil)
				_, err = file.WriteString(`{"collection":"zzzzz-4z`)
				c.Assert(err, check.IsNil)
				file.Close()
			}
		}
		t.s.refuse = nil
		c.Assert(t.s.properties(c), check.Equals, want, check.Commentf("stopped after %d requests", stop))
		_, err := (&Rollback{Store: ByAPI(&view{server: t.s}, 0), Path: log}).Run(t.ctx)
		c.Assert(err, check.IsNil)
		c.Assert(t.s.properties(c), check.Equals, original, check.Commentf("stopped after %d requests", stop))
	}
}

// No more than a page is asked for at a time, however many there are.
func (t *runSuite) TestAnswersAreBounded(c *check.C) {
	for n := range 2500 {
		t.s.link(alice, className, fmt.Sprintf("lab/app:%d", n), t.s.image(alice, n, nil), made)
	}
	summary := t.run(c, t.migration(c))
	c.Check(summary.Written, check.Equals, 2500)
	c.Check(t.s.widest, check.Equals, linkPage)
}

func (t *runSuite) TestPosition(c *check.C) {
	path := filepath.Join(c.MkDir(), "position")
	none, err := LoadPosition(path)
	c.Check(err, check.IsNil)
	c.Check(none, check.DeepEquals, Position{})
	p := Position{After: "x", Summary: Summary{Links: 5, Cases: map[Kind]int{NoTag: 2}}}
	c.Assert(p.Save(path), check.IsNil)
	loaded, err := LoadPosition(path)
	c.Check(err, check.IsNil)
	c.Check(loaded, check.DeepEquals, p)
	c.Assert(os.WriteFile(path, []byte("{"), 0600), check.IsNil)
	_, err = LoadPosition(path)
	c.Check(err, check.ErrorMatches, `request: read resume file .*position: .* \(remove it to begin at the start; .*\)`)
	c.Check(p.Save(filepath.Join(path, "x")), check.ErrorMatches, `request: write resume file: .* \(name a file that can be written\)`)
}
