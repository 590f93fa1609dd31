// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
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

// What a transfer shows depends on what is known, and on the width.
func (*statusSuite) TestTransferLine(c *check.C) {
	const mib30 = 30 << 20
	for _, trial := range []struct {
		done, total int64
		elapsed     time.Duration
		width       int
		want        string
	}{
		{0, 0, 0, 79, "stored 0 B"},
		{5 << 20, 0, 2 * time.Second, 79, "stored 5.0 MiB, 2.5 MiB/s"},
		{0, mib30, 0, 79, "stored [                                        ]    0%  0 B of 30 MiB"},
		{12 << 20, mib30, time.Second, 79, "stored [==============                      ]   40%  12 MiB of 30 MiB, 12 MiB/s"},
		{12 << 20, mib30, time.Second, 54, "stored [====       ]   40%  12 MiB of 30 MiB, 12 MiB/s"},
		{12 << 20, mib30, time.Second, 52, "stored 40%  12 MiB of 30 MiB, 12 MiB/s"},
		{12 << 20, mib30, time.Second, 0, "stored 40%  12 MiB of 30 MiB, 12 MiB/s"},
		{40 << 20, mib30, 0, 79, "stored [========================================]  100%  40 MiB of 30 MiB"},
	} {
		line := transferLine("stored", trial.done, trial.total, trial.elapsed, trial.width)
		c.Check(line, check.Equals, trial.want)
		c.Check(trial.width == 0 || len(line) <= trial.width, check.Equals, true)
	}
}

// A transfer on a real terminal keeps to its width, also when that changes.
func (*statusSuite) TestWidth(c *check.C) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	c.Assert(err, check.IsNil)
	defer master.Close()
	c.Assert(unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0), check.IsNil)
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	c.Assert(err, check.IsNil)
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	c.Assert(err, check.IsNil)
	defer terminal.Close()
	s := newStatus(terminal, true)
	c.Check(s.width(), check.Equals, usualWidth) // it says 0
	show := s.transfer("sent")
	for _, trial := range []struct {
		width uint16
		want  string
	}{
		{60, "sent [=============             ]   50%  1.0 MiB of 2.0 MiB"},
		{30, "\r\x1b[Ksent 50%  1.0 MiB of 2.0 MiB"},
	} {
		c.Assert(unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: trial.width}), check.IsNil)
		s.said = time.Time{}
		show(1<<20, 2<<20)
		buf := make([]byte, 1024)
		n, err := master.Read(buf)
		c.Assert(err, check.IsNil)
		c.Check(string(buf[:n]), check.Equals, trial.want)
	}
}
