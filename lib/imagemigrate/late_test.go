// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"context"
	"fmt"
	"slices"

	"gopkg.in/check.v1"
)

// lockedStore is a store of which somebody has locked collections, for so many
// attempts to write to each.
type lockedStore struct {
	Store
	locked map[string]int
}

func (s *lockedStore) Write(ctx context.Context, changes []Planned, wait func(context.Context) error, done func(int, error) error) error {
	var free []Planned
	var number []int
	for i, change := range changes {
		if s.locked[change.Collection] == 0 {
			free, number = append(free, change), append(number, i)
			continue
		}
		s.locked[change.Collection]--
		if err := done(i, ErrLocked); err != nil {
			return err
		}
	}
	return s.Store.Write(ctx, free, wait, func(i int, err error) error { return done(number[i], err) })
}

// locked is a migration of the test's server, with a report that has no collection
// twice.
func (t *runSuite) locked(c *check.C, locked map[string]int) *Migration {
	m := t.migration(c)
	m.Store = &lockedStore{m.Store, locked}
	m.Report = func(row Row) error {
		c.Check(t.rows[row.Collection], check.DeepEquals, Row{})
		return t.report(row)
	}
	return m
}

// What is locked when its turn comes is written in the end, and nobody waits for it.
func (t *runSuite) TestLocked(c *check.C) {
	uuids := t.images(250)
	locked := map[string]int{uuids[0]: 1, uuids[120]: 2, uuids[249]: patience - 1}
	m := t.locked(c, locked)
	var passed []int
	m.Passed = func(p Position) error {
		passed = append(passed, len(p.Late))
		c.Check(p.Summary.Written+len(p.Late), check.Equals, p.Summary.Heads)
		return nil
	}
	summary := t.run(c, m)
	c.Check(summary, check.DeepEquals, Summary{Links: 250, Heads: 250, Written: 250, Cases: map[Kind]int{NoHashLink: 250}})
	c.Check(t.rows, check.HasLen, 250)
	last := slices.Clone(t.s.written[247:])
	slices.Sort(last)
	want := []string{uuids[0], uuids[120], uuids[249]}
	slices.Sort(want)
	c.Check(last, check.DeepEquals, want)
	c.Check(passed, check.HasLen, 4)
	c.Check(slices.Max(passed), check.Equals, 3)
	c.Check(passed[3], check.Equals, 0)
	c.Check(t.run(c, t.migration(c)).Unchanged, check.Equals, 250)
}

// Stopped in between, it knows what is left to be done.
func (t *runSuite) TestLockedAndStopped(c *check.C) {
	uuids := t.images(150)
	locked := map[string]int{}
	for _, uuid := range uuids[:20] {
		locked[uuid] = 1
	}
	var at Position
	for range 4 { // two chunks, those that were put off, and nothing
		m := t.locked(c, locked)
		m.Start = at
		m.Passed = func(p Position) error {
			at = p
			return errStopped
		}
		if _, err := m.Run(t.ctx); err != nil {
			c.Assert(err, check.Equals, errStopped)
		}
	}
	c.Check(t.rows, check.HasLen, 150)
	c.Check(at.Late, check.HasLen, 0)
	c.Check(at.Summary.Written, check.Equals, 150)
	c.Check(at.Summary.Heads, check.Equals, 150)
	c.Check(t.s.writes, check.Equals, 150)
}

// What is locked for good fails in the end, by its own words; what is changed all the
// time does when its turn comes.
func (t *runSuite) TestLockedForGood(c *check.C) {
	uuids := t.images(20)
	m := t.locked(c, map[string]int{uuids[3]: 1000})
	m.Store = &Interrupted{Store: m.Store, Before: func([]Planned) {
		t.s.get(uuids[4])["properties"] = record{"mine": fmt.Sprint(t.s.asked)}
	}}
	summary := t.run(c, m)
	c.Check(summary.Written, check.Equals, 18)
	c.Check(summary.Failed, check.Equals, 2)
	c.Check(t.rows[uuids[3]].Error, check.Equals, "somebody else has kept it locked all the time")
	c.Check(t.rows[uuids[4]].Error, check.Equals, "somebody else has been changing it all the time")
	c.Check(summary.LastFailure, check.Equals, uuids[3]+": "+ErrLocked.Error())
}

// What somebody has done to it meanwhile counts.
func (t *runSuite) TestLockedAndChanged(c *check.C) {
	uuids := t.images(5)
	m := t.locked(c, map[string]int{uuids[0]: 1, uuids[1]: 1, uuids[2]: 1})
	m.Passed = func(p Position) error {
		if len(p.Late) > 0 {
			t.s.get(uuids[0])["is_trashed"] = true
			t.s.get(uuids[1])["properties"] = record{"mine": "1"}
			t.s.link(alice, className, "lab/later:1", uuids[2], made)
		}
		return nil
	}
	t.run(c, m)
	c.Check(t.rows[uuids[0]].Cases, check.DeepEquals, []Case{{Kind: TrashedHead}})
	c.Check(t.s.get(uuids[1])["properties"].(record)["mine"], check.Equals, "1")
	c.Check(t.s.names(uuids[1]), check.DeepEquals, []string{"lab/app:1"})
	c.Check(t.s.names(uuids[2]), check.DeepEquals, []string{"lab/later:1", "lab/app:1"})
}

// An image that has replaced another still gets the names of that.
func (t *runSuite) TestLockedReplacement(c *check.C) {
	old := t.s.collection(alice, manifestOf(hexOf(1)+".tar"), nil)
	replacement := t.s.image(alice, 2, nil)
	other := t.s.collection(bob, t.s.get(replacement).text("manifest_text"), nil)
	t.s.link(alice, className, "lab/old:1", old, made)
	t.s.link(alice, className, "lab/own:1", replacement, made)
	t.s.link(system, classMigration, "migrate_1.9_1.10", t.s.get(replacement).text("portable_data_hash"), nil)
	t.s.links[2]["tail_uuid"] = t.s.get(old)["portable_data_hash"]
	t.run(c, t.locked(c, map[string]int{replacement: 2}))
	for uuid, want := range map[string][]string{replacement: {"lab/old:1", "lab/own:1"}, other: {"lab/old:1"}} {
		names := t.s.names(uuid)
		slices.Sort(names)
		c.Check(names, check.DeepEquals, want)
		c.Check(t.rows[uuid].Action, check.Equals, Written)
	}
	c.Check(t.rows[old].Action, check.Equals, Left)
	c.Check(t.rows, check.HasLen, 3)
}

// There is room for so many only; the others are waited for.
func (t *runSuite) TestMostLate(c *check.C) {
	locked := map[string]int{}
	for _, uuid := range t.images(mostLate + 150) {
		locked[uuid] = 1
	}
	m := t.locked(c, locked)
	most := 0
	m.Passed = func(p Position) error {
		most = max(most, len(p.Late))
		return nil
	}
	c.Check(t.run(c, m).Written, check.Equals, mostLate+150)
	c.Check(most, check.Equals, mostLate)
}

// To undo it waits for others as well, and says that it has.
func (t *runSuite) TestLockedRollback(c *check.C) {
	uuids := t.images(5)
	m := t.migration(c)
	t.run(c, m)
	b := &Rollback{Store: &lockedStore{m.Store, map[string]int{uuids[0]: attempts - 1, uuids[1]: attempts}}, Path: closed(c, m.Rollback)}
	summary, err := b.Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Check(summary.Written, check.Equals, 4)
	c.Check(summary.LastFailure, check.Equals, uuids[1]+": "+ErrLocked.Error())
}
