// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"gopkg.in/check.v1"
)

const uuid = "zzzzz-dz642-000000000000001"

func Test(t *testing.T) { check.TestingT(t) }

// TestMain lets the test program stand for a detached crunch-run: it says what
// it was given, and waits to be killed.
func TestMain(m *testing.M) {
	if os.Getenv("CRUNCH_RUN_TEST_CHILD") != "" {
		stdin, _ := io.ReadAll(os.Stdin)
		report, _ := json.Marshal(childReport{Args: os.Args[1:], Stdin: len(stdin), PGID: syscall.Getpgrp(), PID: os.Getpid()})
		os.WriteFile(os.Getenv("CRUNCH_RUN_TEST_CHILD"), append(report, '\n'), 0600)
		select {}
	}
	os.Exit(m.Run())
}

type childReport struct {
	Args             []string
	Stdin, PGID, PID int
}

var _ = check.Suite(&locksSuite{})

type locksSuite struct {
	dir    lockDir
	report string
	held   []*os.File // with locks, which end when a file is closed or collected as garbage
}

func (s *locksSuite) SetUpTest(c *check.C) {
	s.dir = lockDir(c.MkDir())
	s.report = filepath.Join(c.MkDir(), "report")
	os.Setenv("CRUNCH_RUN_TEST_CHILD", s.report)
}

func (s *locksSuite) TearDownTest(c *check.C) {
	os.Unsetenv("CRUNCH_RUN_TEST_CHILD")
	for _, f := range s.held {
		c.Check(f.Close(), check.IsNil)
	}
	s.held = nil
}

func (s *locksSuite) list(c *check.C) (stdout, stderr string) {
	var out, errs bytes.Buffer
	c.Assert(s.dir.list(&out, &errs), check.IsNil)
	return out.String(), errs.String()
}

// detached starts a child and waits until it has read its stdin.
func (s *locksSuite) detached(c *check.C, stdin string) childReport {
	var out bytes.Buffer
	cmd := command{prog: os.Args[0], uuid: uuid, childArgs: []string{"-no-detach", "-stdin-config", uuid}}
	c.Assert(s.dir.detach(cmd, strings.NewReader(stdin), &out), check.IsNil)
	var proc procInfo
	c.Assert(json.Unmarshal(out.Bytes(), &proc), check.IsNil)
	lock, err := os.ReadFile(s.dir.path(uuid))
	c.Assert(err, check.IsNil)
	c.Check(string(lock), check.Equals, out.String())
	c.Check(out.String(), check.Equals, fmt.Sprintf("{\"UUID\":%q,\"PID\":%d}\n", uuid, proc.PID))
	for ; ; time.Sleep(10 * time.Millisecond) {
		buf, _ := os.ReadFile(s.report)
		if bytes.HasSuffix(buf, []byte("\n")) {
			var report childReport
			c.Assert(json.Unmarshal(buf, &report), check.IsNil)
			c.Check(report.PID, check.Equals, int(proc.PID))
			return report
		}
	}
}

func (s *locksSuite) TestDetachListKill(c *check.C) {
	report := s.detached(c, strings.Repeat("x", 1<<20)) // more than a pipe holds
	c.Check(report.Stdin, check.Equals, 1<<20)
	c.Check(report.Args, check.DeepEquals, []string{"-no-detach", "-stdin-config", uuid})
	c.Check(report.PGID, check.Equals, report.PID) // a group of its own

	out, errs := s.list(c)
	c.Check(out, check.Equals, uuid+"\n")
	c.Check(errs, check.Equals, "")
	out, _ = s.list(c) // the probe's signal has not killed it
	c.Check(out, check.Equals, uuid+"\n")

	// A second start of the same container is refused.
	err := s.dir.detach(command{prog: os.Args[0], uuid: uuid}, strings.NewReader(""), io.Discard)
	c.Check(err, check.ErrorMatches, `lock .*`+uuid+`.lock: resource temporarily unavailable`)

	go func() { // reap it, as init would
		syscall.Wait4(report.PID, nil, 0, nil)
	}()
	var stderr bytes.Buffer
	for s.dir.kill(uuid, syscall.SIGKILL, &stderr) != nil {
	}
	c.Check(stderr.String(), check.Matches, uuid+`: pid \d+: .*\n`)

	out, errs = s.list(c) // the lock is left over, and goes
	c.Check(out+errs, check.Equals, "")
	_, err = os.Stat(s.dir.path(uuid))
	c.Check(os.IsNotExist(err), check.Equals, true)
	c.Check(s.dir.kill(uuid, syscall.SIGTERM, &stderr), check.IsNil)
}

func (s *locksSuite) TestListOddFiles(c *check.C) {
	path := func(name string) string { return filepath.Join(string(s.dir), name) }
	hold := func(name, content string) {
		c.Assert(os.WriteFile(path(name), []byte(content), 0700), check.IsNil)
		f, err := os.Open(path(name))
		c.Assert(err, check.IsNil)
		s.held = append(s.held, f)
		c.Assert(syscall.Flock(int(f.Fd()), syscall.LOCK_EX), check.IsNil)
	}
	gone := exec.Command("/bin/true")
	c.Assert(gone.Run(), check.IsNil)
	hold("crunch-run-a.lock", fmt.Sprintf(`{"UUID":"a","PID":%d}`, gone.Process.Pid))
	hold("crunch-run-b.lock", `{"UUID":"","PID":1}`)
	hold("crunch-run-c.lock", `nonsense`)
	hold("crunch-run-d.lock", ``)
	hold("crunch-run-e.txt", `{"UUID":"e","PID":1}`)
	hold("other-f.lock", `{"UUID":"f","PID":1}`)
	// Anybody may write there. A number below zero, or one that is such to the
	// system, would mean all processes of a group, or all of the node. Here it
	// is a group that does not exist.
	hold("crunch-run-g.lock", fmt.Sprintf(`{"UUID":"g","PID":-%d}`, gone.Process.Pid))
	hold("crunch-run-h.lock", fmt.Sprintf(`{"UUID":"h","PID":%d}`, 1<<32-gone.Process.Pid))
	c.Assert(syscall.Mkfifo(path("crunch-run-i.lock"), 0700), check.IsNil)
	c.Assert(os.Mkdir(path("crunch-run-j.lock"), 0700), check.IsNil)
	c.Assert(syscall.Mkfifo(path("fifo"), 0700), check.IsNil)
	c.Assert(os.Symlink("fifo", path("crunch-run-k.lock")), check.IsNil)
	hold("crunch-run-broken", ``)
	runtime.GC()
	out, errs := s.list(c)
	c.Check(out, check.Equals, "a stale\nbroken\n")
	c.Check(errs, check.Matches, `.*crunch-run-b.lock: bogus procinfo: {UUID: PID:1}\n.*crunch-run-c.lock: invalid character.*\n.*crunch-run-g.lock: bogus procinfo: {UUID:g PID:-\d+}\n.*crunch-run-h.lock: .*cannot unmarshal number.*\n`)
	entries, err := os.ReadDir(string(s.dir))
	c.Assert(err, check.IsNil)
	c.Check(entries, check.HasLen, 14) // nothing that is held, or not ours, was removed; and there is the folder's lock
}

func (s *locksSuite) TestKillRefusesOddFiles(c *check.C) {
	for _, content := range []string{`{"UUID":"other","PID":1}`, `nonsense`,
		`{"UUID":"` + uuid + `","PID":0}`, `{"UUID":"` + uuid + `","PID":-1}`, `{"UUID":"` + uuid + `","PID":4294967295}`} {
		c.Assert(os.WriteFile(s.dir.path(uuid), []byte(content), 0700), check.IsNil)
		c.Check(s.dir.kill(uuid, 0, io.Discard), check.NotNil)
	}
}

// Nor what is no file: a FIFO would be waited for, and what a link leads to is not a
// lock.
func (s *locksSuite) TestOnlyFilesAreLocks(c *check.C) {
	self := fmt.Sprintf(`{"UUID":%q,"PID":%d}`, uuid, os.Getpid())
	target := filepath.Join(c.MkDir(), "target")
	c.Assert(os.WriteFile(target, []byte(self), 0700), check.IsNil)
	for what, put := range map[string]func() error{
		"a FIFO": func() error { return syscall.Mkfifo(s.dir.path(uuid), 0700) },
		"a link": func() error { return os.Symlink(target, s.dir.path(uuid)) },
	} {
		c.Assert(put(), check.IsNil)
		if what == "a FIFO" {
			go os.WriteFile(s.dir.path(uuid), []byte(self), 0) // who waits for it reads that
		}
		c.Check(s.dir.kill(uuid, 0, io.Discard), check.ErrorMatches, `open .*`+uuid+`.lock: (it is not a regular file|too many levels of symbolic links)`, check.Commentf(what))
		err := s.dir.detach(command{prog: os.Args[0], uuid: uuid}, strings.NewReader(""), io.Discard)
		c.Check(err, check.ErrorMatches, `open .*`+uuid+`.lock: (it is not a regular file|too many levels of symbolic links)`, check.Commentf(what))
		c.Assert(os.Remove(s.dir.path(uuid)), check.IsNil)
	}
	text, err := os.ReadFile(target)
	c.Assert(err, check.IsNil)
	c.Check(string(text), check.Equals, self)
}

func (s *locksSuite) TestKillReportsSurvivors(c *check.C) {
	self := fmt.Sprintf(`{"UUID":%q,"PID":%d}`, uuid, os.Getpid())
	c.Assert(os.WriteFile(s.dir.path(uuid), []byte(self), 0700), check.IsNil)
	c.Check(s.dir.kill(uuid, 0, io.Discard), check.ErrorMatches, uuid+`: pid \d+: sent signal 0 \(signal 0\) but process is still alive`)
}
