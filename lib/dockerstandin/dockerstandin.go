// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package dockerstandin is arv-docker under the name docker. It is for programs
// that call docker to get images into Arvados and that nobody changes, above all
// arvados-cwl-runner, with the cwltool and the arv-keepdocker in it: where there
// is no Docker Engine, they pull and build by container requests through it.
//
// It answers what those programs ask, in docker's formats and exit codes. Images
// are those in Keep. It never runs a container, talks to no engine, and removes
// nothing; what it cannot do it refuses, and says so. Images that it makes or
// finds get the links by which those programs look for them.
package dockerstandin

import (
	"context"
	"errors"
	"fmt"
	"io"

	"git.arvados.org/arvados.git/lib/arvdocker"
)

// Name is the program's name when it stands in.
const Name = "docker"

// Exit codes, which are docker's: 1 for what failed, 125 for what was not even
// tried.
const (
	exitFailed  = 1
	exitRefused = 125
)

// always is the flag of arv-docker that lets programs find the image that look
// for links.
const always = "--links=always"

const about = `This is arv-docker standing in for docker. Images are those in Keep; they are
pulled and built by container requests. It answers:
  build images info inspect load pull save tag version
`

// standin is one call.
type standin struct {
	*arvdocker.Program
}

// Run answers args (without the program's name) in docker's place, and returns
// the exit code.
func Run(ctx context.Context, program *arvdocker.Program, args []string) int {
	c, err := parse(args)
	if err == nil {
		s := standin{program}
		switch {
		case c.words != nil:
			return s.Program.Run(ctx, c.words)
		case c.name == "inspect":
			err = s.inspect(ctx, c)
		case c.name == "images":
			err = s.images(ctx, c)
		default:
			_, err = io.WriteString(s.Stdout, c.text(program.API.APIHost))
		}
	}
	var no *refusal
	switch {
	case err == nil:
		return 0
	case errors.As(err, &no):
		fmt.Fprintf(program.Stderr, "%s: %s\n", Name, no.text)
		return no.code
	}
	fmt.Fprintln(program.Stderr, err)
	return exitFailed
}

// text is the answer to a call that needs nothing.
func (c call) text(host string) string {
	switch c.name {
	case "--version":
		return "Docker version 0.0.0, build arv-docker\n"
	case "version", "info":
		return about + "API server: " + host + "\n"
	}
	return about
}
