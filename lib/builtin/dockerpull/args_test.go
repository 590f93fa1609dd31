// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerpull

import (
	"testing"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var _ = check.Suite(&argsSuite{})

type argsSuite struct{}

func (*argsSuite) TestAccepted(c *check.C) {
	for _, trial := range []struct {
		args          []string
		ref, platform string
	}{
		{[]string{"alpine"}, "docker.io/library/alpine:latest", ""},
		{[]string{"alpine:3.22", "--platform", "linux/arm64"}, "docker.io/library/alpine:3.22", "linux/arm64"},
		{[]string{"--platform=linux/arm/v7", "example.com:5000/a/b:c"}, "example.com:5000/a/b:c", "linux/arm/v7"},
		{[]string{"--", "alpine"}, "docker.io/library/alpine:latest", ""},
	} {
		req, err := parseArgs(trial.args)
		c.Assert(err, check.IsNil, check.Commentf("%q", trial.args))
		c.Check(req.ref.String(), check.Equals, trial.ref)
		c.Check(req.platform, check.Equals, trial.platform)
	}
}

func (*argsSuite) TestRefused(c *check.C) {
	for _, trial := range []struct {
		args      []string
		complaint string
	}{
		{nil, `request: check command: no image name .*`},
		{[]string{""}, `request: .*`},
		{[]string{"Alpine"}, `request: .*lower.*`},
		{[]string{"alpine", "debian"}, `request: check command: more than one image name: \["alpine" "debian"\] .*`},
		{[]string{"--all-tags", "alpine"}, `request: check command: unknown flag: --all-tags .*`},
		{[]string{"alpine", "--platform"}, `request: check command: flag needs an argument: --platform .*`},
		{[]string{"alpine", "--platform", "linux"}, `request: check --platform: "linux" is no platform .*`},
		{[]string{"alpine", "--platform", ""}, `request: check --platform: "" is no platform .*`},
		{[]string{"alpine", "--platform", "linux//v7"}, `request: check --platform: .*`},
		{[]string{"alpine", "--platform", "a b/c"}, `request: check --platform: "a b/c" is no platform .*`},
		{[]string{"--help"}, `request: check command: .*`},
	} {
		_, err := parseArgs(trial.args)
		c.Check(err, check.ErrorMatches, trial.complaint, check.Commentf("%q", trial.args))
		c.Check(fault.SideOf(err), check.Equals, fault.Request)
	}
}

func (*argsSuite) TestMounts(c *check.C) {
	for _, trial := range []struct {
		path      string
		mount     arvados.Mount
		complaint string // "" is accepted
	}{
		{"/out", arvados.Mount{Kind: "tmp", Capacity: 1 << 30}, ""},
		{"/var/spool/cwl", arvados.Mount{Kind: "tmp"}, ""},
		{"stdout", arvados.Mount{Kind: "file", Path: "/out/stdout.txt"}, ""},
		{"/", arvados.Mount{Kind: "collection", Writable: true}, ""},
		{"/keep", arvados.Mount{Kind: "keep"}, ""},
		{"/src", arvados.Mount{Kind: "collection", PortableDataHash: "x+1"}, `request: check mounts\["/src"\]: docker pull reads no collection mount \(remove it from the request\)`},
		{"/a", arvados.Mount{Kind: "text", Content: "a"}, `.*reads no text mount.*`},
		{"stdin", arvados.Mount{Kind: "json", Content: 1}, `.*mounts\["stdin"\].*reads no json mount.*`},
	} {
		err := checkMounts(map[string]arvados.Mount{trial.path: trial.mount})
		if trial.complaint == "" {
			c.Check(err, check.IsNil, check.Commentf("%s", trial.path))
		} else {
			c.Check(err, check.ErrorMatches, trial.complaint)
		}
	}
}
