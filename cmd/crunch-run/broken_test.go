// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"gopkg.in/check.v1"
)

var errGone = errors.New("the engine is gone")

// A node is given up only if ordinary containers run by the engine that is gone.
func (s *locksSuite) TestWhoseEngineIsGone(c *check.C) {
	usual := builtin.Site{Engine: builtin.SiteEngine{Host: builtin.DefaultEngine}}
	other := builtin.Site{Engine: builtin.SiteEngine{Host: "unix:///run/other.sock"}}
	ctx := context.Background()
	c.Check(s.dir.brokenFunc(ctx, command{engine: "singularity"}, usual, nil), check.IsNil)
	c.Check(s.dir.brokenFunc(ctx, command{engine: "docker"}, other, nil), check.IsNil)
	c.Check(s.dir.brokenFunc(ctx, command{engine: "docker"}, usual, nil), check.NotNil)
}

func (s *locksSuite) TestDispatcherIsToldOfABrokenNode(c *check.C) {
	usual := builtin.Site{Engine: builtin.SiteEngine{Host: builtin.DefaultEngine}}
	var stderr bytes.Buffer
	s.dir.brokenFunc(context.Background(), command{engine: "docker"}, usual, &stderr)(errGone)
	c.Check(stderr.String(), check.Equals, "this node is broken: the engine is gone\n")
	out, _ := s.list(c)
	c.Check(out, check.Equals, "broken\n")
}

// Whatever somebody has put there, the container goes on to its end, and nothing that
// is not meant is changed.
func (s *locksSuite) TestDispatcherCannotBeTold(c *check.C) {
	usual := builtin.Site{Engine: builtin.SiteEngine{Host: builtin.DefaultEngine}}
	target := filepath.Join(c.MkDir(), "target")
	for what, put := range map[string]func() error{
		"a FIFO": func() error { return syscall.Mkfifo(s.dir.broken(), 0700) },
		"a link": func() error { return os.Symlink(target, s.dir.broken()) },
	} {
		c.Assert(put(), check.IsNil)
		var stderr bytes.Buffer
		s.dir.brokenFunc(context.Background(), command{engine: "docker"}, usual, &stderr)(errGone)
		c.Check(stderr.String(), check.Matches, `this node is broken: the engine is gone\nnobody could be told: open .*crunch-run-broken: .*\n`, check.Commentf(what))
		c.Assert(os.Remove(s.dir.broken()), check.IsNil)
	}
	_, err := os.Stat(target)
	c.Check(os.IsNotExist(err), check.Equals, true)
}

func (s *locksSuite) TestBrokenNodeHook(c *check.C) {
	usual := builtin.Site{Engine: builtin.SiteEngine{Host: builtin.DefaultEngine}}
	hook := filepath.Join(c.MkDir(), "hook")
	c.Assert(os.WriteFile(hook, []byte("#!/bin/sh\necho drained\n"), 0700), check.IsNil)
	var stderr bytes.Buffer
	s.dir.brokenFunc(context.Background(), command{engine: "docker", brokenHook: hook}, usual, &stderr)(errGone)
	c.Check(stderr.String(), check.Equals, "this node is broken: the engine is gone\ndrained\n")
	out, _ := s.list(c)
	c.Check(out, check.Equals, "") // the hook has done what is to be done

	stderr.Reset()
	s.dir.brokenFunc(context.Background(), command{engine: "docker", brokenHook: hook + "-none"}, usual, &stderr)(errGone)
	c.Check(stderr.String(), check.Matches, `(?s).*nobody could be told: .*hook-none: no such file or directory\n`)
}

// A hook that hangs, and what it has started, keep no container from its end.
func (s *locksSuite) TestHookThatHangs(c *check.C) {
	const step = "sleep 314159"
	for title, script := range map[string]string{
		"it ends when told":       "#!/bin/sh\n" + step + "\n",
		"it does, but not others": "#!/bin/sh\n(trap '' TERM; " + step + ") &\n" + step + "\n",
		"it does not, and hangs":  "#!/bin/sh\ntrap '' TERM\n" + step + "\n",
	} {
		hook := filepath.Join(c.MkDir(), "hook")
		c.Assert(os.WriteFile(hook, []byte(script), 0700), check.IsNil)
		ctx, cancel := context.WithTimeoutCause(context.Background(), 100*time.Millisecond, errors.New("caught signal: terminated"))
		var stderr bytes.Buffer
		c.Check(runHook(ctx, hook, &stderr), check.ErrorMatches, hook+`: caught signal: terminated`, check.Commentf(title))
		cancel()
		for end := time.Now().Add(time.Minute); exec.Command("pgrep", "-f", "^"+step).Run() == nil; time.Sleep(10 * time.Millisecond) {
			c.Assert(time.Now().Before(end), check.Equals, true, check.Commentf("%s: %s", title, step))
		}
	}
}
