// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"

	"gopkg.in/check.v1"
)

var _ = check.Suite(&nodeFileSuite{})

// nodeFileSuite has a folder such as /var/lock.
type nodeFileSuite struct{ dir string }

func (s *nodeFileSuite) SetUpTest(c *check.C) { s.dir = c.MkDir() }

// put makes a file that belongs to a user.
func (s *nodeFileSuite) put(c *check.C, name, content string, uid int) string {
	path := filepath.Join(s.dir, name)
	c.Assert(os.WriteFile(path, []byte(content), 0600), check.IsNil)
	c.Assert(os.Chown(path, uid, -1), check.IsNil)
	return path
}

// odd makes everything that is no regular file.
func (s *nodeFileSuite) odd(c *check.C) map[string]string {
	odd := map[string]string{}
	for _, what := range []string{"a FIFO", "a link", "a link to a FIFO", "a folder", "a socket"} {
		odd[what] = filepath.Join(s.dir, what)
	}
	c.Assert(syscall.Mkfifo(odd["a FIFO"], 0600), check.IsNil)
	c.Assert(os.Symlink(s.put(c, "target", "old", os.Getuid()), odd["a link"]), check.IsNil)
	c.Assert(os.Symlink(odd["a FIFO"], odd["a link to a FIFO"]), check.IsNil)
	c.Assert(os.Mkdir(odd["a folder"], 0700), check.IsNil)
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	c.Assert(err, check.IsNil)
	defer syscall.Close(fd)
	c.Assert(syscall.Bind(fd, &syscall.SockaddrUnix{Name: odd["a socket"]}), check.IsNil)
	return odd
}

// Only a regular file is opened; nothing else is waited for, followed or changed,
// whether it is to be read, written or made.
func (s *nodeFileSuite) TestOnlyRegularFiles(c *check.C) {
	for what, path := range s.odd(c) {
		for _, flag := range []int{os.O_RDONLY, os.O_WRONLY | os.O_CREATE | os.O_TRUNC, os.O_RDWR | os.O_CREATE} {
			f, err := OpenNodeFile(path, flag)
			c.Check(f, check.IsNil, check.Commentf("%s, %#x", what, flag))
			c.Check(err, check.ErrorMatches, `open .*/`+what+`: .*`, check.Commentf("%s, %#x", what, flag))
		}
	}
	target, err := os.ReadFile(filepath.Join(s.dir, "target"))
	c.Assert(err, check.IsNil)
	c.Check(string(target), check.Equals, "old")
}

func (s *nodeFileSuite) TestRegularFiles(c *check.C) {
	path := filepath.Join(s.dir, "new")
	_, err := OpenNodeFile(path, os.O_RDWR)
	c.Check(errors.Is(err, os.ErrNotExist), check.Equals, true)
	f, err := OpenNodeFile(path, os.O_RDWR|os.O_CREATE)
	c.Assert(err, check.IsNil)
	_, err = f.WriteString("content")
	c.Check(err, check.IsNil)
	c.Check(f.Close(), check.IsNil)
	text, err := readTrusted(path)
	c.Check(err, check.IsNil)
	c.Check(string(text), check.Equals, "content")
}

// What another user has written counts for nothing, except root's.
func (s *nodeFileSuite) TestWhoseFile(c *check.C) {
	own, others := s.put(c, "own", "x", 0), s.put(c, "others", "x", 65534)
	_, err := readTrusted(own)
	c.Check(err, check.IsNil)
	_, err = readTrusted(others)
	c.Check(err, check.ErrorMatches, `open .*/others: it belongs to another user`)
}
