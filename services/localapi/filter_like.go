// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"strings"
	"unicode/utf8"
)

// isLike tells whether a text matches a pattern of PostgreSQL's LIKE, or of
// ILIKE: "_" is any character, "%" any number of them, and what follows a
// backslash is meant as it stands. It is called for each record that a search
// looks at, so it compiles nothing.
func isLike(text, pattern string, fold bool) bool {
	if fold {
		text, pattern = strings.ToLower(text), strings.ToLower(pattern)
	}
	runs := likeRuns(pattern)
	first, last := runs[0], runs[len(runs)-1]
	n, ok := first.startOf(text)
	if !ok || len(runs) == 1 {
		return ok && n == len(text)
	}
	text = text[n:]
	for _, run := range runs[1 : len(runs)-1] {
		// The first place is the best: it leaves most for the rest.
		for {
			skip := run.candidate(text)
			if skip < 0 {
				return false
			}
			if n, ok := run.startOf(text[skip:]); ok {
				text = text[skip+n:]
				break
			}
			text = text[skip+width(text[skip:]):]
		}
	}
	if len(last) == 0 {
		return true
	}
	for ; text != ""; text = text[width(text):] {
		if n, ok := last.startOf(text); ok && n == len(text) {
			return true
		}
		if len(last) == 1 && last[0] != "" { // nothing but text
			return strings.HasSuffix(text, last[0])
		}
	}
	return false
}

// likeRun is what stands between two "%" of a pattern: texts, and "" for each
// "_".
type likeRun []string

// likeRuns takes a pattern apart. There is at least one run.
func likeRuns(pattern string) []likeRun {
	runs := []likeRun{nil}
	var text strings.Builder
	end := func() {
		if text.Len() > 0 {
			runs[len(runs)-1] = append(runs[len(runs)-1], text.String())
			text.Reset()
		}
	}
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '%':
			end()
			runs = append(runs, nil)
		case '_':
			end()
			runs[len(runs)-1] = append(runs[len(runs)-1], "")
		case '\\':
			if i++; i < len(pattern) {
				text.WriteByte(pattern[i])
			}
		default:
			text.WriteByte(pattern[i])
		}
	}
	end()
	return runs
}

// startOf tells whether a text starts with the run, and how long that start is.
func (run likeRun) startOf(text string) (n int, ok bool) {
	for _, part := range run {
		switch {
		case part == "" && n < len(text):
			n += width(text[n:])
		case part != "" && strings.HasPrefix(text[n:], part):
			n += len(part)
		default:
			return 0, false
		}
	}
	return n, true
}

// candidate is the first place where the run may start, -1 if there is none.
func (run likeRun) candidate(text string) int {
	if len(run) > 0 && run[0] != "" {
		return strings.Index(text, run[0])
	}
	if len(run) > 0 && text == "" {
		return -1
	}
	return 0
}

// width is the length of the first character.
func width(text string) int {
	_, n := utf8.DecodeRuneInString(text)
	return n
}
