// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	check "gopkg.in/check.v1"
)

// loaded loads the image of the test, and returns its id and a function to
// remove it.
func (s *conformance) loaded(c *check.C) (id string, remove func()) {
	id, err := s.engine.Load(context.Background(), bytes.NewReader(s.image.archive(c)))
	c.Assert(err, check.IsNil)
	return id, func() { c.Check(s.engine.RemoveImage(context.Background(), id), check.IsNil) }
}

// writer passes on what is written, as a function.
type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// sequence is what the command seq prints.
func sequence(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintln(&out, i+1)
	}
	return out.String()
}

func (s *conformance) TestContainer(c *check.C) {
	id, remove := s.loaded(c)
	defer remove()
	dir := c.MkDir()
	c.Assert(os.WriteFile(filepath.Join(dir, "in:put"), []byte("input"), 0644), check.IsNil)
	c.Assert(os.Mkdir(filepath.Join(dir, "out"), 0777), check.IsNil)
	binds := []Bind{
		{Host: filepath.Join(dir, "in:put"), Container: "/in:put", ReadOnly: true},
		{Host: filepath.Join(dir, "out"), Container: "/out"},
	}
	for _, trial := range []struct {
		what           string
		script         string
		spec           ContainerSpec
		exit           int
		stdout, stderr string
	}{
		{what: "streams are apart", script: "echo out; echo err >&2", stdout: "out\n", stderr: "err\n"},
		{what: "exit code", script: "exit 42", exit: 42},
		{what: "environment", script: "echo $A $PATH", spec: ContainerSpec{Env: []string{"A=b=c"}}, stdout: "b=c /bin\n"},
		{what: "working directory", script: "busybox pwd", spec: ContainerSpec{WorkingDir: "/tmp"}, stdout: "/tmp\n"},
		{what: "the image's own working directory", script: "busybox pwd", spec: ContainerSpec{WorkingDir: "."}, stdout: "/\n"},
		{what: "no standard input", script: "busybox cat"},
		{what: "standard input", script: "busybox cat", spec: ContainerSpec{Stdin: strings.NewReader("text")}, stdout: "text"},
		{what: "standard input that is not read", spec: ContainerSpec{Stdin: bytes.NewReader(make([]byte, 1<<20))}, script: "exit 3", exit: 3},
		{what: "read a bind", script: "busybox cat /in:put", spec: ContainerSpec{Binds: binds}, stdout: "input"},
		{what: "write to a bind", script: "echo x > /out/file && busybox cat /out/file", spec: ContainerSpec{Binds: binds}, stdout: "x\n"},
		{what: "write to a read-only bind", script: "echo x > /in:put || echo refused", spec: ContainerSpec{Binds: binds}, stdout: "refused\n", stderr: "sh: can't create /in:put: Read-only file system\n"},
		{what: "user", script: "busybox id -u", spec: ContainerSpec{User: "1234:5678"}, stdout: "1234\n"},
		{what: "no network", script: "busybox ls /sys/class/net | busybox grep -v lo", exit: 1},
		{what: "bridge network", script: "busybox test -e /sys/class/net/eth0 && echo eth0", spec: ContainerSpec{Network: NetworkBridge}, stdout: "eth0\n"},
		{what: "host network", script: "busybox test -e /sys/class/net/docker0 && echo docker0", spec: ContainerSpec{Network: NetworkHost}, stdout: "docker0\n"},
		{what: "memory limit", script: "busybox cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/tmp/x; true", spec: ContainerSpec{Memory: 64 << 20}, stdout: "67108864\n"},
		{what: "a limit below what engines take", script: "true", spec: ContainerSpec{Memory: 1}},
		{what: "half a CPU", script: "busybox cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/tmp/x || busybox cut -d' ' -f1 /sys/fs/cgroup/cpu.max", spec: ContainerSpec{CPUs: 0.5}, stdout: "50000\n"},
		{what: "much output", script: "busybox seq 100000; busybox seq 100000 >&2", stdout: sequence(100000), stderr: sequence(100000)},
	} {
		var stdout, stderr bytes.Buffer
		spec := trial.spec
		spec.Image, spec.Command = id, []string{"sh", "-c", trial.script}
		spec.Labels = map[string]string{testLabel: s.image.label}
		spec.Stdout, spec.Stderr = &stdout, &stderr
		result, err := s.engine.RunContainer(context.Background(), spec)
		comment := check.Commentf("%s", trial.what)
		c.Assert(err, check.IsNil, comment)
		c.Check(result, check.Equals, ContainerResult{ExitCode: trial.exit}, comment)
		c.Check(stdout.String(), check.Equals, trial.stdout, comment)
		c.Check(stderr.String(), check.Equals, trial.stderr, comment)
	}
}

func (s *conformance) TestOutOfMemory(c *check.C) {
	id, remove := s.loaded(c)
	defer remove()
	result, err := s.engine.RunContainer(context.Background(), ContainerSpec{
		Image:   id,
		Command: []string{"busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"},
		Memory:  32 << 20,
	})
	c.Assert(err, check.IsNil)
	c.Check(result.ExitCode, check.Equals, 137) // the engine may miss why
}

func (s *conformance) TestContainerThatCannotStart(c *check.C) {
	id, remove := s.loaded(c)
	defer remove()
	for _, trial := range []struct {
		spec    ContainerSpec
		side    fault.Side
		message string
	}{
		{ContainerSpec{Image: id, Command: []string{"no-such-program"}}, fault.Request, `request: start command \["no-such-program"\] in image .*is there such a program.*`},
		{ContainerSpec{Image: id, Command: []string{"/tmp"}}, fault.Request, `request: start command.*`},
		{ContainerSpec{Image: id, Command: []string{"sh"}, WorkingDir: "relative"}, fault.Request, `request: .*relative.*`},
		{ContainerSpec{Image: "sha256:" + strings.Repeat("0", 64)}, fault.Engine, `engine: create container of image sha256:0.*\(something has removed the image from the engine\)`},
		{ContainerSpec{Image: id, Binds: []Bind{{Host: "/no/such/folder", Container: "/x"}}}, fault.Request, `request: .*/no/such/folder.*`},
	} {
		trial.spec.Labels = map[string]string{testLabel: s.image.label}
		_, err := s.engine.RunContainer(context.Background(), trial.spec)
		s.checkFault(c, err, trial.side, trial.side == fault.Engine, trial.message)
	}
}

// A container that is cancelled while it runs is gone when RunContainer returns,
// and nothing is written after that.
func (s *conformance) TestCancelContainer(c *check.C) {
	id, remove := s.loaded(c)
	defer remove()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := false
	_, err := s.engine.RunContainer(ctx, ContainerSpec{
		Image:   id,
		Command: []string{"sh", "-c", "trap '' TERM; while true; do echo running; done"},
		Labels:  map[string]string{testLabel: s.image.label},
		Stdout: writer(func(p []byte) (int, error) {
			c.Check(ended, check.Equals, false)
			cancel()
			return len(p), nil
		}),
	})
	ended = true
	c.Check(errors.Is(err, context.Canceled), check.Equals, true, check.Commentf("%v", err))
	c.Check(s.containers(c), check.HasLen, 0)
}

func (s *conformance) TestContainerNotCreatedAfterCancel(c *check.C) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := s.engine.RunContainer(ctx, ContainerSpec{Image: "x"})
	c.Check(errors.Is(err, context.Canceled), check.Equals, true)
}

// When the output cannot be kept, there is no use in running on.
func (s *conformance) TestOutputFails(c *check.C) {
	id, remove := s.loaded(c)
	defer remove()
	full := errors.New("disk full")
	_, err := s.engine.RunContainer(context.Background(), ContainerSpec{
		Image:   id,
		Command: []string{"sh", "-c", "while true; do echo running; done"},
		Labels:  map[string]string{testLabel: s.image.label},
		Stdout:  writer(func([]byte) (int, error) { return 0, full }),
	})
	c.Check(errors.Is(err, full), check.Equals, true, check.Commentf("%v", err))
}
