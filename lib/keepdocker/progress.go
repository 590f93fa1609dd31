// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepdocker

import (
	"fmt"
	"os"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
)

// progress shows how much of an image is stored. How much there is in all, the
// engine does not tell.
type progress struct {
	session *session
	shown   time.Time
	done    int64
}

// progressPause is the time between two lines.
const progressPause = time.Second

func (s *session) newProgress() *progress { return &progress{session: s, shown: time.Now()} }

// show is for a Saver, which calls it often.
func (p *progress) show(now dockerimage.Progress) {
	p.done = now.Done
	if time.Since(p.shown) >= progressPause {
		p.shown = time.Now()
		p.print()
	}
}

// end shows the last state.
func (p *progress) end() {
	p.print()
	if p.forPeople() {
		fmt.Fprintln(p.session.Stderr)
	}
}

func (p *progress) forPeople() bool {
	s := p.session
	return !s.machine && !s.noProgress && (s.progress || s.Terminal && !s.silent)
}

func (p *progress) print() {
	switch {
	case p.session.machine: // arv-put's line for programs; -1 is unknown
		fmt.Fprintf(p.session.Stderr, "arv-keepdocker %d: %d written -1 total\n", os.Getpid(), p.done)
	case p.forPeople():
		fmt.Fprintf(p.session.Stderr, "\r%dM ", p.done>>20)
	}
}
