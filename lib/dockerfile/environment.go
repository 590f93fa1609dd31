// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerfile

import (
	"fmt"
	"runtime"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// environment has the variables that an instruction sees. The zero value is
// empty and complete.
type environment struct {
	parent *environment // of the stage that this one starts from
	vars   map[string]value
	open   bool // variables that are not here may come from a base image
}

// value of a variable. One in doubt may be something else in the engine.
type value struct {
	text  string
	doubt bool
}

func (e *environment) set(name string, v value) {
	if e.vars == nil {
		e.vars = map[string]value{}
	}
	e.vars[name] = v
}

func (e *environment) get(name string) (v value, ok bool) {
	for ; e != nil; e = e.parent {
		if v, ok := e.vars[name]; ok {
			return v, true
		}
		if e.open {
			return value{doubt: true}, false
		}
	}
	return value{}, false
}

// lookup gives an environment to BuildKit's lexer and notes whether the outcome
// hangs on a variable in doubt.
type lookup struct {
	env   *environment
	doubt bool
}

func (l *lookup) Get(name string) (string, bool) {
	v, ok := l.env.get(name)
	l.doubt = l.doubt || v.doubt
	return v.text, ok
}

func (l *lookup) Keys() []string { return nil }

// expand replaces the variables in word.
func (e *environment) expand(lex *shell.Lex, word string) (value, error) {
	l := &lookup{env: e}
	text, err := l.expand(lex, word)
	return value{text: text, doubt: l.doubt}, err
}

func (l *lookup) expand(lex *shell.Lex, word string) (string, error) {
	// The lexer puts U+FFFD for a byte that is no UTF-8, too, but then
	// complains on this program's stderr.
	text, _, err := lex.ProcessWord(string([]rune(word)), l)
	if err == nil && len(text) > maxValue {
		return "", fmt.Errorf("a value has more than %d bytes once its variables are replaced", maxValue)
	}
	return text, err
}

// maxValue is the most bytes of a value, so that a few lines which double a
// variable do not fill the memory. Programs cannot be given longer ones
// (MAX_ARG_STRLEN of Linux).
const maxValue = 128 << 10

// platformArgs are the variables that FROM lines see before any ARG.
func platformArgs(opts Options) (*environment, error) {
	if opts.BuildPlatform == "" {
		opts.BuildPlatform = "linux/" + runtime.GOARCH
	}
	if opts.TargetPlatform == "" {
		opts.TargetPlatform = opts.BuildPlatform
	}
	env := &environment{}
	for prefix, name := range map[string]string{"BUILD": opts.BuildPlatform, "TARGET": opts.TargetPlatform} {
		p, err := platforms.Parse(name)
		if err != nil {
			return nil, err
		}
		env.set(prefix+"PLATFORM", value{text: platforms.Format(p)})
		env.set(prefix+"OS", value{text: p.OS})
		env.set(prefix+"ARCH", value{text: p.Architecture})
		env.set(prefix+"VARIANT", value{text: p.Variant})
		// Older engines do not have this one.
		env.set(prefix+"OSVERSION", value{text: p.OSVersion, doubt: true})
	}
	for name := range env.vars {
		if given, ok := opts.Args[name]; ok {
			env.set(name, value{text: given})
		}
	}
	return env, nil
}

// declare adds what an ARG before the first FROM says.
func (e *environment) declare(lex *shell.Lex, arg instructions.KeyValuePairOptional, args map[string]string) error {
	if given, ok := args[arg.Key]; ok {
		e.set(arg.Key, value{text: given})
	} else if arg.Value != nil {
		v, err := e.expand(lex, *arg.Value)
		if err != nil && !v.doubt {
			return err
		}
		e.set(arg.Key, v)
	}
	return nil
}

// declareInStage adds what an ARG in a stage says: the value given, else its
// default, else what globals have.
func (e *environment) declareInStage(lex *shell.Lex, arg instructions.KeyValuePairOptional, args map[string]string, globals *environment) error {
	_, given := args[arg.Key]
	if given || arg.Value != nil {
		return e.declare(lex, arg, args)
	}
	if v, ok := globals.get(arg.Key); ok {
		e.set(arg.Key, v)
	}
	return nil
}
