// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"path"
	"slices"
	"strings"
)

// Select is the part of the tree that an engine can read for COPY, ADD or a
// mount of these paths, which are relative, clean (path.Clean) and may have the
// wildcards of path.Match; "." is everything. What fits a folder takes all that
// is in it. The folders above come along.
//
// Engines follow links that are named, and those on the way to the first
// wildcard, but none inside a folder. Where one may be followed, or a pattern
// is malformed, the whole tree is selected.
func (t *Tree) Select(patterns []string) *Tree {
	if slices.Contains(patterns, ".") {
		return t
	}
	var selected []string
	whole := map[string]bool{} // folders
	for _, e := range t.entries {
		inside := whole[parentOf(e.Path)]
		take := inside
		for _, pattern := range patterns {
			named, err := path.Match(pattern, e.Path)
			// Without what is on its way, a pattern is an error.
			onWay := within(literalPart(pattern), e.Path)
			if err != nil || e.Kind == Symlink && (named || onWay) {
				return t
			}
			inside, take = inside || named, take || named || onWay
		}
		if take {
			selected = append(selected, e.Path)
			whole[e.Path] = inside
		}
	}
	return t.part(selected)
}

// literalPart is the part of a pattern before the first name with wildcards.
func literalPart(pattern string) string {
	if i := strings.IndexAny(pattern, `*?[\`); i >= 0 {
		return parentOf(pattern[:i])
	}
	return pattern
}
