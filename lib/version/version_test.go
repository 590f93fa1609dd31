// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package version

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

type suite struct{}

var _ = check.Suite(&suite{})

// A program says what `go version -m` says of it.
func (*suite) TestAsTheBuilderHasIt(c *check.C) {
	program := filepath.Join(c.MkDir(), "arv-docker")
	out, err := exec.Command("go", "build", "-o", program, "../../cmd/arv-docker").CombinedOutput()
	c.Assert(err, check.IsNil, check.Commentf("%s", out))
	known, err := exec.Command("go", "version", "-m", program).Output()
	c.Assert(err, check.IsNil)
	var want string
	for line := range strings.Lines(string(known)) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[0] == "mod" {
			want = fields[2]
		}
	}
	c.Assert(want, check.Not(check.Equals), "")
	cmd := exec.Command(program, "--version")
	cmd.Env = append(os.Environ(), "ARVADOS_API_HOST=", "ARVADOS_API_TOKEN=") // it needs no server
	said, err := cmd.Output()
	c.Assert(err, check.IsNil)
	c.Check(string(said), check.Equals, "arv-docker "+want+"\n")
}
