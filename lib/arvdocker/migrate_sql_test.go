// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/imagemigrate"
	"git.arvados.org/arvados.git/lib/imagemigrate/pgtest"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localcluster"
	"github.com/jackc/pgx/v5"
	"gopkg.in/check.v1"
)

// migrateSQLSuite migrates a database of its own, as the administrator of a cluster
// that has the same users.
type migrateSQLSuite struct {
	fixture
	server *pgtest.Server
	dsn    string
	conn   *pgx.Conn
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
	s.conn, err = pgx.Connect(s.ctx, s.dsn)
	c.Assert(err, check.IsNil)
	c.Assert(s.server.Run("arvados", fmt.Sprintf(`
		INSERT INTO users (uuid, owner_uuid, created_at, updated_at, is_admin) VALUES ('%[1]s', '%[1]s', now(), now(), true);
		INSERT INTO collections (uuid, current_version_uuid, owner_uuid, portable_data_hash, manifest_text, properties, created_at, updated_at, file_count)
			SELECT 'zzzzz-4zz18-'||lpad(n::text, 15, '0'), 'zzzzz-4zz18-'||lpad(n::text, 15, '0'), '%[1]s', 'pdh'||n,
				'. d41d8cd98f00b204e9800998ecf8427e+0 0:0:sha256\072'||encode(sha256(n::text::bytea), 'hex')||E'.tar\n',
				jsonb_build_object('mine', n), '2024-01-01', now(), 1 FROM generate_series(1, 1500) n;
		INSERT INTO links (uuid, owner_uuid, link_class, name, head_uuid, properties, created_at, updated_at)
			SELECT 'zzzzz-o0j2j-'||lpad((n*2+k)::text, 15, '0'), '%[1]s', 'docker_image_repo+tag', 'lab/app:'||n%%99||'.'||k,
				'zzzzz-4zz18-'||lpad(n::text, 15, '0'), '{"image_timestamp":"2023-01-01T00:00:00Z"}', '2024-01-01', now()
			FROM generate_series(1, 1500) n, generate_series(0, 1) k`, user.UUID)), check.IsNil)
}

func (s *migrateSQLSuite) TearDownTest(c *check.C) {
	c.Check(s.conn.Close(s.ctx), check.IsNil)
	c.Check(s.server.Stop(), check.IsNil)
	s.fixture.TearDownTest(c)
}

// stored is the properties of all collections in the database.
func (s *migrateSQLSuite) stored(c *check.C) string {
	rows, err := s.conn.Query(s.ctx, `SELECT uuid || ' ' || properties::text FROM collections ORDER BY uuid`)
	c.Assert(err, check.IsNil)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	c.Assert(err, check.IsNil)
	return strings.Join(all, "\n")
}

// undo does what a rollback file tells, the last change first. The API of this test
// has none of the collections.
func (s *migrateSQLSuite) undo(c *check.C, path string) {
	buf, err := os.ReadFile(path)
	c.Assert(err, check.IsNil)
	for _, line := range slices.Backward(strings.Split(strings.TrimSpace(string(buf)), "\n")) {
		var undo imagemigrate.Undo
		c.Assert(json.Unmarshal([]byte(line), &undo), check.IsNil)
		_, err := s.conn.Exec(s.ctx, `UPDATE collections SET properties = $2 WHERE uuid = $1`, undo.Collection, undo.Before)
		c.Assert(err, check.IsNil)
	}
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
	s.undo(c, undo)
	c.Check(s.stored(c), check.Equals, original)

	for _, trial := range []struct{ flag, want string }{
		{"--verify", "--verify: it has no meaning with --sql"},
		{"--rollback", "--rollback: it has no meaning with --sql"},
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
	program := filepath.Join(dir, "arv-docker")
	out, err := exec.Command("go", "build", "-o", program, "../../cmd/arv-docker").CombinedOutput()
	c.Assert(err, check.IsNil, check.Commentf("%s", out))
	original := s.stored(c)
	s.callWith(c, call{}, "migrate", "--sql", s.dsn, "--rollback-file", filepath.Join(dir, "whole"))
	want := s.stored(c)
	c.Assert(want, check.Not(check.Equals), original)
	s.undo(c, filepath.Join(dir, "whole"))
	c.Assert(s.stored(c), check.Equals, original)

	rng := rand.New(rand.NewPCG(9, 9))
	kills, rounds := 0, 0
	for ; kills < 50; rounds++ {
		c.Assert(rounds < 100, check.Equals, true)
		log := filepath.Join(dir, fmt.Sprint("rollback", rounds))
		for done := false; !done; {
			cmd := exec.Command(program, "migrate", "--sql", s.dsn, "--rollback-file", log, "--resume", filepath.Join(dir, "resume"))
			cmd.Env = []string{"ARVADOS_API_HOST=" + s.user.APIHost, "ARVADOS_API_TOKEN=" + s.user.AuthToken, "ARVADOS_API_HOST_INSECURE=1", "HOME=" + dir}
			c.Assert(cmd.Start(), check.IsNil)
			wait := 60*time.Millisecond + time.Duration(rng.IntN(400))*time.Millisecond
			if kills >= 50 {
				wait = time.Minute
			}
			timer := time.AfterFunc(wait, func() { _ = cmd.Process.Kill() }) // fails if it has ended
			done = cmd.Wait() == nil
			timer.Stop()
			if !done {
				c.Assert(cmd.ProcessState.ExitCode(), check.Equals, -1) // by the signal, not by an error
				kills++
			}
		}
		c.Assert(s.stored(c), check.Equals, want, check.Commentf("after %d kills", kills))
		s.undo(c, log)
		c.Assert(s.stored(c), check.Equals, original, check.Commentf("after %d kills", kills))
	}
	c.Logf("killed %d times in %d migrations", kills, rounds)
}
