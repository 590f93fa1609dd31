// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"git.arvados.org/arvados.git/lib/fault"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// IgnoreName is the file that says what of a context is not to be sent.
const IgnoreName = ".dockerignore"

const (
	maxIgnore   = 1 << 20 // bytes of an ignore file
	maxPatterns = 10000   // in it: each is tried on every file
)

// Ignore is what an ignore file says. The zero value excludes nothing.
type Ignore struct {
	File     string // its path, for messages; "" if there is none
	Patterns []string
}

// ReadIgnore finds and reads the ignore file of a build. folder is where the
// context is in the tree, dockerfile the path of the Dockerfile in the tree,
// "" if it is not in it. As with docker, a file with the name of the Dockerfile
// and ".dockerignore" after it, in the same place, counts instead of the one at
// the top of the context.
func (t *Tree) ReadIgnore(ctx context.Context, folder, dockerfile string) (Ignore, error) {
	names := []string{path.Join(folder, IgnoreName)}
	if dockerfile != "" {
		names = []string{dockerfile + IgnoreName, names[0]}
	}
	for _, name := range names {
		content, err := t.ReadFile(ctx, name, maxIgnore)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return Ignore{}, err
		}
		return ParseIgnore(name, content)
	}
	return Ignore{}, nil
}

// ParseIgnore reads the content of an ignore file. name is for messages.
func ParseIgnore(name string, content []byte) (Ignore, error) {
	patterns, err := ignorefile.ReadAll(bytes.NewReader(content))
	if err != nil {
		return Ignore{}, &fault.Error{Op: "read", Side: fault.Request, Subject: fmt.Sprintf("%q", name), Err: err}
	}
	ignore := Ignore{File: name, Patterns: patterns}
	if len(patterns) > maxPatterns {
		return Ignore{}, ignore.fault(fmt.Errorf("it has %d patterns, more than the %d that are allowed", len(patterns), maxPatterns))
	}
	for _, pattern := range patterns {
		// A matcher compiles a pattern when it first needs it: one with
		// "!" when another one has matched.
		trial := []string{pattern}
		if pattern[0] == '!' {
			trial = []string{"x", pattern}
		}
		matcher, err := patternmatcher.New(trial)
		if err == nil {
			_, err = matcher.MatchesOrParentMatches("x")
		}
		if err != nil {
			return Ignore{}, ignore.fault(fmt.Errorf("pattern %.200q: %w", pattern, err))
		}
	}
	return ignore, nil
}

func (ig Ignore) fault(err error) error {
	return &fault.Error{Op: "apply", Side: fault.Request, Subject: fmt.Sprintf("%q", ig.File), Err: err, Hint: "correct the pattern"}
}

// Filter is the tree without what is ignored, by docker's own rules: the last
// pattern that fits decides, a pattern with "!" takes back, what fits a folder
// fits all that is in it, and a folder with something in it that is taken back
// stays. Nothing is exempt: Dockerfile and ignore file are read before.
func (t *Tree) Filter(ctx context.Context, ignore Ignore) (*Tree, error) {
	matcher, err := patternmatcher.New(ignore.Patterns)
	if err != nil {
		return nil, ignore.fault(err)
	}
	if len(matcher.Patterns()) == 0 {
		return t, nil
	}
	above := map[string]patternmatcher.MatchInfo{} // of folders
	var kept []string
	for _, e := range t.entries {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		excluded, info, err := matcher.MatchesUsingParentResults(e.Path, above[parentOf(e.Path)])
		if err != nil {
			return nil, ignore.fault(err)
		}
		if e.Kind == Folder {
			above[e.Path] = info
		}
		if !excluded {
			kept = append(kept, e.Path)
		}
	}
	return t.part(kept), nil
}
