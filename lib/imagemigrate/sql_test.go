// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate_test

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/imagemigrate"
	"git.arvados.org/arvados.git/lib/imagemigrate/pgtest"
	"git.arvados.org/arvados.git/lib/imagemigrate/sqlstore"
	"github.com/jackc/pgx/v5"
	"gopkg.in/check.v1"
)

// sqlSuite holds the way through the database against the way through the API.
type sqlSuite struct {
	ctx    context.Context
	server *pgtest.Server
	conn   *pgx.Conn
	store  *sqlstore.Store
}

var _ = check.Suite(&sqlSuite{ctx: context.Background()})

const (
	admin   = "zzzzz-tpzed-admin0000000000"
	project = "zzzzz-j7d0g-project00000000"
)

func (t *sqlSuite) SetUpSuite(c *check.C) {
	var err error
	t.server, err = pgtest.Start("fsync=off")
	c.Assert(err, check.IsNil)
	dsn, err := t.server.Make("arvados")
	c.Assert(err, check.IsNil)
	t.conn, err = pgx.Connect(t.ctx, dsn)
	c.Assert(err, check.IsNil)
	t.exec(c, `INSERT INTO users (uuid, owner_uuid, created_at, updated_at, is_admin) VALUES ($1, $1, now(), now(), true)`, admin)
	t.store, err = sqlstore.Open(t.ctx, dsn, "zzzzz", admin)
	c.Assert(err, check.IsNil)
}

func (t *sqlSuite) TearDownSuite(c *check.C) {
	c.Check(t.store.Close(t.ctx), check.IsNil)
	c.Check(t.conn.Close(t.ctx), check.IsNil)
	c.Check(t.server.Stop(), check.IsNil)
}

func (t *sqlSuite) exec(c *check.C, statement string, args ...interface{}) {
	_, err := t.conn.Exec(t.ctx, statement, args...)
	c.Assert(err, check.IsNil)
}

// records are those of a test's server.
type records interface{ ~map[string]interface{} }

// fill makes the database that of a cluster.
func fill[R records](c *check.C, t *sqlSuite, collections, links []R, frozen bool) {
	t.exec(c, `TRUNCATE collections, links, frozen_groups`)
	if frozen {
		t.exec(c, `INSERT INTO frozen_groups VALUES ($1)`, project)
	}
	at := func(r R) time.Time {
		made, err := time.Parse(time.RFC3339Nano, r["created_at"].(string))
		c.Assert(err, check.IsNil)
		return made
	}
	var rows [][]interface{}
	for n, r := range collections {
		var trashed interface{}
		if r["is_trashed"] == true {
			trashed = at(r)
		}
		rows = append(rows, []interface{}{r["uuid"], r["current_version_uuid"], n + 1, r["owner_uuid"], r["portable_data_hash"], r["manifest_text"],
			r["properties"], at(r), at(r), at(r), trashed, r["is_trashed"], strings.Count(r["manifest_text"].(string), " 0:0:")})
	}
	t.copy(c, "collections", rows, "uuid", "current_version_uuid", "version", "owner_uuid", "portable_data_hash", "manifest_text",
		"properties", "created_at", "modified_at", "updated_at", "trash_at", "is_trashed", "file_count")
	rows = nil
	for _, r := range links {
		rows = append(rows, []interface{}{r["uuid"], r["owner_uuid"], r["link_class"], r["name"], r["head_uuid"], r["tail_uuid"], r["properties"], at(r), at(r), at(r)})
	}
	t.copy(c, "links", rows, "uuid", "owner_uuid", "link_class", "name", "head_uuid", "tail_uuid", "properties", "created_at", "modified_at", "updated_at")
}

func (t *sqlSuite) copy(c *check.C, table string, rows [][]interface{}, columns ...string) {
	_, err := t.conn.CopyFrom(t.ctx, pgx.Identifier{table}, columns, pgx.CopyFromRows(rows))
	c.Assert(err, check.IsNil)
}

// properties are those of all collections, in the order of UUIDs.
func (t *sqlSuite) properties(c *check.C) string {
	all, err := t.server.Properties("arvados")
	c.Assert(err, check.IsNil)
	return all
}

// migrate runs a migration, and returns what it has counted and its report.
func (t *sqlSuite) migrate(c *check.C, m imagemigrate.Migration) (imagemigrate.Summary, []imagemigrate.Row) {
	var err error
	m.Rollback, err = imagemigrate.OpenRollback(filepath.Join(c.MkDir(), "rollback"))
	c.Assert(err, check.IsNil)
	defer m.Rollback.Close()
	var rows []imagemigrate.Row
	m.Report = func(row imagemigrate.Row) error {
		rows = append(rows, row)
		return nil
	}
	summary, err := m.Run(t.ctx)
	c.Assert(err, check.IsNil)
	// Databases have their own order of texts.
	slices.SortStableFunc(rows, func(a, b imagemigrate.Row) int { return cmp.Compare(a.Collection, b.Collection) })
	return summary, rows
}

// Both ways write the same, count the same and report the same. Each of these
// clusters consists of 40.
func (t *sqlSuite) TestSameAsByAPI(c *check.C) {
	written := 0
	for seed := range uint64(50) {
		frozen, rules := seed%4 == 1, imagemigrate.Rules{OwnNamesOnly: seed%4 == 2}
		strict := seed%8 == 3
		cluster := imagemigrate.Generated(seed, frozen)
		fill(c, t, cluster.Records("collections"), cluster.Records("links"), frozen)
		wantSummary, wantRows := t.migrate(c, imagemigrate.Migration{Store: imagemigrate.ByAPI(cluster.API(), 0), Rules: rules, Strict: strict})
		summary, rows := t.migrate(c, imagemigrate.Migration{Store: t.store, Rules: rules, Strict: strict})
		c.Assert(rows, check.DeepEquals, wantRows)
		c.Assert(summary, check.DeepEquals, wantSummary)
		written += summary.Written
		got := t.properties(c)
		fill(c, t, cluster.Records("collections"), cluster.Records("links"), frozen)
		c.Assert(got, check.Equals, t.properties(c), check.Commentf("seed %d", seed))

		// And neither finds anything left to do.
		summary, _ = t.migrate(c, imagemigrate.Migration{Store: t.store, Rules: rules})
		c.Assert(summary.Written, check.Equals, 0)
		c.Assert(summary.Failed, check.Equals, 0)
	}
	c.Logf("written by each way: %d", written)
	c.Check(written > 2000, check.Equals, true)
}

// What somebody changes at the same time is not lost, and is taken into account.
func (t *sqlSuite) TestChangedMeanwhile(c *check.C) {
	cluster := imagemigrate.Generated(7, false)
	fill(c, t, cluster.Records("collections"), cluster.Records("links"), false)
	times := map[string]int{}
	busy := &imagemigrate.Interrupted{Store: t.store, Before: func(changes []imagemigrate.Planned) {
		for _, change := range changes {
			if times[change.Collection]++; times[change.Collection] < 3 {
				t.exec(c, `UPDATE collections SET properties = coalesce(properties, '{}') || $2 WHERE uuid = $1`, change.Collection,
					map[string]interface{}{"mine": times[change.Collection]})
			}
		}
	}}
	summary, _ := t.migrate(c, imagemigrate.Migration{Store: busy})
	c.Check(summary.Failed, check.Equals, 0)
	got := t.properties(c)
	c.Check(strings.Count(got, `"mine": 2`), check.Equals, summary.Written)

	// Whoever changes it all the time has the last word.
	fill(c, t, cluster.Records("collections"), cluster.Records("links"), false)
	busy.Before = func(changes []imagemigrate.Planned) {
		t.exec(c, `UPDATE collections SET properties = properties || jsonb_build_object('mine', clock_timestamp())`)
	}
	never, rows := t.migrate(c, imagemigrate.Migration{Store: busy})
	c.Check(never.Written, check.Equals, 0)
	c.Check(never.Failed >= summary.Written, check.Equals, true)
	c.Check(slices.ContainsFunc(rows, func(row imagemigrate.Row) bool {
		return row.Action == imagemigrate.Failed && row.Error == imagemigrate.ErrChanged.Error() && row.Names == nil
	}), check.Equals, true)
}

// rollBack undoes what a file tells, in the database.
func (t *sqlSuite) rollBack(c *check.C, store imagemigrate.Store, path string) (imagemigrate.Summary, map[string]imagemigrate.Undone) {
	rows := map[string]imagemigrate.Undone{}
	last := 0
	r := &imagemigrate.Rollback{Store: store, Path: path, Report: func(u imagemigrate.Undone) error {
		rows[u.Collection] = u
		return nil
	}, Passed: func(done, all int) error {
		c.Check(last < done && done <= all, check.Equals, true)
		last = done
		return nil
	}}
	summary, err := r.Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Check(last, check.Equals, summary.Heads)
	return summary, rows
}

// migrated runs a migration, and returns where its rollback file is.
func (t *sqlSuite) migrated(c *check.C) string {
	path := filepath.Join(c.MkDir(), "rollback")
	rollback, err := imagemigrate.OpenRollback(path)
	c.Assert(err, check.IsNil)
	defer rollback.Close()
	_, err = (&imagemigrate.Migration{Store: t.store, Rollback: rollback}).Run(t.ctx)
	c.Assert(err, check.IsNil)
	return path
}

// Every digit is as it was, and what was NULL is NULL.
func (t *sqlSuite) TestRollback(c *check.C) {
	cluster := imagemigrate.Generated(3, false)
	fill(c, t, cluster.Records("collections"), cluster.Records("links"), false)
	t.exec(c, `UPDATE collections SET properties = (ARRAY['{"a": 1.50, "b": 18446744073709551616, "c": [1e400, -0.0, {"d": 1e-400}]}', NULL, '{}'])[version % 3 + 1]::jsonb`)
	original := t.properties(c)
	path := t.migrated(c)
	migrated := t.properties(c)
	c.Check(migrated, check.Not(check.Equals), original)
	summary, _ := t.rollBack(c, t.store, path)
	c.Check(summary.Failed+summary.Left+summary.Unchanged, check.Equals, 0)
	c.Check(t.properties(c), check.Equals, original)
	again, _ := t.rollBack(c, t.store, path)
	c.Check(again.Written, check.Equals, 0)
	c.Check(t.properties(c), check.Equals, original)

	// What somebody changes at the same time stays.
	path = t.migrated(c)
	c.Check(t.properties(c), check.Equals, migrated)
	times := map[string]int{}
	busy := &imagemigrate.Interrupted{Store: t.store, Before: func(changes []imagemigrate.Planned) {
		for _, change := range changes {
			if times[change.Collection]++; times[change.Collection] < 3 {
				t.exec(c, `UPDATE collections SET properties = properties || $2 WHERE uuid = $1`, change.Collection,
					map[string]interface{}{"mine": times[change.Collection]})
			}
		}
	}}
	summary, _ = t.rollBack(c, busy, path)
	c.Check(summary.Failed, check.Equals, 0)
	got := t.properties(c)
	c.Check(strings.Count(got, `"mine": 2`), check.Equals, len(times))
	c.Check(strings.Contains(got, "docker-image-repo-tag"), check.Equals, strings.Contains(original, "docker-image-repo-tag"))
}

// What takes no changes is left, and is told.
func (t *sqlSuite) TestRollbackLeaves(c *check.C) {
	cluster := imagemigrate.Generated(5, false)
	fill(c, t, cluster.Records("collections"), cluster.Records("links"), false)
	path := t.migrated(c)
	migrated := t.properties(c)
	t.exec(c, `INSERT INTO frozen_groups VALUES ($1)`, project)
	t.exec(c, `UPDATE collections SET preserve_version = true WHERE version % 7 = 1`)
	t.exec(c, `UPDATE collections SET properties = '["x"]' WHERE version % 7 = 2`)
	t.exec(c, `DELETE FROM collections WHERE version % 7 = 3`)
	t.exec(c, `UPDATE collections SET trash_at = now() WHERE version % 7 = 4`)
	summary, rows := t.rollBack(c, t.store, path)
	for _, kind := range []imagemigrate.Kind{imagemigrate.Frozen, imagemigrate.KeptVersion, imagemigrate.NoObject, imagemigrate.GoneHead, imagemigrate.TrashedHead} {
		c.Check(summary.Cases[kind] > 0, check.Equals, true, check.Commentf("%s", kind))
	}
	c.Check(summary.Written > 0, check.Equals, true)
	c.Check(summary.Failed, check.Equals, 0)
	for uuid, row := range rows {
		c.Check(row.Action == imagemigrate.Left, check.Equals, row.Why != "", check.Commentf("%s", uuid))
	}
	// A migration leaves it as well, and says so.
	after, _ := t.migrate(c, imagemigrate.Migration{Store: t.store})
	c.Check(after.Cases[imagemigrate.NoObject] > 0, check.Equals, true)
	c.Check(after.Failed, check.Equals, 0)

	t.exec(c, `TRUNCATE frozen_groups`)
	t.exec(c, `UPDATE collections SET preserve_version = false`)
	t.rollBack(c, t.store, path)
	c.Check(t.properties(c), check.Not(check.Equals), migrated)
}
