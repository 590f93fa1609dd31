// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtin

import (
	"errors"
	"io"
	"strings"
	"testing/iotest"

	"git.arvados.org/arvados.git/lib/fault"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&limitSuite{})

type limitSuite struct{}

var refusal = fault.Error{Op: "pull", Side: fault.Request, Subject: "alpine:3.22", Hint: "this site allows no more (pull.max_size)"}

// What a site allows is the most that comes through, be it read in one piece or in
// many.
func (*limitSuite) TestSizeLimit(c *check.C) {
	for _, trial := range []struct {
		size    int
		most    int64
		refused string
	}{
		{2000, 0, ""}, // no limit
		{2000, 2000, ""},
		{2000, 2001, ""},
		{0, 1, ""},
		{2049, 2048, `request: pull alpine:3.22: the image has more than 2.0 KiB \(this site allows no more \(pull.max_size\)\)`},
		{9000, 1, `request: pull alpine:3.22: the image has more than 1 B .*`},
	} {
		text := strings.Repeat("x", trial.size)
		for _, archive := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text))} {
			limited := &sizeLimit{archive: archive, most: trial.most, refusal: refusal}
			got, err := io.ReadAll(limited)
			c.Check(err, check.Equals, limited.err, check.Commentf("%+v", trial))
			if trial.refused == "" {
				c.Check(err, check.IsNil)
				c.Check(string(got), check.Equals, text)
				continue
			}
			c.Check(err, check.ErrorMatches, trial.refused)
			c.Check(int64(len(got)) <= trial.most, check.Equals, true)
			code, final := ExitCode(err)
			c.Check(final, check.Equals, true)
			c.Check(code, check.Equals, 2)
		}
	}
	c.Check(refusal.Err, check.IsNil) // each archive has an error of its own
}

// An archive that is cut short is not called too long.
func (*limitSuite) TestOtherErrors(c *check.C) {
	cut := errors.New("connection reset")
	limited := &sizeLimit{archive: io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(cut)), most: 3, refusal: refusal}
	got, err := io.ReadAll(limited)
	c.Check(string(got), check.Equals, "abc")
	c.Check(err, check.Equals, cut)
	c.Check(limited.err, check.IsNil)
}
