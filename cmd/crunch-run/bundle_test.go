// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"gopkg.in/check.v1"
)

// bundle is this program with the stock one inside.
func (s *stockSuite) bundle(c *check.C) string {
	bundle := filepath.Join(c.MkDir(), "crunch-run~0123")
	stdout, stderr, _, code := s.run(c, "", s.front, "-bundle", s.stock, "-o", bundle)
	c.Assert(code, check.Equals, 0, check.Commentf("%s", stderr))
	c.Check(stdout, check.Matches, `.*crunch-run~0123, \d+ MiB: builtin commands \["docker build" "docker pull"\], and for all else crunch-run 3.2.1 \(go1.25\)\n`)
	return bundle
}

func (s *stockSuite) TestCarriedProgramStartsItselfAgain(c *check.C) {
	bundle := s.bundle(c)
	cmd := exec.Command(bundle, "-no-detach", "-stdin-config", uuid)
	cmd.Env = []string{"KEEPSTORE=1"}
	cmd.Stdin = strings.NewReader(s.input(s.api, 0))
	out, err := cmd.CombinedOutput()
	c.Assert(err, check.IsNil, check.Commentf("%s", out))
	c.Check(string(out), check.Matches, `(?s).*"Args":\["/proc/self/exe","keepstore"\].*`)
}

// It is copied into memory ahead, once, and does not stay there with a container that
// has no use for it.
func (s *stockSuite) TestCarriedProgramIsDropped(c *check.C) {
	made := 0
	carrying := stock{carried: sync.OnceValues(func() (*os.File, error) {
		made++
		return memoryFile(strings.NewReader("program"))
	})}
	carrying.prefetch()
	carrying.drop()
	f, err := carrying.carried()
	c.Assert(err, check.IsNil)
	c.Check(f.Close(), check.ErrorMatches, `.*file already closed`)
	c.Check(made, check.Equals, 1)
}

func (s *stockSuite) TestBundleOfABundle(c *check.C) {
	first := s.bundle(c)
	second := filepath.Join(c.MkDir(), "crunch-run")
	_, stderr, _, code := s.run(c, "", first, "-bundle", s.stock, "-o", second)
	c.Assert(code, check.Equals, 0, check.Commentf("%s", stderr))
	was, err := os.ReadFile(first)
	c.Assert(err, check.IsNil)
	is, err := os.ReadFile(second)
	c.Assert(err, check.IsNil)
	c.Check(bytes.Equal(was, is), check.Equals, true) // one stock program, not two
}

func (s *stockSuite) TestWhatCannotBeBundled(c *check.C) {
	script := filepath.Join(s.dir, "script")
	c.Assert(os.WriteFile(script, []byte("#!/bin/sh\n"), 0700), check.IsNil)
	bundle := s.bundle(c)
	for _, trial := range []struct{ stock, out, want string }{
		{s.stock, "", `.*-bundle: name the file to be written by -o\n`},
		{filepath.Join(s.dir, "none"), "x", `.*-bundle: open .*/none: no such file or directory\n`},
		{script, "x", `.*-bundle: .*/script: it is no program file: .*\n`},
		{"/bin/true", "x", `.*-bundle: /bin/true: it does not answer as Arvados's crunch-run does, but ""; name that one, such as /usr/bin/crunch-run\n`},
		{s.front, "x", `.*-bundle: .*: that is this program itself; name that one, .*\n`},
		{bundle, "x", `.*-bundle: .*: it is a crunch-run with builtin commands itself; name that one, .*\n`},
		{s.stock, "no/such/folder/x", `.*-o: open .*: no such file or directory\n`},
	} {
		dir := c.MkDir()
		args := []string{"-bundle", trial.stock}
		if trial.out != "" {
			args = append(args, "-o", filepath.Join(dir, trial.out))
		}
		stdout, stderr, _, code := s.run(c, "", s.front, args...)
		c.Check(code, check.Equals, 1, check.Commentf("%q", args))
		c.Check(stdout, check.Equals, "")
		c.Check(stderr, check.Matches, trial.want, check.Commentf("%q", args))
		left, err := os.ReadDir(dir)
		c.Assert(err, check.IsNil)
		c.Check(left, check.HasLen, 0) // nothing half-written
	}
}

func (s *stockSuite) TestDamagedBundle(c *check.C) {
	bundle := s.bundle(c)
	whole, err := os.ReadFile(bundle)
	c.Assert(err, check.IsNil)
	at := len(whole) - bundleTail
	for _, size := range []byte{0, 0xff} {
		damaged := bytes.Clone(whole)
		copy(damaged[at:], bytes.Repeat([]byte{size}, 8))
		path := filepath.Join(c.MkDir(), "crunch-run")
		c.Assert(os.WriteFile(path, damaged, 0700), check.IsNil)
		cmd := exec.Command(path, "-no-detach", "-stdin-config", uuid)
		stdin, err := cmd.StdinPipe()
		c.Assert(err, check.IsNil)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		c.Assert(cmd.Start(), check.IsNil)
		// Whoever hands it over hears nothing of the trouble, which is told in
		// one place.
		_, err = io.WriteString(stdin, s.input(s.api, 1<<20))
		c.Check(err, check.IsNil)
		stdin.Close()
		c.Check(cmd.Wait(), check.ErrorMatches, `exit status 1`)
		c.Check(stderr.String(), check.Matches, `.*is a damaged bundle: make it again\n`)
	}
}
