// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"fmt"
	"strings"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

const (
	// keptLines of the output of a step are in the error when it fails.
	keptLines = 20
	// maxLine is where a line of output is cut in two, in bytes. No secret is so
	// long: in pieces it could not be recognized.
	maxLine = 1 << 20
)

// steps makes readable lines of what the builder reports:
//
//	#3 [2/5] RUN make
//	#3 cc -o tool tool.c
//	#3 [2/5] RUN make: 12.3 s
//
// Its methods are for one goroutine at a time.
type steps struct {
	log, activity func(string)
	names         *strings.Replacer // of bases, to what people call them
	all           map[digest.Digest]*step
	failed        *step // the first that failed for a reason of its own
}

// step is one vertex of the builder's graph.
type step struct {
	number    int // in the log; 0 as long as it is not there
	name      string
	internal  bool
	started   bool
	completed bool
	partial   string   // output without a line feed yet
	output    []string // the last lines
}

func (s *steps) update(status *bkclient.SolveStatus) {
	for _, v := range status.Vertexes {
		s.vertex(v)
	}
	for _, transfer := range status.Statuses {
		if transfer.Total > 0 && transfer.Completed == nil {
			s.activity(fmt.Sprintf("%s: %d %%", transfer.ID, transfer.Current*100/transfer.Total))
		}
	}
	for _, l := range status.Logs {
		s.print(s.get(l.Vertex), string(l.Data))
	}
	for _, w := range status.Warnings {
		line := "warning: " + string(w.Short)
		if len(w.Range) > 0 {
			line = fmt.Sprintf("warning: line %d: %s", w.Range[0].Start.Line, w.Short)
		}
		s.log(oneLine(line))
	}
}

func (s *steps) get(d digest.Digest) *step {
	found := s.all[d]
	if found == nil {
		if s.all == nil {
			s.all = map[digest.Digest]*step{}
		}
		found = &step{}
		s.all[d] = found
	}
	return found
}

// vertex is told each change of a step, often several times.
func (s *steps) vertex(v *bkclient.Vertex) {
	step := s.get(v.Digest)
	step.name, step.internal = s.stepName(v.Name)
	// A base may start once more when its layers are needed, after it has ended.
	if v.Started != nil && v.Completed == nil && !step.started && !step.completed && !v.Cached {
		step.started = true
		s.activity(step.name)
		s.headline(step, "")
	}
	if v.Completed == nil || step.completed {
		return
	}
	step.completed = true
	s.flushStep(step)
	switch {
	case v.Error != "":
		if s.failed == nil && !strings.Contains(v.Error, "context canceled") {
			s.failed = step
			s.headline(step, ": failed")
		} else {
			s.headline(step, ": given up")
		}
	case v.Cached:
		s.headline(step, ": cached")
	case v.Started != nil:
		s.headline(step, fmt.Sprintf(": %.1f s", v.Completed.Sub(*v.Started).Round(100*time.Millisecond).Seconds()))
	}
}

// headline logs a line about a step. What the builder does for itself is of
// interest only if it fails.
func (s *steps) headline(step *step, what string) {
	if !step.internal || what == ": failed" {
		s.line(step, step.name+what)
	}
}

func (s *steps) line(step *step, text string) {
	if step.number == 0 {
		for _, other := range s.all {
			step.number = max(step.number, other.number)
		}
		step.number++
	}
	s.log(fmt.Sprintf("#%d %s", step.number, text))
}

// print takes output of a step, which ends anywhere.
func (s *steps) print(step *step, text string) {
	step.partial += text
	for {
		line, rest, ended := strings.Cut(step.partial, "\n")
		if !ended && len(line) < maxLine {
			return
		}
		if len(line) > maxLine {
			line, rest = step.partial[:maxLine], step.partial[maxLine:]
		}
		step.partial = rest
		s.outputLine(step, line)
	}
}

func (s *steps) outputLine(step *step, line string) {
	line = strings.TrimSuffix(line, "\r")
	line = line[strings.LastIndex(line, "\r")+1:] // what a terminal would show
	line = strings.ToValidUTF8(line, "\uFFFD")
	if step.output = append(step.output, line); len(step.output) > keptLines {
		step.output = step.output[1:]
	}
	s.line(step, line)
}

func (s *steps) flushStep(step *step) {
	if step.partial != "" {
		line := step.partial
		step.partial = ""
		s.outputLine(step, line)
	}
}

// flush ends all lines: no more output comes.
func (s *steps) flush() {
	for _, step := range s.all {
		s.flushStep(step)
	}
}

// stepName is the name of a vertex for people. Some are the builder's own
// doings, and not a step of the recipe.
func (s *steps) stepName(name string) (shown string, internal bool) {
	internal = strings.HasPrefix(name, "[internal]") || strings.HasPrefix(name, "[context ") || strings.Contains(name, sourcePrefix)
	name = s.names.Replace(oneLine(name))
	if strings.HasPrefix(name, "http://buildkit-session/") {
		return "receive the build context", true
	}
	if name == "copy /context /" {
		return "unpack the build context", true
	}
	return name, internal
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
