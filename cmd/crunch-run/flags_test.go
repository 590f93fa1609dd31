// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"context"
	"io"
	"strings"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&flagsSuite{})

type flagsSuite struct{}

func (*flagsSuite) TestAsDispatchersCallIt(c *check.C) {
	cmd, err := parseFlags("crunch-run~0123", []string{"--detach", "--stdin-config", "--runtime-engine=docker", "--cgroup-parent-subsystem=memory", uuid}, io.Discard)
	c.Assert(err, check.IsNil)
	c.Check(cmd.detach, check.Equals, true)
	c.Check(cmd.stdinConfig, check.Equals, true)
	c.Check(cmd.uuid, check.Equals, uuid)
	c.Check(cmd.childArgs, check.DeepEquals, []string{"-no-detach", "--detach", "--stdin-config", "--runtime-engine=docker", "--cgroup-parent-subsystem=memory", uuid})

	// The detached child sees its parent's words, and does not detach again.
	child, err := parseFlags("crunch-run~0123", cmd.childArgs, io.Discard)
	c.Assert(err, check.IsNil)
	c.Check(child.detach, check.Equals, false)
	c.Check(child.stockArgs, check.DeepEquals, cmd.childArgs)

	cmd, err = parseFlags("crunch-run", []string{"--list"}, io.Discard)
	c.Assert(err, check.IsNil)
	c.Check(cmd.list, check.Equals, true)
	cmd, err = parseFlags("crunch-run", []string{"--kill", "15", uuid}, io.Discard)
	c.Assert(err, check.IsNil)
	c.Check(cmd.kill, check.Equals, 15)
	cmd, err = parseFlags("crunch-run", []string{uuid}, io.Discard)
	c.Assert(err, check.IsNil)
	c.Check(cmd.kill, check.Equals, -1)
	c.Check(cmd.site, check.Equals, builtin.DefaultSiteFile)
}

func (*flagsSuite) TestStockNeverSeesOurFlag(c *check.C) {
	for _, spelling := range [][]string{{"-builtin-config", "/x"}, {"--builtin-config", "/x"}, {"-builtin-config=/x"}, {"--builtin-config=/x"}} {
		args := append([]string{"-no-detach", "-stdin-config"}, spelling...)
		cmd, err := parseFlags("crunch-run", append(args, "--sleep=1s", uuid), io.Discard)
		c.Assert(err, check.IsNil)
		c.Check(cmd.site, check.Equals, "/x")
		c.Check(cmd.stockArgs, check.DeepEquals, []string{"-no-detach", "-stdin-config", "--sleep=1s", uuid})
	}
}

func (*flagsSuite) TestUsageErrors(c *check.C) {
	for _, args := range [][]string{
		{}, {"a", "b"}, {"--bogus", uuid}, {"--list", uuid}, {"short"}, {"../../../etc/xxxxxxxxxxxxxxx"}, {"--kill", "TERM", uuid},
	} {
		var stderr bytes.Buffer
		c.Check(run("crunch-run", args, strings.NewReader(""), io.Discard, &stderr), check.Equals, 2, check.Commentf("%q", args))
		c.Check(stderr.String(), check.Not(check.Equals), "")
	}
}

func (*flagsSuite) TestHelpAndVersion(c *check.C) {
	var stdout, stderr bytes.Buffer
	c.Check(run("crunch-run", []string{"-help"}, nil, &stdout, &stderr), check.Equals, 0)
	c.Check(stderr.String(), check.Matches, `(?s).*-stdin-config.*`)
	c.Check(run("crunch-run", []string{"-version"}, nil, &stdout, &stderr), check.Equals, 0)
	c.Check(stdout.String(), check.Matches, `crunch-run with builtin commands \["docker build" "docker pull"\] \(go.*\)\nall else: .*\n`)
}

func (*flagsSuite) TestWhatIsBuiltin(c *check.C) {
	const pinned, other = "aa74aece2d9695e90ea55207736b74f7+132", "aa74aece2d9695e90ea55207736b74f7+133"
	site := builtin.Site{BuiltinImages: []string{pinned}}
	for _, trial := range []struct {
		image   string
		command []string
		ours    bool
	}{
		{"arvados/builtin", []string{"docker", "pull", "x"}, true},
		{"arvados/none", []string{"docker", "pull", "x"}, true},
		{"arvados/builtin", []string{"echo"}, true}, // to be refused with a reason
		{pinned, []string{"docker", "pull", "x"}, true},
		{pinned, []string{"echo"}, false},
		{other, []string{"docker", "pull", "x"}, false}, // for all that can be seen
		{other, []string{"echo"}, false},
	} {
		ctr := arvados.Container{ContainerImage: trial.image, Command: trial.command}
		c.Check(isBuiltin(context.Background(), &arvados.Client{}, site, ctr, io.Discard), check.Equals, trial.ours, check.Commentf("%v", trial))
	}
}
