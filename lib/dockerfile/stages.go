// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerfile

import (
	"errors"
	"fmt"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imageref"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// scratch is the name of the empty image, which is nowhere.
const scratch = "scratch"

// syntaxArg is the build arg that replaces the Dockerfile frontend by an image.
const syntaxArg = "BUILDKIT_SYNTAX"

// build is a file with the stages that its target needs.
type build struct {
	*file
	bases   map[string][]string
	globals *environment
	head    []instruction // before the first FROM
	stages  []stage
	byName  map[string]int // the last stage of each name
	seen    map[string]bool
	found   []instruction // triggers of images that are not bases
	recipe  *Recipe
}

// stage is what a FROM line begins.
type stage struct {
	from     instruction
	baseName string // expanded
	base     int    // the stage that this one starts from, -1 for an image
	platform string // normalised, "" is the target's
	own      []instruction
	run      []instruction // triggers of the base, then own
	needed   bool
	env      *environment // at its end
}

// fromImage reports whether the stage starts from an image that is somewhere.
func (st stage) fromImage() bool { return st.base < 0 && st.baseName != scratch }

// checkSyntax refuses frontends other than the engine's own.
func (b *build) checkSyntax() error {
	if _, ok := b.opts.Args[syntaxArg]; ok {
		return &fault.Error{Op: "check", Side: fault.Request, Subject: "build arg " + syntaxArg,
			Err: errors.New("it would run an image of its choice as the Dockerfile frontend"), Hint: "leave it out; the engine's own frontend reads the Dockerfile"}
	}
	name, _, places, ok := parser.DetectSyntax(b.text)
	if !ok {
		return nil
	}
	line := places[0].Start.Line
	ref, err := imageref.Parse(name)
	if err != nil {
		return b.badImage(line, err)
	}
	if ref.Name() != "docker.io/docker/dockerfile" {
		return b.fail(line, fmt.Errorf("# syntax= names the image %q, which would be run as the Dockerfile frontend", name), "remove the line, or write # syntax=docker/dockerfile:1, which the engine's own frontend answers")
	}
	b.recipe.Syntax, b.recipe.SyntaxLine = name, line
	return nil
}

// readStages sorts the instructions into stages and finds what each starts
// from, as BuildKit does it for all of them, needed or not.
func (b *build) readStages() error {
	for _, ins := range b.instructions {
		if err := b.checkArg(ins); err != nil {
			return err
		}
		if _, ok := ins.parsed.(*instructions.Stage); ok {
			b.stages = append(b.stages, stage{from: ins})
		} else if len(b.stages) > 0 {
			last := &b.stages[len(b.stages)-1]
			last.own = append(last.own, ins)
		} else if _, ok := ins.parsed.(*instructions.ArgCommand); ok {
			b.head = append(b.head, ins)
		} else {
			return b.fail(ins.line, fmt.Errorf("%s comes before the first FROM", ins.name()), "only ARG may; begin with FROM image")
		}
	}
	if len(b.stages) == 0 {
		return b.fail(0, errors.New("there is no FROM"), "write at least a line FROM image")
	}
	if err := b.readGlobals(); err != nil {
		return err
	}
	b.byName = map[string]int{}
	for i := range b.stages {
		st := &b.stages[i]
		if err := b.readFrom(st); err != nil {
			return err
		}
		if name := st.from.parsed.(*instructions.Stage).Name; name != "" {
			b.byName[name] = i
		}
	}
	return nil
}

// checkArg refuses ARG of what would choose a frontend.
func (b *build) checkArg(ins instruction) error {
	if command, ok := ins.parsed.(*instructions.ArgCommand); ok {
		for _, arg := range command.Args {
			if arg.Key == syntaxArg {
				return b.fail(ins.line, errors.New("ARG "+syntaxArg+" would choose another Dockerfile frontend"), "remove it; the engine's own frontend reads the Dockerfile")
			}
		}
	}
	return nil
}

func (b *build) readGlobals() error {
	globals, err := platformArgs(b.opts)
	if err != nil {
		return &fault.Error{Op: "check", Side: fault.Request, Subject: "--platform", Err: err, Hint: "write it as os/arch or os/arch/variant, as in linux/arm64"}
	}
	// The name of the target, which older engines do not set.
	target := b.opts.Target
	if target == "" {
		target = b.stages[len(b.stages)-1].from.parsed.(*instructions.Stage).Name
	}
	if target == "" {
		target = "default"
	}
	if given, ok := b.opts.Args["TARGETSTAGE"]; ok {
		globals.set("TARGETSTAGE", value{text: given})
	} else {
		globals.set("TARGETSTAGE", value{text: target, doubt: true})
	}
	for _, ins := range b.head {
		for _, arg := range ins.parsed.(*instructions.ArgCommand).Args {
			if err := globals.declare(b.lex, arg, b.opts.Args); err != nil {
				return b.fail(ins.line, err, "")
			}
		}
	}
	b.globals = globals
	return nil
}

// readFrom finds what a stage starts from. Unlike other names of stages, the
// one after FROM must be in lower case, and stand above.
func (b *build) readFrom(st *stage) error {
	from := st.from.parsed.(*instructions.Stage)
	name, err := b.globals.expand(b.lex, from.BaseName)
	if err != nil {
		return b.fail(st.from.line, err, "")
	}
	if name.text == "" {
		return b.fail(st.from.line, fmt.Errorf("FROM %s names no image, since its variables are empty", from.BaseName), "give the build arg, or write a default: ARG name=value before the first FROM")
	}
	st.baseName, st.base = name.text, -1
	if i, ok := b.byName[name.text]; ok {
		st.base = i
	} else if lower := strings.ToLower(name.text); lower != name.text {
		if _, ok := b.byName[lower]; ok {
			return b.fail(st.from.line, fmt.Errorf("FROM %s is not taken for the stage %s", name.text, lower), "write the name of the stage in lower case")
		}
	}
	if from.Platform == "" {
		return nil
	}
	platform, err := b.globals.expand(b.lex, from.Platform)
	if err != nil {
		return b.fail(st.from.line, err, "")
	}
	p, err := platforms.Parse(platform.text)
	if err != nil {
		return b.fail(st.from.line, fmt.Errorf("--platform=%s is no platform: %q", from.Platform, platform.text), "write it as os/arch or os/arch/variant, as in linux/arm64")
	}
	st.platform = platforms.Format(p)
	return nil
}

// badImage is an error about the name of an image in this line.
func (b *build) badImage(line int, err error) error {
	var inner *fault.Error
	if !errors.As(err, &inner) {
		return b.fail(line, err, "")
	}
	return b.fail(line, fmt.Errorf("image name %s: %w", inner.Subject, inner.Err), inner.Hint)
}
