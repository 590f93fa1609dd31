// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"github.com/moby/term"
)

// plainInterval is the least time between two lines on what is under way where
// lines cannot be written over.
const plainInterval = 10 * time.Second

// usualWidth is how much of a line is shown on a terminal that does not tell its
// width: what every one has room for, since a line that wraps cannot be written
// over.
const usualWidth = 79

// status tells the user how things go; newStatus makes one. Its methods may be called by several
// goroutines at a time.
type status struct {
	out      io.Writer
	terminal bool

	mtx  sync.Mutex
	live string    // the last line, if it is to be written over
	said time.Time // when show last wrote something
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
	s.show(func(int) string { return text })
}

// transfer starts something that moves bytes. What it returns shows how far that
// has come; total is 0 if it is not known.
func (s *status) transfer(verb string) func(done, total int64) {
	started := time.Now()
	return func(done, total int64) {
		s.show(func(width int) string { return transferLine(verb, done, total, time.Since(started), width) })
	}
}

// show shows a line until something else is shown, if there was none for a while.
// It asks for the line of a terminal's width, or of width 0, which is no limit.
func (s *status) show(line func(width int) string) {
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
		fmt.Fprintln(s.out, line(0))
		return
	}
	width := s.width()
	runes := []rune(strings.ReplaceAll(line(width), "\n", " "))
	text := string(runes[:min(len(runes), width)])
	if text == s.live {
		return
	}
	s.clear()
	fmt.Fprint(s.out, text)
	s.live = text
}

// width is how many characters a line can have now. The last column stays empty:
// some terminals wrap when it is written.
func (s *status) width() int {
	if file, ok := s.out.(*os.File); ok {
		if size, err := term.GetWinsize(file.Fd()); err == nil && size.Width > 1 {
			return int(size.Width) - 1
		}
	}
	return usualWidth
}

// done takes away what show has shown.
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

// Bars shorter than leastBar tell nothing, and longer than mostBar nothing more.
const (
	leastBar = 10
	mostBar  = 40
)

// transferLine is the line on a transfer, with a bar if width has room for one.
func transferLine(verb string, done, total int64, elapsed time.Duration, width int) string {
	text := builtin.Size(done)
	if total > 0 {
		done = min(done, total) // a file may grow while it is read
		text = fmt.Sprintf("%3d%%  %s of %s", int(100*float64(done)/float64(total)), text, builtin.Size(total))
	}
	if elapsed >= time.Second {
		text += ", " + builtin.Size(int64(float64(done)/elapsed.Seconds())) + "/s"
	}
	room := min(width-len(verb)-len(text)-len(" []  "), mostBar)
	if total <= 0 || room < leastBar {
		return verb + " " + strings.TrimLeft(text, " ")
	}
	filled := int(float64(room) * float64(done) / float64(total))
	return verb + " [" + strings.Repeat("=", filled) + strings.Repeat(" ", room-filled) + "]  " + text
}
