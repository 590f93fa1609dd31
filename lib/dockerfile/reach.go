// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerfile

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// source is another stage or an image that an instruction takes files from.
type source struct {
	image string // "" for a stage
	name  chars  // where it is named
}

// needTarget finds the stages that the target needs.
func (b *build) needTarget() error {
	target := len(b.stages) - 1
	if b.opts.Target != "" {
		i, ok := b.byName[strings.ToLower(b.opts.Target)]
		if !ok {
			return b.fail(0, fmt.Errorf("there is no stage %q", b.opts.Target), b.targetHint())
		}
		target = i
	}
	b.seen = map[string]bool{}
	return b.need(target)
}

func (b *build) targetHint() string {
	var names []string
	for _, st := range b.stages {
		if name := st.from.parsed.(*instructions.Stage).Name; name != "" {
			names = append(names, name)
		}
	}
	if names == nil {
		return "name a stage with FROM image AS name, or leave --target out"
	}
	return "the stages are " + strings.Join(names, ", ")
}

// need marks a stage and those that it takes anything from.
func (b *build) need(index int) error {
	st := &b.stages[index]
	if st.needed {
		return nil
	}
	st.needed = true
	if st.base >= 0 {
		if err := b.need(st.base); err != nil {
			return err
		}
	}
	triggers, err := b.triggersFor(st)
	if err != nil {
		return err
	}
	st.run = append(triggers, st.own...)
	for i := range st.run {
		if err := b.needSources(&st.run[i], index); err != nil {
			return err
		}
	}
	return nil
}

// triggersFor reads the ONBUILD triggers that run first in a stage.
func (b *build) triggersFor(st *stage) (triggers []instruction, err error) {
	if st.fromImage() {
		return b.triggersOf(st.baseName, st.from.line)
	}
	if st.base < 0 {
		return nil, nil
	}
	for _, ins := range b.stages[st.base].own {
		command, ok := ins.parsed.(*instructions.OnbuildCommand)
		if !ok {
			continue
		}
		text := ins.source.from(len(onbuild.Find(ins.source.text)))
		// What follows are heredocs, which name no images.
		text = text.plus(elsewhere(command.Expression[len(text.text):]))
		trigger, err := b.parseTrigger(text, instruction{line: ins.line})
		if err != nil {
			return nil, err
		}
		triggers = append(triggers, trigger)
	}
	return triggers, nil
}

var onbuild = regexp.MustCompile(`(?i)^\s*ONBUILD\s*`)

// triggersOf reads the ONBUILD triggers in the config of an image.
func (b *build) triggersOf(image string, line int) (triggers []instruction, err error) {
	for _, text := range b.bases[image] {
		trigger, err := b.parseTrigger(elsewhere(text), instruction{line: line, base: image})
		if err != nil {
			return nil, err
		}
		triggers = append(triggers, trigger)
	}
	return triggers, nil
}

// needSources finds what an instruction takes files from. The stage is the
// number of its own; sources must stand above.
func (b *build) needSources(ins *instruction, stage int) error {
	switch command := ins.parsed.(type) {
	case *instructions.CopyCommand:
		if command.From == "" {
			return nil
		}
		if err := b.checkLiteral(*ins, command.From); err != nil {
			return err
		}
		index, err := strconv.Atoi(command.From)
		if err == nil && (index < 0 || index >= len(b.stages)) {
			return b.failIn(*ins, fmt.Errorf("--from=%s is no stage", command.From), fmt.Sprintf("stages count from 0 to %d; better name them with AS", len(b.stages)-1))
		} else if err == nil {
			return b.needStage(*ins, command.From, index, stage)
		}
		return b.needSource(ins, command.From, ins.flag("--from=", 0), stage)
	case *instructions.RunCommand:
		for i, mount := range instructions.GetMounts(command) {
			if mount.From == "" {
				continue
			}
			if _, err := strconv.Atoi(mount.From); err == nil {
				return b.failIn(*ins, fmt.Errorf("from=%s of a mount is not taken for the number of a stage", mount.From), "name the stage with AS, and write that name")
			}
			if err := b.needSource(ins, mount.From, lastField(ins.flag("--mount=", i), "from"), stage); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkLiteral refuses variables in --from, which BuildKit does not expand.
func (b *build) checkLiteral(ins instruction, from string) error {
	v, err := (&environment{}).expand(b.lex, from)
	if err != nil || v.text != from {
		return b.failIn(ins, errors.New("--from takes no variables"), "write FROM image AS name above, where variables of ARG before the first FROM are known, and --from=name here")
	}
	return nil
}

// flag is the value of the flag with this prefix, the nth of them.
func (ins instruction) flag(prefix string, nth int) chars {
	_, flags, _ := ins.split()
	for _, flag := range flags {
		if flag.hasPrefix(prefix) {
			if nth == 0 {
				return flag.from(len(prefix))
			}
			nth--
		}
	}
	return chars{}
}

func (b *build) needSource(ins *instruction, name string, where chars, stage int) error {
	if where.String() != name {
		return b.failIn(*ins, fmt.Errorf("cannot find where %q is named", name), "write the flag without quotes and escapes")
	}
	if index, ok := b.byName[strings.ToLower(name)]; ok {
		return b.needStage(*ins, name, index, stage)
	}
	if name == scratch {
		return nil
	}
	ins.sources = append(ins.sources, source{image: name, name: where})
	return b.needImage(name, ins.line)
}

func (b *build) needStage(ins instruction, name string, index, stage int) error {
	if index == stage {
		return b.failIn(ins, fmt.Errorf("the stage %s takes files from itself", name), "name another stage, or an image")
	}
	if index > stage {
		return b.failIn(ins, fmt.Errorf("the stage %s is defined below", name), "move it up; a stage can only take files from those above it")
	}
	return b.need(index)
}

// needImage looks at the triggers of an image that is no base. They never run,
// but BuildKit looks up the images that they name.
func (b *build) needImage(name string, line int) error {
	if b.seen[name] {
		return nil
	}
	b.seen[name] = true
	triggers, err := b.triggersOf(name, line)
	if err != nil {
		return err
	}
	for _, trigger := range triggers {
		if err := b.needSources(&trigger, len(b.stages)); err != nil {
			return err
		}
		b.found = append(b.found, trigger)
	}
	return nil
}
