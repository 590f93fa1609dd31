// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"git.arvados.org/arvados.git/lib/imagemigrate/pgtest"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localcluster"
	"gopkg.in/check.v1"
)

// migrateSQLSuite migrates a database of its own, as the administrator of a cluster
// that has the same users.
type migrateSQLSuite struct {
	fixture
	server *pgtest.Server
	dsn    string
}

var _ = check.Suite(&migrateSQLSuite{})

func (s *migrateSQLSuite) SetUpTest(c *check.C) {
	s.fixture.SetUpTest(c)
	var user arvados.User
	c.Assert(s.user.RequestAndDecode(&user, "GET", "arvados/v1/users/current", nil, nil), check.IsNil)
	c.Assert(s.UserClient(localcluster.Admin).RequestAndDecode(nil, "PATCH", "arvados/v1/users/"+user.UUID, nil, attrs{"user": attrs{"is_admin": true}}), check.IsNil)
	var err error
	s.server, err = pgtest.Start("fsync=off")
	c.Assert(err, check.IsNil)
	s.dsn, err = s.server.Make("arvados")
	c.Assert(err, check.IsNil)
	c.Assert(s.server.Run("arvados", fmt.Sprintf(`
		INSERT INTO users (uuid, owner_uuid, created_at, updated_at, is_admin) VALUES ('%[1]s', '%[1]s', now(), now(), true);
		INSERT INTO collections (uuid, current_version_uuid, owner_uuid, portable_data_hash, manifest_text, properties, created_at, updated_at, file_count)
			SELECT '%[2]s-4zz18-'||lpad(n::text, 15, '0'), '%[2]s-4zz18-'||lpad(n::text, 15, '0'), '%[1]s', 'pdh'||n,
				'. d41d8cd98f00b204e9800998ecf8427e+0 0:0:sha256\072'||encode(sha256(n::text::bytea), 'hex')||E'.tar\n',
				jsonb_build_object('mine', n), '2024-01-01', now(), 1 FROM generate_series(1, 1500) n;
		UPDATE collections SET properties = '{"price": 1.50, "id": 18446744073709551616, "far": 1e400}' WHERE portable_data_hash = 'pdh1';
		UPDATE collections SET properties = NULL WHERE portable_data_hash = 'pdh2';
		INSERT INTO links (uuid, owner_uuid, link_class, name, head_uuid, properties, created_at, updated_at)
			SELECT '%[2]s-o0j2j-'||lpad((n*2+k)::text, 15, '0'), '%[1]s', 'docker_image_repo+tag', 'lab/app:'||n%%99||'.'||k,
				'%[2]s-4zz18-'||lpad(n::text, 15, '0'), '{"image_timestamp":"2023-01-01T00:00:00Z"}', '2024-01-01', now()
			FROM generate_series(1, 1500) n, generate_series(0, 1) k`, user.UUID, s.ClusterID)), check.IsNil)
}

func (s *migrateSQLSuite) TearDownTest(c *check.C) {
	c.Check(s.server.Stop(), check.IsNil)
	s.fixture.TearDownTest(c)
}

// stored is the properties of all collections in the database.
func (s *migrateSQLSuite) stored(c *check.C) string {
	all, err := s.server.Properties("arvados")
	c.Assert(err, check.IsNil)
	return all
}

func (s *migrateSQLSuite) TestMigrate(c *check.C) {
	original := s.stored(c)
	undo := filepath.Join(c.MkDir(), "rollback")
	dry := s.callWith(c, call{}, "migrate", "--sql", s.dsn, "--dry-run")
	c.Check(dry.code, check.Equals, 0)
	c.Check(dry.err, check.Matches, `(?s)the schema of the database is of version 20251006181234\n.*`)
	c.Check(dry.out, check.Matches, `(?s).*links: 3000, what they point to: 1500\ncollections to be written: 1500, unchanged: 0, left: 0, failed: 0\n.*`)
	c.Check(s.stored(c), check.Equals, original)
	wet := s.callWith(c, call{}, "migrate", "--sql", s.dsn, "--rollback-file", undo)
	c.Check(wet.out, check.Matches, `(?s).*collections written: 1500, unchanged: 0, left: 0, failed: 0\n.*`)
	again := s.callWith(c, call{}, "migrate", "--sql", s.dsn, "--rollback-file", undo)
	c.Check(again.out, check.Matches, `(?s).*collections written: 0, unchanged: 1500, left: 0, failed: 0\n.*`)
	report := filepath.Join(c.MkDir(), "report")
	back := s.callWith(c, call{}, "migrate", "--sql", s.dsn, "--rollback", "--rollback-file", undo, "--rate=10000", "--report", report)
	c.Check(back.out, check.Equals, "changes taken back: 1500, undone before: 0, left: 0, failed: 0\n")
	c.Check(s.stored(c), check.Equals, original)
	lines, err := os.ReadFile(report)
	c.Assert(err, check.IsNil)
	c.Check(strings.Count(string(lines), `","action":"written"}`+"\n"), check.Equals, 1500)
	twice := s.callWith(c, call{}, "migrate", "--sql", s.dsn, "--rollback", "--rollback-file", undo)
	c.Check(twice.out, check.Equals, "changes taken back: 0, undone before: 1500, left: 0, failed: 0\n")

	for _, trial := range []struct{ flag, want string }{
		{"--verify", "--verify: it has no meaning with --sql"},
		{"--deep", "--deep: it has no meaning with --sql"},
		{"--to-links", "--to-links: it has no meaning with --sql"},
		{"--parallel=2", "--parallel: it has no meaning with --sql"},
	} {
		a := s.callWith(c, call{}, "migrate", "--sql", s.dsn, trial.flag)
		c.Check(a.code, check.Equals, 1)
		c.Check(a.err, check.Matches, `(?s).*`+trial.want+`.*`)
	}
	c.Assert(s.server.Run("arvados", `DELETE FROM users`), check.IsNil)
	other := s.callWith(c, call{}, "migrate", "--sql", s.dsn, "--dry-run")
	c.Check(other.code, check.Equals, 1)
	c.Check(other.err, check.Matches, `(?s).*is no administrator in it: it is another cluster's.*`)
}

// Killed at 50 random points, it ends as if it had not been; and all can be undone.
func (s *migrateSQLSuite) TestKilled(c *check.C) {
	dir := c.MkDir()
	original := s.stored(c)
	undo := func(log string) {
		s.run(c, "migrate", "--sql", s.dsn, "--rollback", "--rollback-file", log)
		c.Assert(s.stored(c), check.Equals, original, check.Commentf("%s", log))
	}
	whole := filepath.Join(dir, "whole")
	s.run(c, "migrate", "--sql", s.dsn, "--rollback-file", whole)
	want := s.stored(c)
	c.Assert(want, check.Not(check.Equals), original)
	undo(whole)

	rng := rand.New(rand.NewPCG(9, 9))
	kills, midway, rounds := 0, 0, 0
	for ; kills < 50; rounds++ {
		c.Assert(rounds < 100, check.Equals, true)
		log := filepath.Join(dir, fmt.Sprint("rollback", rounds))
		more, gone := s.killUntilDone(c, rng, 50-kills, filepath.Join(dir, "resume"), "--sql", s.dsn, "--rollback-file", log)
		kills, midway = kills+more, midway+gone
		c.Assert(s.stored(c), check.Equals, want, check.Commentf("after %d kills", kills))
		undo(log)
	}
	c.Logf("killed %d times in %d migrations, gone on from the middle: %d", kills, rounds, midway)
	c.Check(midway > 0, check.Equals, true)
}
