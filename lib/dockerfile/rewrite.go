// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerfile

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"git.arvados.org/arvados.git/lib/fault"
)

// edit replaces the bytes at these places, which need not be adjacent, by one
// text.
type edit struct {
	at   []span
	text string // when use is -1
	use  int    // number of the image whose new name is written
}

// Rewrite is the Dockerfile with other names for its images: each is replaced
// where it stands by what replace gives for it, on the same line, and all else
// stays byte for byte. Names that stand in triggers of base images stay, too
// (see Use.Pinnable). The outcome has been read again: it builds the same from
// those images, or there is an error.
func (r *Recipe) Rewrite(replace func(Use) string) ([]byte, error) {
	names := make([]string, len(r.Images))
	for i, use := range r.Images {
		names[i] = replace(use)
	}
	drop, insert := make([]bool, len(r.text)), map[int]string{}
	for _, e := range r.edits {
		for _, at := range e.at {
			for i := at.start; i < at.end; i++ {
				drop[i] = true
			}
		}
		text := e.text
		if e.use >= 0 {
			text = names[e.use]
		}
		// At the last byte, so that a name which goes on over several lines
		// leaves no empty line behind, which would swallow the next
		// instruction.
		insert[e.at[len(e.at)-1].start] = text
	}
	var out bytes.Buffer
	for i, b := range r.text {
		out.WriteString(insert[i])
		if !drop[i] {
			out.WriteByte(b)
		}
	}
	if err := r.checkRewritten(out.Bytes(), names); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// checkRewritten reads a rewritten file as an engine will.
func (r *Recipe) checkRewritten(text []byte, names []string) error {
	failed := func(err error) error {
		return &fault.Error{Op: "write image names into", Side: fault.Request, Subject: r.opts.Name, Err: err, Hint: "write the names of images on one line, without quotes and escapes"}
	}
	bases := map[string][]string{}
	for i, use := range r.Images {
		bases[use.Name] = r.bases[use.Name]
		if triggers := r.bases[use.Name]; triggers != nil {
			bases[names[i]] = triggers
		}
	}
	again, err := parse(text, r.opts, bases)
	if err != nil {
		return failed(err)
	}
	type named struct {
		name, platform, instruction string
		line                        int
	}
	var want, got []named
	for i, use := range r.Images {
		for _, place := range use.Places {
			name := names[i]
			if place.Base != "" {
				name = use.Name
			}
			want = append(want, named{name, use.Platform, place.Instruction, place.Line})
		}
	}
	for _, use := range again.Images {
		for _, place := range use.Places {
			got = append(got, named{use.Name, use.Platform, place.Instruction, place.Line})
		}
	}
	order := func(a, b named) int {
		if a.line != b.line {
			return a.line - b.line
		}
		return bytes.Compare(fmt.Append(nil, a), fmt.Append(nil, b))
	}
	slices.SortFunc(want, order)
	slices.SortFunc(got, order)
	sameLines := func(a, b []byte) bool { return bytes.Count(a, []byte("\n")) == bytes.Count(b, []byte("\n")) }
	// The canonical form has a line for each instruction.
	if !slices.Equal(want, got) || !sameLines(text, r.text) || !sameLines(again.canon, r.canon) {
		return failed(errors.New("the file would mean something else then"))
	}
	return nil
}
