// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerfile

import (
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// wholeContext is the path for all of the build context, which is also said
// wherever it is not certain what is read.
const wholeContext = "."

// reportCopied tells what COPY or ADD takes from the build context, before its
// variables are expanded: those in the destination make no difference.
func (b *build) reportCopied(ins instruction, env *environment) {
	var words []string
	parents := false
	switch command := ins.parsed.(type) {
	case *instructions.CopyCommand:
		if command.From == "" {
			words, parents = command.SourcePaths, command.Parents
		}
	case *instructions.AddCommand:
		words = command.SourcePaths
	}
	for _, word := range words {
		v, err := env.expand(b.lex, word)
		switch {
		case err != nil, v.doubt:
			b.reads(wholeContext)
		case parents:
			// Its wildcards are those of .dockerignore.
			b.reads(wholeContext)
		case strings.HasPrefix(v.text, "http://"), strings.HasPrefix(v.text, "https://"):
			// Only what begins like this is never a path for BuildKit.
		case strings.ContainsAny(v.text, `\:`):
			// A backslash is an escape character only if the path has
			// wildcards, and both are special in builds for Windows.
			// With a colon, it may also be a git URL.
			b.reads(wholeContext)
		default:
			b.reads(v.text)
		}
	}
}

// reportMounted tells what the mounts of a RUN show of the build context. Its
// variables are expanded; some may be in doubt. Without "from", a mount of type
// bind has the context, and the other types have nothing.
func (b *build) reportMounted(ins instruction, command *instructions.RunCommand, doubt bool) {
	others := []instructions.MountType{instructions.MountTypeCache, instructions.MountTypeTmpfs, instructions.MountTypeSecret, instructions.MountTypeSSH}
	for i, mount := range instructions.GetMounts(command) {
		kind := mount.Type
		if doubt {
			kind = instructions.MountType(lastField(ins.flag("--mount=", i), "type").String())
		}
		switch {
		case mount.From != "", slices.Contains(others, kind):
		case doubt, strings.ContainsAny(mount.Source, `*?[\:`): // no wildcards here
			b.reads(wholeContext)
		default:
			b.reads(mount.Source)
		}
	}
}

// reads adds a path in the build context.
func (b *build) reads(name string) {
	// As BuildKit does it, ".." does not lead above the context.
	name = path.Join(wholeContext, path.Join("/", name))
	b.recipe.ContextPaths = append(b.recipe.ContextPaths, name)
}

// sortContextPaths leaves each path once, and only one that has all the others.
func (r *Recipe) sortContextPaths() {
	slices.Sort(r.ContextPaths)
	r.ContextPaths = slices.Compact(r.ContextPaths)
	if slices.Contains(r.ContextPaths, wholeContext) {
		r.ContextPaths = []string{wholeContext}
	}
}
