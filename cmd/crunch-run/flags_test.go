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

// What stands where our flag would, and what looks like it, is somebody else's.
func (*flagsSuite) TestWordsLikeOurFlag(c *check.C) {
	for _, args := range [][]string{
		{"-broken-node-hook", "builtin-config", uuid},
		{"-broken-node-hook", "builtin-config=/x", "-sleep=1s", uuid},
		{"-memprofile=builtin-config", uuid},
	} {
		cmd, err := parseFlags("crunch-run", args, io.Discard)
		c.Assert(err, check.IsNil)
		c.Check(cmd.stockArgs, check.DeepEquals, args)
		c.Check(cmd.site, check.Equals, builtin.DefaultSiteFile)
	}
}

// In Arvados's own words, which take one line.
func (*flagsSuite) TestUsageErrors(c *check.C) {
	for _, trial := range []struct {
		args []string
		code int
		want string // regular expression
	}{
		{nil, 2, `missing required argument: container-uuid \(try -help\)\n`},
		{[]string{"a", "b"}, 2, `missing required argument: container-uuid \(try -help\)\n`},
		{[]string{"-check-builtin", uuid, uuid}, 2, `missing required argument: .*\n`},
		{[]string{"--bogus", uuid}, 2, `error parsing command line arguments: flag provided but not defined: -bogus \(try -help\)\n`},
		{[]string{"--kill", "TERM", uuid}, 2, `error parsing command line arguments: invalid value "TERM" for flag -kill: .* \(try -help\)\n`},
		{[]string{"short"}, 1, `usage: crunch-run \[options\] UUID\n`},
		{[]string{"--kill", "15", "short"}, 0, ``}, // there is no such container
		{[]string{"--kill", "15", "../../../etc/xxxxxxxxxxxxxxx"}, 1, `"\.\./.*" is no container UUID\n`},
		{[]string{"--list", uuid}, 0, ``},
	} {
		var stderr bytes.Buffer
		c.Check(run("crunch-run", trial.args, strings.NewReader(""), io.Discard, &stderr), check.Equals, trial.code, check.Commentf("%q", trial.args))
		c.Check(stderr.String(), check.Matches, trial.want, check.Commentf("%q", trial.args))
	}
}

func (*flagsSuite) TestHelpAndVersion(c *check.C) {
	var stdout, stderr bytes.Buffer
	c.Check(run("crunch-run", []string{"-help"}, nil, &stdout, &stderr), check.Equals, 0)
	c.Check(stderr.String(), check.Matches, `(?s)Usage: crunch-run \[options\] container-uuid\n.*-stdin-config.*\nall else: .*\n`)
	c.Check(run("crunch-run", []string{"-version"}, nil, &stdout, &stderr), check.Equals, 0)
	c.Check(stdout.String(), check.Matches, `crunch-run \S+ \(go.*\) with builtin commands \["docker build" "docker pull"\]\nall else: .*\n`)
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
