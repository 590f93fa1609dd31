// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate_test

import (
	"slices"

	"git.arvados.org/arvados.git/lib/imagemigrate"
	"github.com/jackc/pgx/v5"
	"gopkg.in/check.v1"
)

// What somebody else has locked for long is written in the end, nobody waits for it
// before that, and the result is the same.
func (t *sqlSuite) TestLocked(c *check.C) {
	cluster := imagemigrate.Generated(7, false)
	fill(c, t, cluster.Records("collections"), cluster.Records("links"), false)
	wantSummary, wantRows := t.migrate(c, imagemigrate.Migration{Store: t.store})
	want := t.properties(c)

	fill(c, t, cluster.Records("collections"), cluster.Records("links"), false)
	somebody, err := pgx.ConnectConfig(t.ctx, t.conn.Config())
	c.Assert(err, check.IsNil)
	defer somebody.Close(t.ctx)
	begin := func() (pgx.Tx, []string) {
		tx, err := somebody.Begin(t.ctx)
		c.Assert(err, check.IsNil)
		rows, err := tx.Query(t.ctx, `SELECT uuid FROM collections WHERE version % 3 = 0 FOR UPDATE`)
		c.Assert(err, check.IsNil)
		locked, err := pgx.CollectRows(rows, pgx.RowTo[string])
		c.Assert(err, check.IsNil)
		return tx, locked
	}
	tx, locked := begin()
	late := 0
	store := &imagemigrate.Interrupted{Store: t.store, Before: func(changes []imagemigrate.Planned) {
		if slices.ContainsFunc(changes, func(change imagemigrate.Planned) bool { return !slices.Contains(locked, change.Collection) }) {
			c.Check(late, check.Equals, 0) // all others have been written before
			return
		}
		if late++; late == 2 {
			c.Check(tx.Rollback(t.ctx), check.IsNil)
		}
	}}
	summary, rows := t.migrate(c, imagemigrate.Migration{Store: store})
	c.Check(late > 1, check.Equals, true)
	c.Check(t.properties(c), check.Equals, want)
	c.Check(summary.Written, check.Equals, wantSummary.Written)
	c.Check(summary.Failed, check.Equals, 0)
	c.Check(summary.Heads, check.Equals, wantSummary.Heads)
	c.Check(summary.Links, check.Equals, wantSummary.Links)
	// Images that have replaced others may come by again with their own links,
	// and be in the report again, unless they are put off until then.
	same := func(a, b imagemigrate.Row) bool { return a.Collection == b.Collection }
	c.Check(slices.EqualFunc(slices.CompactFunc(rows, same), slices.CompactFunc(wantRows, same), same), check.Equals, true)

	// By one that stays locked, words that are true.
	fill(c, t, cluster.Records("collections"), cluster.Records("links"), false)
	tx, locked = begin()
	summary, rows = t.migrate(c, imagemigrate.Migration{Store: t.store})
	c.Check(tx.Rollback(t.ctx), check.IsNil)
	c.Check(summary.Failed > 0, check.Equals, true)
	c.Check(summary.Written+summary.Failed, check.Equals, wantSummary.Written)
	for _, row := range rows {
		if row.Action == imagemigrate.Failed {
			c.Check(slices.Contains(locked, row.Collection), check.Equals, true)
			c.Check(row.Error, check.Equals, imagemigrate.ErrLocked.Error())
		}
	}
}
