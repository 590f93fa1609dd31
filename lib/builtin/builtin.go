// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package builtin is the registry of builtin commands: commands of a container
// request that a program of ours carries out itself instead of starting a
// container for them ("docker pull", "docker build").
//
// A command knows nothing of where it runs. Its host (the front on a compute
// node, or a program inside an ordinary container) gives it a Job and turns
// its Result or error into the final state of the container; see ExitCode.
// This package never talks to an engine or a registry, and to the API server only
// in what its hosts have in common.
package builtin

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
)

// Image is the container_image of a request for a builtin command, and
// NoImage its other spelling.
const (
	Image   = "arvados/builtin"
	NoImage = "arvados/none"
)

// What tells that an image is one for builtin commands, whatever its name: a label
// in its config, and for its own program, which does not see the config, a variable
// in the environment. The label has no meaning in its value; the variable is
// "manifest" where images are to be named by that (dockerimage.ImageID), and else "1".
const (
	Label    = "org.arvados.builtin"
	Variable = "ARVADOS_BUILTIN_IMAGE"
)

// Command is one builtin command. Its life: registered once from an init
// function, looked up once for each container, Run once. Values must be usable
// by several goroutines at a time and hold no state of a run.
type Command interface {
	// Run does the work. It returns promptly when ctx ends, and leaves
	// nothing behind on the node then. Nothing it writes to Keep may be in
	// a collection yet: the host makes the collection from Result.
	//
	// Errors are *fault.Error; see ExitCode for what becomes of them.
	Run(ctx context.Context, job *Job) (*Result, error)
}

// Result is a finished command's output.
type Result struct {
	ManifestText string                 // of the output collection, locators signed for Job.API's token
	Properties   map[string]interface{} // for container.output_properties
}

var commands = map[string]Command{}

// Register adds a command under a name of one or more words, as in "docker
// pull". It panics when the name is taken.
func Register(name string, cmd Command) {
	if _, taken := commands[name]; taken {
		panic("builtin: registered twice: " + name)
	}
	commands[name] = cmd
}

// Names are the registered names, sorted.
func Names() []string {
	names := make([]string, 0, len(commands))
	for name := range commands {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// Find is the command whose name words begins with, and the words after its
// name.
func Find(words []string) (Command, []string, bool) {
	for name, cmd := range commands {
		n := strings.Count(name, " ") + 1
		if len(words) >= n && strings.Join(words[:n], " ") == name {
			return cmd, words[n:], true
		}
	}
	return nil, nil, false
}

// Unknown is the error for a command that is no builtin.
func Unknown(words []string) error {
	return &fault.Error{
		Op:      "run",
		Side:    fault.Request,
		Subject: fmt.Sprintf("command %q", words),
		Err:     fmt.Errorf("not a builtin command"),
		Hint:    "with image " + Image + " the command must begin with " + strings.Join(Names(), " or "),
	}
}

// ExitCode is what a failed command exits with: 2 when the request is wrong,
// 1 when the command failed for another lasting reason. ok is false when the
// trouble may pass: then the container must not be completed but cancelled,
// so that Arvados tries again.
func ExitCode(err error) (code int, ok bool) {
	switch {
	case fault.Transient(err):
		return 0, false
	case fault.SideOf(err) == fault.Request:
		return 2, true
	case fault.SideOf(err) == fault.Registry, fault.SideOf(err) == fault.Build:
		return 1, true
	default: // engine, keep, api, or a bug of ours: another node may do better
		return 0, false
	}
}
