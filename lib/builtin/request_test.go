// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtin

import (
	"errors"

	"git.arvados.org/arvados.git/lib/fault"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&requestSuite{})

type requestSuite struct{}

func (*requestSuite) TestWrong(c *check.C) {
	cause := errors.New("it is empty")
	err := Wrong("--tag", cause, "write name:tag")
	c.Check(err, check.ErrorMatches, `request: check --tag: it is empty \(write name:tag\)`)
	c.Check(fault.SideOf(err), check.Equals, fault.Request)
	c.Check(errors.Is(err, cause), check.Equals, true)
	code, final := ExitCode(err)
	c.Check(code, check.Equals, 2)
	c.Check(final, check.Equals, true)
}

// One platform, as it is written everywhere: what only looks like one would be
// looked for in vain.
func (*requestSuite) TestCheckPlatform(c *check.C) {
	for _, text := range []string{"linux/amd64", "linux/arm/v7", "linux/arm64/v8", "windows/amd64", "wasip1/wasm"} {
		c.Check(CheckPlatform(text), check.IsNil, check.Commentf(text))
	}
	for _, text := range []string{"", "linux", "/", "linux/", "/amd64", "linux//v7", "linux/arm/", "a/b/c/d", "a b/c", "linux/amd64 ", "Linux/amd64",
		"linux/amd64,linux/arm64", "linux/amd64\n"} {
		c.Check(CheckPlatform(text), check.ErrorMatches, `request: check --platform: ".*" is no platform \(write one as os/arch or os/arch/variant, as in linux/arm64\)`,
			check.Commentf("%q", text))
	}
}
