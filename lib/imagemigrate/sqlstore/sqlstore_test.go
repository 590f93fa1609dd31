// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package sqlstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagemigrate"
	"git.arvados.org/arvados.git/lib/imagemigrate/pgtest"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/jackc/pgx/v5"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

type suite struct {
	ctx    context.Context
	server *pgtest.Server
	made   int
	dsn    string
	name   string
	store  *Store
	other  *pgx.Conn // somebody else
}

var _ = check.Suite(&suite{ctx: context.Background()})

const (
	admin = "zzzzz-tpzed-admin0000000000"
	alice = "zzzzz-tpzed-alice0000000000"
	icy   = "zzzzz-j7d0g-frozen000000000"
	bin   = "zzzzz-j7d0g-trashed00000000"
)

func (s *suite) SetUpSuite(c *check.C) {
	var err error
	s.server, err = pgtest.Start("fsync=off")
	c.Assert(err, check.IsNil)
}

func (s *suite) TearDownSuite(c *check.C) { c.Check(s.server.Stop(), check.IsNil) }

func (s *suite) SetUpTest(c *check.C) {
	s.made++
	s.name = fmt.Sprint("test", s.made)
	var err error
	s.dsn, err = s.server.Make(s.name)
	c.Assert(err, check.IsNil)
	s.run(c, `INSERT INTO users (uuid, owner_uuid, created_at, updated_at, is_admin) VALUES
			('`+admin+`', '`+admin+`', now(), now(), true), ('`+alice+`', '`+alice+`', now(), now(), false);
		INSERT INTO frozen_groups VALUES ('`+icy+`');
		INSERT INTO trashed_groups VALUES ('`+bin+`', '2024-01-01'), ('`+alice+`', now() + interval '1 day')`)
	s.store, err = Open(s.ctx, s.dsn, "zzzzz", admin)
	c.Assert(err, check.IsNil)
	s.other, err = pgx.Connect(s.ctx, s.dsn)
	c.Assert(err, check.IsNil)
}

func (s *suite) TearDownTest(c *check.C) {
	c.Check(s.store.Close(s.ctx), check.IsNil)
	c.Check(s.other.Close(s.ctx), check.IsNil)
}

func (s *suite) run(c *check.C, statements string) {
	c.Assert(s.server.Run(s.name, statements), check.IsNil)
}

func uuid(n int) string { return fmt.Sprintf("zzzzz-4zz18-%015d", n) }

// collection makes one.
func (s *suite) collection(c *check.C, n int, owner string, properties interface{}) {
	_, err := s.other.Exec(s.ctx, `INSERT INTO collections (uuid, current_version_uuid, owner_uuid, portable_data_hash, manifest_text, properties,
		created_at, modified_at, updated_at, file_count) VALUES ($1, $1, $2, 'pdh'||$3, 'text', $4, '2024-01-01T01:02:03.456789', '2024-01-02', '2024-01-02', 1)`,
		uuid(n), owner, fmt.Sprint(n), properties)
	c.Assert(err, check.IsNil)
}

func (s *suite) link(c *check.C, n int, class, name, head string) {
	_, err := s.other.Exec(s.ctx, `INSERT INTO links (uuid, owner_uuid, link_class, name, head_uuid, properties, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, '{"image_timestamp":"2023-01-01T00:00:00Z"}', '2024-01-01T01:02:03.456789', now())`,
		fmt.Sprintf("zzzzz-o0j2j-%015d", n), alice, class, name, head)
	c.Assert(err, check.IsNil)
}

func (s *suite) read(c *check.C, numbers ...int) []imagemigrate.Collection {
	var uuids []string
	for _, n := range numbers {
		uuids = append(uuids, uuid(n))
	}
	colls, err := s.store.Collections(s.ctx, "uuid", uuids)
	c.Assert(err, check.IsNil)
	return colls
}

func (s *suite) write(c *check.C, colls []imagemigrate.Collection, after string) []error {
	var changes []imagemigrate.Planned
	for _, coll := range colls {
		changes = append(changes, imagemigrate.Planned{Read: coll, Undo: imagemigrate.Undo{Collection: coll.UUID, Before: coll.Raw, After: json.RawMessage(after)}})
	}
	outcomes := make([]error, len(changes))
	err := s.store.Write(s.ctx, changes, func(context.Context) error { return nil }, func(i int, err error) error {
		outcomes[i] = err
		return nil
	})
	c.Assert(err, check.IsNil)
	return outcomes
}

// What belongs to nobody is not seen, whether there is anything in the trash or not.
func (s *suite) TestWithoutOwner(c *check.C) {
	s.collection(c, 1, alice, `{}`)
	s.collection(c, 2, alice, `{}`)
	s.link(c, 1, "docker_image_hash", "sha256:x", uuid(1))
	s.link(c, 2, "docker_image_hash", "sha256:x", uuid(2))
	s.run(c, `UPDATE collections SET owner_uuid = NULL WHERE uuid = '`+uuid(1)+`';
		UPDATE links SET owner_uuid = NULL WHERE head_uuid = '`+uuid(1)+`'`)
	for _, trash := range []string{"", "TRUNCATE trashed_groups"} {
		s.run(c, trash)
		colls := s.read(c, 1, 2)
		c.Assert(colls, check.HasLen, 1)
		c.Check(colls[0].UUID, check.Equals, uuid(2))
		for links, err := range s.store.Heads(s.ctx, "") {
			c.Assert(err, check.IsNil)
			c.Check(links[0].HeadUUID, check.Equals, uuid(2))
		}
	}
}

// Anything that is not exactly as Arvados has it is refused before anything is read.
func (s *suite) TestUnknownSchemas(c *check.C) {
	c.Check(s.store.Version, check.Equals, "20251006181234")
	for i, trial := range []struct{ change, want string }{
		{`DROP TABLE links`, `there is no column links.created_at`},
		{`ALTER TABLE links DROP COLUMN head_uuid`, `there is no column links.head_uuid`},
		{`ALTER TABLE links RENAME head_uuid TO target_uuid`, `there is no column links.head_uuid`},
		{`DROP INDEX links_index_on_properties; ALTER TABLE links ALTER properties TYPE text`, `the column links.properties is of type text, not jsonb`},
		{`ALTER TABLE collections ALTER modified_at TYPE timestamptz`, `the column collections.modified_at is of type timestamp with time zone, not timestamp without time zone`},
		{`ALTER TABLE collections ADD properties_digest text`, `the column collections.properties_digest is not known`},
		{`DROP INDEX index_links_on_head_uuid`, `the column links.head_uuid has no index, which Arvados makes`},
		{`DROP TABLE frozen_groups`, `there is no column frozen_groups.uuid`},
		{`CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER t BEFORE UPDATE ON collections FOR EACH ROW EXECUTE FUNCTION f()`,
			`the table collections has triggers or rules, which Arvados does not make`},
		{`DELETE FROM schema_migrations WHERE version > '2022'; INSERT INTO schema_migrations VALUES ('20210816191509')`,
			`its schema is of version 20210816191509, and Arvados 2.4.0 has 20220303204419`},
		{`INSERT INTO collections (uuid, created_at, updated_at) VALUES ('other-4zz18-000000000000001', now(), now())`,
			`its collections are those of the cluster other, and the API server is that of zzzzz`},
		{`DELETE FROM users`, admin + `, whose token this is, is no administrator in it: it is another cluster's`},
		{`UPDATE users SET is_admin = NULL`, admin + `, whose token this is, is no administrator in it: .*`},
	} {
		name := fmt.Sprint("odd", i)
		dsn, err := s.server.Make(name)
		c.Assert(err, check.IsNil)
		c.Assert(s.server.Run(name, `INSERT INTO users (uuid, owner_uuid, created_at, updated_at, is_admin) VALUES ('`+admin+`', '`+admin+`', now(), now(), true);`+trial.change), check.IsNil)
		_, err = Open(s.ctx, dsn, "zzzzz", admin)
		c.Check(err, check.ErrorMatches, `request: check database: `+trial.want+` \(leave out --sql: the way through the API takes Arvados 2\.5\.0 and later\)`, check.Commentf("%s", trial.change))
	}
	// What is only read may have more; a client's UUID may be missing.
	s.run(c, `ALTER TABLE links ADD more text; ALTER TABLE collections DROP COLUMN modified_by_client_uuid CASCADE; INSERT INTO schema_migrations VALUES ('20990101000000')`)
	newer, err := Open(s.ctx, s.dsn, "zzzzz", admin)
	c.Assert(err, check.IsNil)
	c.Check(newer.Version, check.Equals, "20990101000000")
	c.Check(newer.Close(s.ctx), check.IsNil)
}

func (s *suite) TestAddresses(c *check.C) {
	for _, trial := range []struct{ dsn, want string }{
		{"postgresql://u:secret@host:port/x", `request: read address of the database: .*\(write postgresql://.*`},
		{"host=/nonexistent user=u password=secret dbname=x", `(?s)request: connect to database: .*\(name host, user and database as in PostgreSQL.Connection.*`},
	} {
		_, err := Open(s.ctx, trial.dsn, "zzzzz", admin)
		c.Check(err, check.ErrorMatches, trial.want)
		c.Check(err.Error(), check.Not(check.Matches), `(?s).*secret.*`)
	}
}

// Pages do not cut the links of a head, and begin anew anywhere.
func (s *suite) TestHeads(c *check.C) {
	const heads = 900
	s.run(c, fmt.Sprintf(`INSERT INTO links (uuid, owner_uuid, link_class, name, head_uuid, created_at, updated_at)
		SELECT 'zzzzz-o0j2j-'||lpad((n*7919%%1000003)::text, 15, '0'), CASE WHEN n%%10 = 0 THEN '%s' ELSE '%s' END,
			(ARRAY['docker_image_repo+tag', 'docker_image_hash', 'permission'])[n%%3+1], 'lab/app:'||n,
			CASE WHEN n%%%d = 5 THEN 'd41d8cd98f00b204e9800998ecf8427e+0' ELSE 'zzzzz-4zz18-'||lpad((n%%%[3]d)::text, 15, '0') END, now(), now()
		FROM generate_series(1, 9000) n; UPDATE links SET head_uuid = NULL WHERE name = 'lab/app:7'`, bin, alice, heads))
	// One head has more links than a page.
	s.run(c, `INSERT INTO links (uuid, owner_uuid, link_class, name, head_uuid, created_at, updated_at)
		SELECT 'zzzzz-o0j2j-many'||lpad(n::text, 11, '0'), '`+alice+`', 'docker_image_repo+tag', 'x:'||n, '`+uuid(40)+`', now(), now() FROM generate_series(1, 4500) n`)
	var want int
	c.Assert(s.other.QueryRow(s.ctx, `SELECT count(*) FROM links WHERE link_class <> 'permission' AND head_uuid IS NOT NULL AND owner_uuid <> $1`, bin).Scan(&want), check.IsNil)
	seen := map[string]int{}
	var order []string
	total := 0
	for links, err := range s.store.Heads(s.ctx, "") {
		c.Assert(err, check.IsNil)
		head := links[0].HeadUUID
		c.Assert(seen[head], check.Equals, 0)
		seen[head] = len(links)
		order = append(order, head)
		total += len(links)
		for _, link := range links {
			c.Assert(link.HeadUUID, check.Equals, head)
		}
	}
	c.Check(total, check.Equals, want)
	c.Check(seen[uuid(40)] > 2*page, check.Equals, true)
	for _, at := range []int{0, 39, 40, 41, 500, len(order) - 2, len(order) - 1} {
		var rest []string
		for links, err := range s.store.Heads(s.ctx, order[at]) {
			c.Assert(err, check.IsNil)
			rest = append(rest, links[0].HeadUUID)
		}
		c.Check(strings.Join(rest, " "), check.Equals, strings.Join(order[at+1:], " "))
	}
	to, err := s.store.LinksTo(s.ctx, uuid(40))
	c.Assert(err, check.IsNil)
	c.Check(to, check.HasLen, seen[uuid(40)])
	for range s.store.Heads(s.ctx, "") {
		break
	}
	// The planner goes by the index, however few links are for images.
	s.run(c, `INSERT INTO links (uuid, owner_uuid, link_class, head_uuid, created_at, updated_at)
		SELECT 'zzzzz-o0j2j-perm'||lpad(n::text, 11, '0'), '`+alice+`', 'permission', 'zzzzz-tpzed-'||lpad(n::text, 15, '0'), now(), now() FROM generate_series(1, 100000) n; ANALYZE links`)
	var plan []string
	rows, err := s.store.conn.Query(s.ctx, `EXPLAIN `+linksOf+` AND (head_uuid, uuid) > ('`+uuid(1)+`', NULL) ORDER BY head_uuid, uuid LIMIT 2000`)
	c.Assert(err, check.IsNil)
	plan, err = pgx.CollectRows(rows, pgx.RowTo[string])
	c.Assert(err, check.IsNil)
	c.Check(strings.Join(plan, "\n"), check.Matches, `(?s).*Index Scan using index_links_on_head_uuid.*Index Cond: .*head_uuid.*`)
}

// A record is what the API would show of it.
func (s *suite) TestRecords(c *check.C) {
	s.collection(c, 1, alice, `{"n": 12345678901234567890, "f": 1.50, "null": null}`)
	s.collection(c, 2, alice, nil)
	s.collection(c, 3, bin, `{}`)
	s.collection(c, 4, alice, `{}`)
	s.collection(c, 5, alice, `{}`)
	s.collection(c, 6, alice, `{}`)
	s.run(c, `UPDATE collections SET trash_at = now() - interval '1 second' WHERE uuid = '`+uuid(4)+`';
		UPDATE collections SET trash_at = now() + interval '1 hour' WHERE uuid = '`+uuid(5)+`';
		UPDATE collections SET current_version_uuid = '`+uuid(1)+`', version = 7 WHERE uuid = '`+uuid(6)+`'`)
	colls := s.read(c, 1, 2, 3, 4, 5, 6, 7)
	c.Assert(colls, check.HasLen, 3)
	c.Check(string(colls[0].Raw), check.Equals, `{"f": 1.50, "n": 12345678901234567890, "null": null}`)
	c.Check(colls[0].Properties["n"], check.Equals, json.Number("12345678901234567890"))
	c.Check(colls[0].CreatedAt, check.DeepEquals, time.Date(2024, 1, 1, 1, 2, 3, 456789000, time.UTC))
	c.Check(colls[0].PortableDataHash, check.Equals, "pdh1")
	c.Check(colls[0].ManifestText, check.Equals, "text")
	c.Check(colls[1].Raw, check.IsNil)
	c.Check(colls[2].UUID, check.Equals, uuid(5))
	bare, err := s.store.Properties(s.ctx, []string{uuid(1), uuid(2), uuid(3), uuid(5)})
	c.Assert(err, check.IsNil)
	for i := range colls {
		colls[i].ManifestText = ""
	}
	c.Check(bare, check.DeepEquals, colls)
	gone, err := s.store.Gone(s.ctx, []string{uuid(3), uuid(4), uuid(6), uuid(7)})
	c.Assert(err, check.IsNil)
	c.Check(gone, check.DeepEquals, map[string]imagemigrate.Kind{uuid(3): imagemigrate.TrashedHead, uuid(4): imagemigrate.TrashedHead,
		uuid(6): imagemigrate.OldHead, uuid(7): imagemigrate.GoneHead})
	byPDH, err := s.store.Collections(s.ctx, "portable_data_hash", []string{"pdh2", "pdh3"})
	c.Assert(err, check.IsNil)
	c.Check(byPDH, check.HasLen, 1)

	s.link(c, 1, "docker_image_hash", "sha256:x", uuid(1))
	links, err := s.store.LinksTo(s.ctx, uuid(1))
	c.Assert(err, check.IsNil)
	c.Check(links, check.DeepEquals, []arvados.Link{{UUID: "zzzzz-o0j2j-000000000000001", LinkClass: "docker_image_hash", Name: "sha256:x", OwnerUUID: alice,
		HeadUUID: uuid(1), CreatedAt: time.Date(2024, 1, 1, 1, 2, 3, 456789000, time.UTC), Properties: map[string]interface{}{"image_timestamp": "2023-01-01T00:00:00Z"}}})
	frozen, err := s.store.Frozen(s.ctx, []string{icy, bin})
	c.Assert(err, check.IsNil)
	c.Check(frozen, check.DeepEquals, map[string]bool{icy: true})

	// What cannot be written to is told.
	s.collection(c, 10, alice, []string{"x"})
	s.collection(c, 11, alice, `"x"`)
	s.run(c, `INSERT INTO collections (uuid, current_version_uuid, owner_uuid, created_at, updated_at, properties, preserve_version) VALUES
		('`+uuid(12)+`', '`+uuid(12)+`', '`+alice+`', now(), now(), 'null', false), ('`+uuid(13)+`', '`+uuid(13)+`', '`+alice+`', now(), now(), '{}', true),
		('`+uuid(14)+`', '`+uuid(14)+`', '`+alice+`', now(), now(), NULL, NULL)`)
	obstacles := map[string]imagemigrate.Kind{}
	for _, coll := range s.read(c, 1, 10, 11, 12, 13, 14) {
		obstacles[coll.UUID] = coll.Obstacle
	}
	c.Check(obstacles, check.DeepEquals, map[string]imagemigrate.Kind{uuid(1): "", uuid(10): imagemigrate.NoObject, uuid(11): imagemigrate.NoObject,
		uuid(12): imagemigrate.NoObject, uuid(13): imagemigrate.KeptVersion, uuid(14): ""})

	// Of what is no image, no more is read than tells that.
	_, err = s.other.Exec(s.ctx, `UPDATE collections SET manifest_text = repeat('x', $1), file_count = CASE uuid WHEN $2 THEN 1 ELSE 2 END`, 2*manifestLimit, uuid(1))
	c.Assert(err, check.IsNil)
	colls = s.read(c, 1, 2)
	c.Check(colls[0].ManifestText, check.HasLen, 2*manifestLimit)
	c.Check(colls[1].ManifestText, check.HasLen, manifestLimit)
}

func (s *suite) TestReplacements(c *check.C) {
	s.run(c, `INSERT INTO links (uuid, owner_uuid, link_class, tail_uuid, head_uuid, created_at, updated_at) VALUES
		('1', 'zzzzz-tpzed-000000000000000', 'docker_image_migration', 'old', 'new', '2020-01-01', now()),
		('2', 'zzzzz-tpzed-000000000000000', 'docker_image_migration', 'old', 'newer', '2020-01-02', now()),
		('3', '`+alice+`', 'docker_image_migration', 'old', 'forged', '2020-01-03', now()),
		('4', 'zzzzz-tpzed-000000000000000', 'other', 'old', 'other', '2020-01-04', now())`)
	to, err := s.store.Replacements(s.ctx, []string{"old", "none"})
	c.Assert(err, check.IsNil)
	c.Check(to, check.DeepEquals, map[string]string{"old": "newer"})
}

// A change is made if all is as it was read, and in no other case.
func (s *suite) TestWrite(c *check.C) {
	const after = `{"a":"<&>","n":12345678901234567890}`
	for n, owner := range []string{alice, alice, alice, alice, icy, alice, alice, alice} {
		s.collection(c, n, owner, `{"a": 1, "b": [1, 2]}`)
	}
	s.collection(c, 8, alice, nil)
	s.collection(c, 9, alice, `{"a": 1}`)
	colls := s.read(c, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	s.run(c, `UPDATE collections SET properties = '{"b": [2, 1], "a": 1}' WHERE uuid = '`+uuid(1)+`';
		UPDATE collections SET portable_data_hash = 'changed' WHERE uuid = '`+uuid(2)+`';
		UPDATE collections SET owner_uuid = '`+icy+`' WHERE uuid = '`+uuid(3)+`';
		UPDATE collections SET trash_at = now() WHERE uuid = '`+uuid(5)+`';
		UPDATE collections SET preserve_version = true WHERE uuid = '`+uuid(9)+`';
		DELETE FROM collections WHERE uuid = '`+uuid(6)+`'`)
	tx, err := s.other.Begin(s.ctx)
	c.Assert(err, check.IsNil)
	_, err = tx.Exec(s.ctx, `SELECT FROM collections WHERE uuid = $1 FOR UPDATE`, uuid(7))
	c.Assert(err, check.IsNil)
	refusals := s.write(c, colls, after) // which waits for nobody
	for n, refusal := range refusals {
		want := imagemigrate.ErrChanged
		switch n {
		case 0, 8:
			want = nil
		case 7:
			want = imagemigrate.ErrLocked
		}
		c.Check(refusal, check.Equals, want, check.Commentf("%d", n))
	}
	c.Assert(tx.Rollback(s.ctx), check.IsNil)
	refusals = s.write(c, colls[7:8], after)
	c.Check(refusals, check.DeepEquals, []error{nil})

	var changed int
	c.Assert(s.other.QueryRow(s.ctx, `SELECT count(*) FROM collections WHERE properties = $1 AND modified_at > now() - interval '1 minute' AND updated_at = modified_at
		AND modified_by_user_uuid = $2 AND version = 1`, after, admin).Scan(&changed), check.IsNil)
	c.Check(changed, check.Equals, 3)
	var untouched int
	c.Assert(s.other.QueryRow(s.ctx, `SELECT count(*) FROM collections WHERE modified_at = '2024-01-02'`).Scan(&untouched), check.IsNil)
	c.Check(untouched, check.Equals, 6)

	// Numbers keep their digits, and none at all is NULL.
	for _, trial := range []struct{ after, want string }{
		{`{"a":1.50,"b":18446744073709551616,"c":-0.0}`, `{"a": 1.50, "b": 18446744073709551616, "c": 0.0}`},
		{`{"a":1e400}`, `{"a": 1` + strings.Repeat("0", 400) + `}`},
		{`null`, "NULL"},
		{`{}`, "{}"},
	} {
		c.Check(s.write(c, s.read(c, 0), trial.after), check.DeepEquals, []error{nil})
		var got string
		c.Assert(s.other.QueryRow(s.ctx, `SELECT coalesce(properties::text, 'NULL') FROM collections WHERE uuid = $1`, uuid(0)).Scan(&got), check.IsNil)
		c.Check(got, check.Equals, trial.want)
	}
}

// Whoever locks the whole table is waited for, but not for ever, and that says
// nothing of a collection.
func (s *suite) TestTableLock(c *check.C) {
	s.collection(c, 1, alice, `{}`)
	colls := s.read(c, 1)
	tx, err := s.other.Begin(s.ctx)
	c.Assert(err, check.IsNil)
	_, err = tx.Exec(s.ctx, `LOCK TABLE collections IN SHARE MODE`)
	c.Assert(err, check.IsNil)
	_, err = s.store.conn.Exec(s.ctx, `SET lock_timeout = '20ms'`)
	c.Assert(err, check.IsNil)
	_, err = s.store.write(s.ctx, []imagemigrate.Planned{{Read: colls[0]}})
	c.Check(err, check.ErrorMatches, `api: change collections: .*lock timeout.*`)
	c.Check(fault.Transient(err), check.Equals, true)
	cancelled, cancel := context.WithCancel(s.ctx)
	time.AfterFunc(pause/2, cancel)
	_, err = s.store.write(cancelled, []imagemigrate.Planned{{Read: colls[0]}})
	c.Check(errors.Is(err, context.Canceled), check.Equals, true)
	released := make(chan error, 1)
	time.AfterFunc(pause/2, func() { released <- tx.Rollback(s.ctx) })
	c.Check(s.write(c, colls, `{"a":1}`), check.DeepEquals, []error{nil})
	c.Check(<-released, check.IsNil)
}

// A database that goes away may come back.
func (s *suite) TestLostConnection(c *check.C) {
	s.run(c, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'arv-docker migrate'`)
	_, err := s.store.LinksTo(s.ctx, uuid(1))
	c.Check(fault.SideOf(err), check.Equals, fault.API)
	_, err = s.store.Frozen(s.ctx, nil)
	c.Check(fault.Transient(err), check.Equals, true)
	cancelled, cancel := context.WithCancel(s.ctx)
	cancel()
	err = s.store.Write(cancelled, []imagemigrate.Planned{{}}, func(ctx context.Context) error { return ctx.Err() }, nil)
	c.Check(err, check.Equals, context.Canceled)
}
