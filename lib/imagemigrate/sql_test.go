// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate_test

import (
	"cmp"
	"context"
	"encoding/json"
	"os"
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
	t.store, err = sqlstore.Open(t.ctx, dsn, admin)
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
	rows, err := t.conn.Query(t.ctx, `SELECT uuid || ' ' || properties::text FROM collections ORDER BY uuid COLLATE "C"`)
	c.Assert(err, check.IsNil)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	c.Assert(err, check.IsNil)
	return strings.Join(all, "\n")
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
		wantSummary, wantRows := t.migrate(c, imagemigrate.Migration{API: cluster.API(), Rules: rules, Strict: strict})
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
	busy := &interrupted{Store: t.store, before: func(changes []imagemigrate.Planned) {
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
	busy.before = func(changes []imagemigrate.Planned) {
		t.exec(c, `UPDATE collections SET properties = properties || jsonb_build_object('mine', clock_timestamp())`)
	}
	never, rows := t.migrate(c, imagemigrate.Migration{Store: busy})
	c.Check(never.Written, check.Equals, 0)
	c.Check(never.Failed >= summary.Written, check.Equals, true)
	c.Check(slices.ContainsFunc(rows, func(row imagemigrate.Row) bool {
		return row.Action == imagemigrate.Failed && row.Error == imagemigrate.ErrChanged.Error() && row.Names == nil
	}), check.Equals, true)
}

// interrupted is a store in which something happens before each write.
type interrupted struct {
	imagemigrate.Store
	before func([]imagemigrate.Planned)
}

func (s *interrupted) Write(ctx context.Context, changes []imagemigrate.Planned, wait func(context.Context) error) ([]error, error) {
	s.before(changes)
	return s.Store.Write(ctx, changes, wait)
}

// undos are the lines of a rollback file.
func undos(c *check.C, path string) (all []imagemigrate.Undo) {
	buf, err := os.ReadFile(path)
	c.Assert(err, check.IsNil)
	for line := range strings.Lines(string(buf)) {
		var undo imagemigrate.Undo
		c.Assert(json.Unmarshal([]byte(line), &undo), check.IsNil)
		all = append(all, undo)
	}
	return all
}

// The rollback file has the properties as the database has them.
func (t *sqlSuite) TestRollbackFile(c *check.C) {
	cluster := imagemigrate.Generated(3, false)
	fill(c, t, cluster.Records("collections"), cluster.Records("links"), false)
	original := t.properties(c)
	path := filepath.Join(c.MkDir(), "rollback")
	rollback, err := imagemigrate.OpenRollback(path)
	c.Assert(err, check.IsNil)
	_, err = (&imagemigrate.Migration{Store: t.store, Rollback: rollback}).Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Assert(rollback.Close(), check.IsNil)
	c.Check(t.properties(c), check.Not(check.Equals), original)
	for _, undo := range slices.Backward(undos(c, path)) {
		var now string
		c.Assert(t.conn.QueryRow(t.ctx, `UPDATE collections SET properties = $2 WHERE uuid = $1 AND properties = $3 RETURNING uuid`,
			undo.Collection, undo.Before, undo.After).Scan(&now), check.IsNil)
	}
	c.Check(t.properties(c), check.Equals, original)
}
