// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	check "gopkg.in/check.v1"

	"golang.org/x/sys/unix"
)

type folderSuite struct {
	fixture
	dir  string
	root *os.Root
}

var _ = check.Suite(&folderSuite{})

func (s *folderSuite) SetUpTest(c *check.C) {
	s.fixture.SetUpTest(c)
	s.dir = c.MkDir()
	var err error
	s.root, err = os.OpenRoot(s.dir)
	c.Assert(err, check.IsNil)
}

func (s *folderSuite) TearDownTest(c *check.C) { c.Check(s.root.Close(), check.IsNil) }

func (s *folderSuite) write(c *check.C, name, content string, mode os.FileMode) {
	name = filepath.Join(s.dir, name)
	c.Assert(os.MkdirAll(filepath.Dir(name), 0755), check.IsNil)
	c.Assert(os.WriteFile(name, []byte(content), 0600), check.IsNil)
	c.Assert(os.Chmod(name, mode), check.IsNil)
}

func (s *folderSuite) link(c *check.C, target, name string) {
	c.Assert(os.Symlink(target, filepath.Join(s.dir, name)), check.IsNil)
}

func (s *folderSuite) tree(c *check.C) *Tree {
	t, err := FromFolder(s.ctx, s.root)
	c.Assert(err, check.IsNil)
	return t
}

func (s *folderSuite) TestFolder(c *check.C) {
	s.write(c, "plain", "p", 0600)
	s.write(c, "d/script", "#!", 0750)
	s.write(c, "d/others", "", 0601)
	s.write(c, "\xff \n", "odd", 0666)
	c.Assert(os.MkdirAll(filepath.Join(s.dir, "void/void"), 0700), check.IsNil)
	s.link(c, "/etc/passwd", "d/out")
	s.link(c, "..", "d/up")
	s.link(c, "loop", "loop")
	s.link(c, "nowhere", "dead")
	listener, err := net.Listen("unix", filepath.Join(s.dir, "socket"))
	c.Assert(err, check.IsNil)
	defer listener.Close()
	t := s.tree(c)
	c.Check(listing(c, t), check.DeepEquals, []string{
		`dead 777 -> nowhere`, `loop 777 -> loop`, `plain 644 "p"`, "\xff \n 644 \"odd\"",
		`d/ 755`, `d/others 644 ""`, `d/out 777 -> /etc/passwd`, `d/script 755 "#!"`, `d/up 777 -> ..`,
		`void/ 755`, `void/void/ 755`,
	})
	_, err = t.ReadFile(s.ctx, "d/out", 1<<20)
	checkRefused(c, err, "leads out of the build context")
}

func (s *folderSuite) TestWhatCannotBeSent(c *check.C) {
	s.write(c, "fine", "", 0644)
	c.Assert(unix.Mkfifo(filepath.Join(s.dir, "pipe"), 0600), check.IsNil)
	t := s.tree(c)
	_, err := readTar(t)
	checkRefused(c, err, `read "pipe": it is a device or a named pipe \(make it readable, or exclude it in .dockerignore\)`)
	_, err = t.Digest(s.ctx)
	checkRefused(c, err, `"pipe"`)
	_, err = t.ReadFile(s.ctx, "pipe", 1)
	checkRefused(c, err, `"pipe"`)
	without, err := t.Filter(context.Background(), Ignore{Patterns: []string{"pipe"}})
	c.Assert(err, check.IsNil)
	c.Check(listing(c, without), check.DeepEquals, []string{`fine 644 ""`})
}

func (s *folderSuite) TestNoPermission(c *check.C) {
	s.write(c, "fine", "", 0644)
	s.write(c, "secret", "", 0200)
	s.write(c, "closed/file", "", 0644)
	c.Assert(os.Chmod(filepath.Join(s.dir, "closed"), 0), check.IsNil)
	c.Assert(os.Chmod(s.dir, 0755), check.IsNil)
	if os.Getuid() == 0 { // for whom nothing is unreadable; this makes the thread somebody else
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		_, err := unix.SetfsuidRetUid(65534)
		c.Assert(err, check.IsNil)
		defer func() {
			_, err := unix.SetfsuidRetUid(0)
			c.Check(err, check.IsNil)
		}()
	}
	t := s.tree(c)
	_, err := t.Digest(s.ctx)
	checkRefused(c, err, `read "closed": permission denied`)
	_, err = t.Sub("closed")
	checkRefused(c, err, `read "closed": permission denied`)
	some, err := t.Filter(context.Background(), Ignore{Patterns: []string{"closed"}})
	c.Assert(err, check.IsNil)
	_, err = some.Digest(s.ctx)
	checkRefused(c, err, `read "secret": permission denied \(make it readable`)
	rest, err := some.Filter(context.Background(), Ignore{Patterns: []string{"secret"}})
	c.Assert(err, check.IsNil)
	_, err = rest.Digest(s.ctx)
	c.Check(err, check.IsNil)
}

func (s *folderSuite) TestFilesThatChange(c *check.C) {
	for _, trial := range []struct {
		change func(name string) error
		want   string
	}{
		{func(name string) error { return os.WriteFile(name, []byte("longer than before"), 0644) }, `"d/x": its size changed while it was read`},
		{func(name string) error { return os.Truncate(name, 1) }, `"d/x": its size changed while it was read`},
		{os.Remove, `"d/x": no such file`},
		{func(name string) error { return replace(name, os.Mkdir(name+"2", 0755)) }, `"d/x": it is no longer a file`},
		{func(name string) error { return replace(name, unix.Mkfifo(name+"2", 0600)) }, `"d/x": it is no longer a file`},
		{func(name string) error { return replace(name, os.Symlink("/etc/passwd", name+"2")) }, `"d/x": path escapes`},
	} {
		c.Assert(os.RemoveAll(filepath.Join(s.dir, "d")), check.IsNil)
		s.write(c, "d/x", "as it was", 0644)
		t := s.tree(c)
		c.Assert(trial.change(filepath.Join(s.dir, "d/x")), check.IsNil)
		_, err := readTar(t)
		checkRefused(c, err, trial.want)
	}
}

// replace puts what was made beside name in its place.
func replace(name string, err error) error {
	if err == nil {
		err = os.Remove(name)
	}
	if err == nil {
		err = os.Rename(name+"2", name)
	}
	return err
}

func (s *folderSuite) TestNoFolder(c *check.C) {
	c.Assert(os.Remove(s.dir), check.IsNil)
	t, err := FromFolder(s.ctx, s.root)
	if err == nil { // a folder that is open stays a folder
		n, _ := t.Size()
		c.Check(n, check.Equals, 0)
	}
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err = FromFolder(ctx, s.root)
	c.Check(err, check.Equals, context.Canceled)
}

// The same files make the same stream, be they here or in Keep, whenever they
// were written.
func (s *folderSuite) TestSameAsInKeep(c *check.C) {
	s.write(c, "a", strings.Repeat("a", 5000), 0755)
	s.write(c, "b/c", "", 0755)
	c.Assert(os.Chtimes(filepath.Join(s.dir, "a"), time.Unix(1, 0), time.Unix(1, 0)), check.IsNil)
	local := s.tree(c)
	remote := s.collection(c, s.cl.store(999, file{"a", strings.Repeat("a", 5000)}, file{"b/c", ""}))
	here, err := readTar(local)
	c.Assert(err, check.IsNil)
	there, err := readTar(remote)
	c.Assert(err, check.IsNil)
	c.Check(string(here) == string(there), check.Equals, true)
	for e := range remote.Entries() {
		if e.Kind == Regular {
			r, err := e.Open(s.ctx)
			c.Assert(err, check.IsNil)
			content, err := io.ReadAll(r)
			c.Check(err, check.IsNil)
			c.Check(int64(len(content)), check.Equals, e.Size)
			c.Check(r.Close(), check.IsNil)
		}
	}
}
