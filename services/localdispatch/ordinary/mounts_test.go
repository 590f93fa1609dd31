// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package ordinary

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"git.arvados.org/arvados.git/lib/builtinrun"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/lib/keepfile/keepaccess"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localcluster"
	"github.com/sirupsen/logrus"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var _ = check.Suite(&suite{})

// suite has a cluster without dispatcher, in which is one collection.
type suite struct {
	cluster *localcluster.Cluster
	input   arvados.Collection // "dir/in.txt" and "top.txt"
}

func (s *suite) SetUpSuite(c *check.C) {
	ctx := context.Background()
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	var err error
	s.cluster, err = localcluster.Start(ctx, localcluster.Options{Dir: c.MkDir(), Log: quiet})
	c.Assert(err, check.IsNil)
	session := s.session(c, arvados.Container{})
	pack := keepfile.NewPacker(ctx, keepfile.NewWriter(session.Keep, 1, arvados.BlockWriteOptions{}))
	c.Assert(pack.Add("dir/in.txt", strings.NewReader("input")), check.IsNil)
	c.Assert(pack.Add("top.txt", strings.NewReader("top")), check.IsNil)
	files, err := pack.Close()
	c.Assert(err, check.IsNil)
	c.Assert(session.User.RequestAndDecode(&s.input, "POST", "arvados/v1/collections", nil, map[string]interface{}{
		"collection": map[string]string{"manifest_text": keepfile.FormatManifest(files)},
	}), check.IsNil)
}

func (s *suite) TearDownSuite(c *check.C) { c.Assert(s.cluster.Stop(), check.IsNil) }

// session is that of a container, with the user's token.
func (s *suite) session(c *check.C, container arvados.Container) *builtinrun.Session {
	client := s.cluster.UserClient(localcluster.User)
	keep, err := keepaccess.Open(context.Background(), client)
	c.Assert(err, check.IsNil)
	log := logrus.New()
	log.SetOutput(io.Discard)
	return &builtinrun.Session{Container: container, User: client, Keep: keep, Log: log, Stdout: io.Discard, Stderr: io.Discard}
}

func (s *suite) TestStandardInput(c *check.C) {
	for _, t := range []struct {
		mount arvados.Mount
		want  string
	}{
		{arvados.Mount{Kind: "json", Content: map[string]int{"n": 1}}, `{"n":1}`},
		{arvados.Mount{Kind: "text", Content: "words"}, "words"},
		{arvados.Mount{Kind: "collection", PortableDataHash: s.input.PortableDataHash, Path: "dir/in.txt"}, "input"},
		{arvados.Mount{Kind: "collection", UUID: s.input.UUID, Path: "/top.txt"}, "top"},
	} {
		m, err := prepareMounts(context.Background(), s.session(c, arvados.Container{
			Mounts: map[string]arvados.Mount{"/out": {Kind: "tmp"}, "stdin": t.mount}, OutputPath: "/out",
		}), c.MkDir())
		c.Assert(err, check.IsNil)
		text, err := io.ReadAll(m.stdin)
		c.Check(err, check.IsNil)
		c.Check(string(text), check.Equals, t.want)
		c.Check(m.binds, check.HasLen, 1) // /out alone
		m.close()
	}
}

// What is mounted in the output folder is part of the output, as are streams
// that are sent there; secrets are not.
func (s *suite) TestOutput(c *check.C) {
	session := s.session(c, arvados.Container{
		Mounts: map[string]arvados.Mount{
			"/out":            {Kind: "tmp"},
			"/out/deep/a.txt": {Kind: "text", Content: "a"},
			"/out/in.txt":     {Kind: "collection", PortableDataHash: s.input.PortableDataHash, Path: "dir/in.txt"},
			"/out/whole":      {Kind: "collection", PortableDataHash: s.input.PortableDataHash},
			"/outside":        {Kind: "collection", PortableDataHash: s.input.PortableDataHash},
			"stdout":          {Kind: "file", Path: "/out/logs/stdout.txt"},
		},
		OutputPath: "/out",
	})
	session.Secrets = map[string]arvados.Mount{"/out/secret.txt": {Kind: "text", Content: "secret"}}
	m, err := prepareMounts(context.Background(), session, c.MkDir())
	c.Assert(err, check.IsNil)
	defer m.close()
	var targets []string
	for _, bind := range m.binds {
		targets = append(targets, bind.Container)
	}
	c.Check(targets, check.DeepEquals, []string{"/out", "/out/secret.txt", "/outside"})
	io.WriteString(m.stdout, "said")

	manifest, err := m.capture(context.Background(), session)
	c.Assert(err, check.IsNil)
	files, err := keepfile.ParseManifest(manifest)
	c.Assert(err, check.IsNil)
	got := map[string]string{}
	for _, file := range files {
		var text bytes.Buffer
		r := keepfile.NewReader(context.Background(), session.Keep, file)
		_, err := io.Copy(&text, r)
		c.Check(err, check.IsNil)
		r.Close()
		got[strings.TrimPrefix(file.Path, "./")] = text.String()
	}
	c.Check(got, check.DeepEquals, map[string]string{
		"deep/a.txt": "a", "in.txt": "input", "whole/dir/in.txt": "input", "whole/top.txt": "top", "logs/stdout.txt": "said",
	})
}

// Nothing outside of the output folder gets into the output.
func (s *suite) TestWhatIsNoOutput(c *check.C) {
	session := s.session(c, arvados.Container{Mounts: map[string]arvados.Mount{"/out": {Kind: "tmp"}}, OutputPath: "/out"})
	m, err := prepareMounts(context.Background(), session, c.MkDir())
	c.Assert(err, check.IsNil)
	defer m.close()
	c.Assert(os.Symlink("/etc/passwd", filepath.Join(m.output, "passwd")), check.IsNil)
	c.Assert(os.WriteFile(filepath.Join(m.output, "kept"), []byte("k"), 0600), check.IsNil)
	c.Assert(os.Symlink("kept", filepath.Join(m.output, "again")), check.IsNil)
	manifest, err := m.capture(context.Background(), session)
	c.Assert(err, check.IsNil)
	c.Check(manifest, check.Matches, `\. \S+ 0:1:again 1:1:kept\n|\. \S+( \S+)? \d:1:again \d:1:kept\n`)
}

func (s *suite) TestRefused(c *check.C) {
	for _, t := range []struct {
		target  string
		mount   arvados.Mount
		message string
	}{
		{"stdin", arvados.Mount{Kind: "collection", PortableDataHash: s.input.PortableDataHash, Path: "none"}, `mount stdin: .*no such file.*`},
		{"stdout", arvados.Mount{Kind: "file", Path: "/elsewhere/x"}, `mount stdout: /elsewhere/x is not below the output path`},
		{"stdout", arvados.Mount{Kind: "file", Path: "/out/../x"}, `mount stdout: /out/../x is not below the output path`},
		{"/in", arvados.Mount{Kind: "collection", UUID: "zzzzz-4zz18-000000000000000"}, `mount /in: .*Path not found.*`},
	} {
		_, err := prepareMounts(context.Background(), s.session(c, arvados.Container{
			Mounts: map[string]arvados.Mount{"/out": {Kind: "tmp"}, t.target: t.mount}, OutputPath: "/out",
		}), c.MkDir())
		c.Check(err, check.ErrorMatches, t.message)
	}
}
