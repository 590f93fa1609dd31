// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package builtin is the registry of builtin commands: commands of a container
// request that a program of ours carries out itself instead of starting a
// container for them ("docker pull").
//
// A command knows nothing of where it runs. Its host (the front on a compute
// node, or a program inside an ordinary container) gives it a Job and turns
// its Result or error into the final state of the container; see ExitCode.
// This package never talks to the API server, an engine or a registry.
package builtin

import (
	"context"
	"fmt"
	"io"
	"sort"
	"strings"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/sirupsen/logrus"
)

// Image is the container_image of a request for a builtin command, and
// NoImage its other spelling.
const (
	Image   = "arvados/builtin"
	NoImage = "arvados/none"
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

// Job is everything a command gets from its host.
type Job struct {
	UUID    string                   // of the container; unique, for private names
	Args    []string                 // words of the command after its name
	Mounts  map[string]arvados.Mount // of the container, secret ones excluded
	Secrets map[string][]byte        // contents of secret mounts by path; never to be logged
	API     dockerimage.API          // as the user who asked for the container
	Keep    dockerimage.Keep         // likewise
	Owner   string                   // UUID of that user
	Write   arvados.BlockWriteOptions
	Blocks  int // 64 MiB blocks that may be in memory at a time
	Site    Site

	Log      logrus.FieldLogger // what an administrator wants to know
	Stdout   io.Writer          // what docker would print
	Activity func(string)       // a short line on what goes on; cheap to call often
}

// Result is a finished command's output.
type Result struct {
	ManifestText string                 // of the output collection, locators signed for Job.API's token
	Properties   map[string]interface{} // for container.output_properties
}

var registry = map[string]Command{}

// Register adds a command under a name of one or more words, as in "docker
// pull". It panics when the name is taken.
func Register(name string, cmd Command) {
	if _, taken := registry[name]; taken {
		panic("builtin: registered twice: " + name)
	}
	registry[name] = cmd
}

// Names are the registered names, sorted.
func Names() []string {
	names := make([]string, 0, len(registry))
	for name := range registry {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// Find is the command whose name words begins with, and the words after its
// name.
func Find(words []string) (Command, []string, bool) {
	for name, cmd := range registry {
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
	case fault.SideOf(err) == fault.Registry:
		return 1, true
	default: // engine, keep, api, or a bug of ours: another node may do better
		return 0, false
	}
}
