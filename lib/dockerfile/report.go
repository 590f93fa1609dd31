// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerfile

import (
	"bytes"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/imageref"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// report fills the recipe, in the order of the file.
func (b *build) report() error {
	for _, ins := range b.head {
		b.reportArg(ins)
	}
	for i := range b.stages {
		st := &b.stages[i]
		if !st.needed {
			// BuildKit reads the name all the same.
			if _, err := imageref.Parse(st.baseName); st.fromImage() && err != nil {
				return b.badImage(st.from.line, err)
			}
			continue
		}
		if err := b.reportFrom(st); err != nil {
			return err
		}
		if st.base >= 0 {
			st.env = &environment{parent: b.stages[st.base].env}
		} else {
			st.env = &environment{open: st.fromImage()}
			// Set by the engine when the image does not.
			st.env.set("PATH", value{doubt: true})
		}
		for _, ins := range st.run {
			if err := b.reportInstruction(ins, st.env); err != nil {
				return err
			}
		}
	}
	for _, trigger := range b.found {
		if err := b.reportSources(trigger); err != nil {
			return err
		}
	}
	slices.Sort(b.recipe.DeclaredArgs)
	b.recipe.DeclaredArgs = slices.Compact(b.recipe.DeclaredArgs)
	b.recipe.sortContextPaths()
	return nil
}

// reportFrom tells the image that a stage starts from. A name with variables is
// written out by Rewrite even if it is that of a stage, so that no engine reads
// another one.
func (b *build) reportFrom(st *stage) error {
	_, _, rest := st.from.split()
	name, _ := rest.cut()
	if st.fromImage() {
		return b.use(st.baseName, st.platform, name, Place{Line: b.lineOf(name, st.from.line), Instruction: st.from.name()})
	}
	if name.String() != st.baseName {
		b.recipe.edits = append(b.recipe.edits, edit{at: name.at, text: st.baseName, use: -1})
	}
	return nil
}

func (b *build) reportSources(ins instruction) error {
	for _, from := range ins.sources {
		place := Place{Line: b.lineOf(from.name, ins.line), Instruction: ins.name(), Base: ins.base}
		if err := b.use(from.image, "", from.name, place); err != nil {
			return err
		}
	}
	return nil
}

// lineOf is the line where text ends, which is where Rewrite puts the new name;
// or line if it is not in the file.
func (b *build) lineOf(text chars, line int) int {
	if !text.placed() {
		return line
	}
	return 1 + bytes.Count(b.text[:text.at[len(text.at)-1].start], []byte("\n"))
}

// use adds a place where an image is named.
func (b *build) use(name, platform string, where chars, place Place) error {
	images := b.recipe.Images
	i := slices.IndexFunc(images, func(u Use) bool { return u.Name == name && u.Platform == platform })
	if i < 0 {
		ref, err := imageref.Parse(name)
		if err != nil {
			return b.badImage(place.Line, err)
		}
		i, images = len(images), append(images, Use{Name: name, Ref: ref, Platform: platform})
	}
	images[i].Places = append(images[i].Places, place)
	b.recipe.Images = images
	if where.placed() {
		b.recipe.edits = append(b.recipe.edits, edit{at: where.at, use: i})
	}
	return nil
}

// reportInstruction tells what an instruction of a needed stage asks for, and
// changes env as it does.
func (b *build) reportInstruction(ins instruction, env *environment) error {
	if err := b.reportSources(ins); err != nil {
		return err
	}
	if command, ok := ins.parsed.(*instructions.ArgCommand); ok {
		b.reportArg(ins)
		for _, arg := range command.Args {
			// BuildKit leaves these out of the environment.
			if strings.HasPrefix(arg.Key, "BUILDKIT_SBOM_SCAN_") {
				continue
			}
			if err := env.declareInStage(b.lex, arg, b.opts.Args, b.globals); err != nil {
				return b.failIn(ins, err, "")
			}
		}
		return b.checkArg(ins)
	}
	if err := b.reportURLs(ins, env); err != nil {
		return err
	}
	b.reportCopied(ins, env)
	if command, ok := ins.parsed.(*instructions.EnvCommand); ok {
		return b.reportEnv(ins, command, env)
	}
	seen := &lookup{env: env}
	if command, ok := ins.parsed.(instructions.SupportsSingleWordExpansion); ok {
		err := command.Expand(func(word string) (string, error) { return seen.expand(b.lex, word) })
		// With a variable in doubt, what looks wrong here may be right.
		if err != nil && !seen.doubt {
			return b.failIn(ins, err, "")
		}
	}
	if command, ok := ins.parsed.(*instructions.RunCommand); ok {
		b.reportMounted(ins, command, seen.doubt)
		return b.reportRun(ins, command, seen.doubt)
	}
	return nil
}

// reportEnv sets the variables of an ENV, which see those from before it.
func (b *build) reportEnv(ins instruction, command *instructions.EnvCommand, env *environment) error {
	after, anything := map[string]value{}, false
	for _, pair := range command.Env {
		name, err := env.expand(b.lex, pair.Key)
		if err != nil && !name.doubt {
			return b.failIn(ins, err, "")
		}
		v, err := env.expand(b.lex, pair.Value)
		if err != nil && !v.doubt {
			return b.failIn(ins, err, "")
		}
		b.warnOfSecret(ins, name.text)
		anything = anything || name.doubt // it may be any variable
		after[name.text] = v
	}
	if anything {
		*env = environment{open: true}
		return nil
	}
	for name, v := range after {
		env.set(name, v)
	}
	return nil
}

func (b *build) reportArg(ins instruction) {
	for _, arg := range ins.parsed.(*instructions.ArgCommand).Args {
		b.recipe.DeclaredArgs = append(b.recipe.DeclaredArgs, arg.Key)
		b.warnOfSecret(ins, arg.Key)
	}
}

// secretWords make the name of a variable look like that of a secret when one
// of them stands between underscores.
var secretWords = []string{"APIKEY", "AUTH", "CREDENTIAL", "CREDENTIALS", "CREDS", "KEY", "PASS", "PASSPHRASE", "PASSWD", "PASSWORD", "PWD", "SECRET", "SECRETS", "TOKEN"}

// warnOfSecret points out variables that end up in the image for all to read.
func (b *build) warnOfSecret(ins instruction, name string) {
	words := strings.FieldsFunc(strings.ToUpper(name), func(r rune) bool { return r == '_' || r == '-' || r == '.' })
	// PWD alone is the working folder.
	if name == "PWD" || slices.Contains(words, "PUBLIC") {
		return
	}
	if slices.ContainsFunc(words, func(word string) bool { return slices.Contains(secretWords, word) }) {
		b.recipe.Warnings = append(b.recipe.Warnings, Warning{Line: ins.line,
			Text: ins.name() + " " + name + " looks like a secret, and whoever has the image can read it; give it by --secret, and use RUN --mount=type=secret"})
	}
}
