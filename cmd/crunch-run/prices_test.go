// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/check.v1"
)

const somePrices = `[{"StartTime":"2026-11-24T00:00:00Z","Price":0.12}]`

func (s *locksSuite) prices() string {
	text, _ := os.ReadFile(s.dir.prices())
	return string(text)
}

func (s *locksSuite) TestPricesComeWithTheQuestion(c *check.C) {
	r, w, err := os.Pipe()
	c.Assert(err, check.IsNil)
	null, err := os.Open(os.DevNull)
	c.Assert(err, check.IsNil)
	_, err = io.WriteString(w, somePrices)
	c.Assert(err, check.IsNil)
	w.Close()
	for _, trial := range []struct {
		title string
		flag  bool
		stdin io.Reader
		want  string
	}{
		{"a person asks", false, null, ""},
		{"a dispatcher without prices", true, strings.NewReader(""), ""},
		{"Arvados 3.2.0: a pipe, and no flag", false, r, somePrices},
		{"Arvados 3.2.1: a flag", true, strings.NewReader("[]"), "[]"},
		{"nothing new, what was known stays", true, strings.NewReader(""), "[]"},
	} {
		c.Check(s.dir.savePrices(command{stdinPrices: trial.flag}, trial.stdin), check.IsNil)
		c.Check(s.prices(), check.Equals, trial.want, check.Commentf(trial.title))
	}
	left, err := os.ReadDir(string(s.dir))
	c.Assert(err, check.IsNil)
	c.Check(left, check.HasLen, 1)
}

// Others on the node may guess how the file is called while it is being written.
func (s *locksSuite) TestNobodyIsInTheWayOfPrices(c *check.C) {
	inTheWay := fmt.Sprintf("%s~%d", s.dir.prices(), os.Getpid())
	target := filepath.Join(c.MkDir(), "target")
	c.Assert(os.Symlink(target, inTheWay), check.IsNil)
	c.Check(s.dir.savePrices(command{stdinPrices: true}, strings.NewReader(somePrices)), check.IsNil)
	c.Check(s.prices(), check.Equals, somePrices)
	_, err := os.Stat(target)
	c.Check(os.IsNotExist(err), check.Equals, true)
	info, err := os.Stat(s.dir.prices())
	c.Assert(err, check.IsNil)
	c.Check(info.Mode(), check.Equals, os.FileMode(0644)) // stock programs of other users read it, too
}

func (s *locksSuite) TestPricesCannotBeKept(c *check.C) {
	gone := lockDir(string(s.dir) + "/none")
	c.Check(gone.savePrices(command{stdinPrices: true}, strings.NewReader("[]")), check.ErrorMatches, `open .*/none/crunch-run-prices.json~\d+: no such file or directory`)
	c.Assert(os.Mkdir(s.dir.prices(), 0700), check.IsNil)
	c.Check(s.dir.savePrices(command{stdinPrices: true}, strings.NewReader("[]")), check.ErrorMatches, `rename .*`)
	left, err := os.ReadDir(string(s.dir))
	c.Assert(err, check.IsNil)
	c.Check(left, check.HasLen, 1) // nothing half-done
}
