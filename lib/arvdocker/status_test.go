// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"bytes"
	"strings"
	"time"

	"gopkg.in/check.v1"
)

var _ = check.Suite(&statusSuite{})

type statusSuite struct{}

// On a terminal what is under way is written over.
func (*statusSuite) TestTerminal(c *check.C) {
	var out bytes.Buffer
	s := newStatus(&out, true)
	s.now("one\ntwo")
	s.now("too soon to be shown")
	s.said = time.Time{}
	s.now("one\ntwo") // is there already
	s.say("said %d", 1)
	s.said = time.Time{}
	s.now(strings.Repeat("ä", 100))
	s.done()
	s.done()
	c.Check(out.String(), check.Equals, "one two\r\x1b[Ksaid 1\n"+strings.Repeat("ä", 79)+"\r\x1b[K")
}

// Elsewhere it is a line now and then.
func (*statusSuite) TestPlain(c *check.C) {
	var out bytes.Buffer
	s := newStatus(&out, false)
	s.now("too soon to be told")
	s.said = time.Now().Add(-plainInterval)
	s.now("one")
	s.now("two")
	s.say("said")
	s.done()
	c.Check(out.String(), check.Equals, "one\nsaid\n")
}
