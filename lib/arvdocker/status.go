// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// plainInterval is the least time between two lines on what is under way where
// lines cannot be written over.
const plainInterval = 10 * time.Second

// terminalWidth is how much of a line is shown on a terminal: what every one has
// room for, since a line that wraps cannot be written over.
const terminalWidth = 79

// status tells the user how things go; newStatus makes one. Its methods may be called by several
// goroutines at a time.
type status struct {
	out      io.Writer
	terminal bool

	mtx  sync.Mutex
	live string    // the last line, if it is to be written over
	said time.Time // when now last wrote something
}

func newStatus(out io.Writer, terminal bool) *status {
	s := &status{out: out, terminal: terminal}
	if !terminal {
		s.said = time.Now() // what is done soon need not be told
	}
	return s
}

// say prints a line that stays.
func (s *status) say(format string, args ...any) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.clear()
	fmt.Fprintf(s.out, format+"\n", args...)
}

// now shows what is under way, until something else is shown.
func (s *status) now(text string) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	interval := plainInterval
	if s.terminal {
		interval = 100 * time.Millisecond
	}
	if time.Since(s.said) < interval {
		return
	}
	s.said = time.Now()
	if !s.terminal {
		fmt.Fprintln(s.out, text)
		return
	}
	runes := []rune(strings.ReplaceAll(text, "\n", " "))
	line := string(runes[:min(len(runes), terminalWidth)])
	if line == s.live {
		return
	}
	s.clear()
	fmt.Fprint(s.out, line)
	s.live = line
}

// done takes away what now has shown.
func (s *status) done() {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.clear()
}

func (s *status) clear() {
	if s.live != "" {
		fmt.Fprint(s.out, "\r\x1b[K") // ECMA-48: back, and erase to the end of the line
		s.live = ""
	}
}
