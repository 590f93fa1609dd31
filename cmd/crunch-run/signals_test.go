// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"os"
	"syscall"
	"time"

	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&signalsSuite{})

// signalsSuite starts this program as the dispatchers do that stay its parent:
// LSF, SLURM, and the local one.
type signalsSuite struct{ *node }

func (s *signalsSuite) SetUpSuite(c *check.C)    { s.node = newNode(c) }
func (s *signalsSuite) TearDownSuite(c *check.C) { s.close(c) }

func (s *signalsSuite) TestSettingsInTheEnvironment(c *check.C) {
	cr := s.submit(c, attrs{"command": []string{"docker", "pull", s.pushShell(c)}})
	var stderr bytes.Buffer
	c.Check(s.foreground(c, cr, &stderr).Wait(), check.IsNil, check.Commentf("%s", &stderr))
	c.Check(s.container(c, cr).State, check.Equals, arvados.ContainerStateComplete, check.Commentf("%s", &stderr))
}

// One signal is enough, whichever a dispatcher sends. crunch-dispatch-local sends
// SIGINT and never repeats it.
func (s *signalsSuite) TestOneSignal(c *check.C) {
	s.registry.Always("/stalls/manifests/", registrytest.Stall(0))
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT} {
		cr := s.submit(c, attrs{"command": []string{"docker", "pull", s.registry.Host() + "/stalls:1"}})
		var stderr bytes.Buffer
		cmd := s.foreground(c, cr, &stderr)
		s.waitRunning(c, cr)
		_, err := os.Stat(lockDir("/var/lock").path(cr.ContainerUUID))
		c.Check(os.IsNotExist(err), check.Equals, true) // which is for those that detach
		sent := time.Now()
		c.Assert(cmd.Process.Signal(sig), check.IsNil)
		c.Check(cmd.Wait(), check.IsNil, check.Commentf("%v: %s", sig, &stderr))
		c.Check(time.Since(sent) < 10*time.Second, check.Equals, true, check.Commentf("%v", sig))
		c.Check(s.container(c, cr).State, check.Equals, arvados.ContainerStateCancelled, check.Commentf("%v", sig))
		c.Check(stderr.String(), check.Matches, `(?s).*stopping container: caught signal: `+sig.String()+`\n.*`)
	}
}

// Signals that mean something else do that, and do not stop it.
func (s *signalsSuite) TestOtherSignals(c *check.C) {
	s.registry.Script("/waits/manifests/", registrytest.Status(503)) // of which the log tells
	s.registry.Always("/waits/manifests/", registrytest.Stall(0))
	cr := s.submit(c, attrs{"command": []string{"docker", "pull", s.registry.Host() + "/waits:1"}})
	var stderr bytes.Buffer
	cmd := s.foreground(c, cr, &stderr)
	s.waitRunning(c, cr)
	before := s.container(c, cr)
	for sig, done := range map[os.Signal]func(arvados.Container) bool{
		syscall.SIGUSR1: func(ctr arvados.Container) bool { return ctr.Log != before.Log }, // saved
		syscall.SIGUSR2: func(ctr arvados.Container) bool { return ctr.Cost > before.Cost },
	} {
		for tries := 0; !done(s.container(c, cr)) && c.Check(tries < 100, check.Equals, true, check.Commentf("%v", sig)); tries++ {
			c.Assert(cmd.Process.Signal(sig), check.IsNil)
			time.Sleep(100 * time.Millisecond)
		}
	}
	c.Check(s.container(c, cr).State, check.Equals, arvados.ContainerStateRunning)
	c.Assert(cmd.Process.Signal(syscall.SIGTERM), check.IsNil)
	c.Check(cmd.Wait(), check.IsNil, check.Commentf("%s", &stderr))
}
