// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package dockerfile reads a Dockerfile before anything runs, for builds that
// must know beforehand which images a recipe needs, what the engine itself
// would fetch, and what cannot work or is not allowed. It gives the recipe back
// with its images pinned. The grammar is BuildKit's own; where engines of
// different age would read the same text differently, the reader says so. It
// never talks to a network, an engine or Keep, and never decides which image a
// name means.
package dockerfile

import (
	"git.arvados.org/arvados.git/lib/imageref"
)

// Options are the parts of a build request that change what a Dockerfile
// means.
type Options struct {
	Name   string            // of the file, for messages; "" is "Dockerfile"
	Args   map[string]string // build args given
	Target string            // name of a stage; "" is the last one

	// "os/arch[/variant]" of the engine and of the image to build. An empty
	// BuildPlatform is linux on this machine's architecture, an empty
	// TargetPlatform is the BuildPlatform.
	BuildPlatform, TargetPlatform string

	// NetworkNone: the build may fetch nothing, so ADD of a URL is refused.
	NetworkNone bool
}

// Recipe is what a Dockerfile asks for when the stages that the target needs
// are built. All lines count from 1.
type Recipe struct {
	Images       []Use       // from outside, in the order of the file
	RemoteURLs   []RemoteURL // sources of ADD that the engine itself fetches
	Secrets      []Secret    // of RUN --mount=type=secret, but for ids with variables of a base image
	DeclaredArgs []string    // names after ARG, sorted, each once
	Warnings     []Warning

	// ContextPaths are what of the build context can make a difference to the
	// image: sources of COPY, ADD and RUN --mount=type=bind, sorted, each
	// once. They are relative and clean (path.Clean), may have the wildcards
	// of path.Match, and stand for folders with all that is in them. What a
	// variable of a base image decides, and patterns of --parents, count as
	// ".", the whole context; --exclude is not taken into account.
	ContextPaths []string

	// Syntax is the image after "# syntax=", which is docker/dockerfile of
	// any version or "". SyntaxLine is its line.
	Syntax     string
	SyntaxLine int

	// RecentSyntax is the first line that engines whose Dockerfile syntax is
	// older than 1.4 (API 1.41) read differently from here, 0 if there is
	// none: a heredoc, whose content they take for instructions, or an escape
	// directive that is not on the first line. What this package says about
	// the file does not hold there.
	RecentSyntax int

	text  []byte
	opts  Options
	bases map[string][]string // triggers given to OnBuild
	edits []edit
	canon []byte
}

// Use is an image from outside that the build takes something from.
type Use struct {
	Name     string // as written, its variables expanded
	Ref      imageref.Ref
	Platform string // "os/arch[/variant]" of FROM --platform; "" is the target's
	Places   []Place
}

// Place is where an image is named.
type Place struct {
	Line        int
	Instruction string // "FROM", "COPY" or "RUN", after "ONBUILD " for a trigger

	// Base is the image among whose ONBUILD triggers the name stands, where
	// Rewrite cannot reach it; Line is then where Base is named. "" is the
	// file itself.
	Base string
}

// Pinnable reports whether Rewrite can replace the image everywhere.
func (u Use) Pinnable() bool {
	for _, place := range u.Places {
		if place.Base != "" {
			return false
		}
	}
	return true
}

// RemoteURL is a source of ADD outside the context.
type RemoteURL struct {
	// URL is http, https or git, in any form that docker takes. It may hold
	// credentials and belongs in no message. Of an unknown one it is the
	// text as written.
	URL  string
	Host string // "host[:port]", "" for an unknown one
	Line int

	// Unknown: whether this is a URL at all, and which, depends on a variable
	// that only the base image or the engine sets.
	Unknown bool
}

// Secret is one that a RUN instruction mounts.
type Secret struct {
	ID       string
	Required bool // the build fails without it
	Line     int
}

// Warning is something that works, but should be done otherwise.
type Warning struct {
	Line int
	Text string // one sentence with what to do instead, without its stop
}

// Parse reads a Dockerfile. Errors are *fault.Error of side Request that name
// the line and what to change: the file cannot be built, or it asks for what no
// container request may have.
func Parse(text []byte, opts Options) (*Recipe, error) {
	return parse(text, opts, nil)
}

// OnBuild reads the same Dockerfile again, now that the ONBUILD triggers in the
// config of its images are known, by Use.Name. They may need further images,
// whose triggers count in turn: repeat while there are new ones. The engine
// looks at the triggers of every image that is used, not only after FROM.
func (r *Recipe) OnBuild(triggers map[string][]string) (*Recipe, error) {
	return parse(r.text, r.opts, triggers)
}

func parse(text []byte, opts Options, bases map[string][]string) (*Recipe, error) {
	if opts.Name == "" {
		opts.Name = "Dockerfile"
	}
	f, err := readFile(text, opts)
	if err != nil {
		return nil, err
	}
	b := &build{file: f, bases: bases, recipe: &Recipe{text: text, opts: opts, bases: bases, RecentSyntax: f.recentSyntax}}
	if err := b.checkSyntax(); err != nil {
		return nil, err
	}
	for _, step := range []func() error{b.readStages, b.needTarget, b.report} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	b.recipe.canon = b.canonical()
	return b.recipe, nil
}
