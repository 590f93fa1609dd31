// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerstandin

import (
	"errors"
	"fmt"
	"io"

	"git.arvados.org/arvados.git/lib/imageref"
	"github.com/spf13/pflag"
)

// call is a command line of docker, understood.
type call struct {
	name   string   // "inspect", "images", or one that needs nothing: "version", "--version", "info", "help"
	words  []string // for arv-docker, if it is a matter for that
	args   []string // of inspect and images: names of images
	format string   // template of inspect; "" for JSON
	quiet  bool     // images: IDs only
	whole  bool     // images: IDs in full
}

// refusal is the error of a call that is not tried.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return r.text }

func refuse(code int, format string, args ...any) error {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

// scriptImage is where cwl-utils runs JavaScript if there is no Node.js. Its call
// of images is followed by pull, which would bring the image into Keep for
// nothing, and by run.
const scriptImage = "node:alpine"

// parse understands a command line, without the program's name.
func parse(args []string) (call, error) {
	if len(args) == 0 {
		return call{name: "help"}, nil
	}
	name, rest := args[0], args[1:]
	switch name {
	case "help", "--help", "-h":
		return call{name: "help"}, nil
	case "--version", "-v":
		return call{name: "--version"}, nil
	case "version", "info":
		return call{name: name}, nil
	case "pull", "build", "tag":
		return call{name: name, words: append([]string{name, always}, rest...)}, nil
	case "inspect":
		return parseInspect(rest)
	case "images":
		return parseImages(rest)
	case "load":
		return parseLoad(rest)
	case "save":
		return call{name: name, words: append([]string{name}, rest...)}, nil
	case "import":
		return call{}, refuse(exitFailed, "import is not supported by arv-docker, which stands in for docker: "+
			"store the image with docker load, or pull or build it (in CWL: dockerLoad, dockerPull or dockerFile)")
	case "run", "create", "start", "exec":
		return call{}, refuse(exitRefused, "%s: no container runs here. This is arv-docker, which stands in for docker; containers run in Arvados. "+
			"If this is for JavaScript in a workflow: install Node.js", name)
	}
	return call{}, refuse(exitRefused, "%q is not answered by arv-docker, which stands in for docker: "+
		"it answers build, images, info, inspect, load, pull, save, tag and version", name)
}

// flagsOf are the flags of a command, which speak for themselves only as errors.
func flagsOf(name string) *pflag.FlagSet {
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return flags
}

// parsed reads args into flags.
func parsed(flags *pflag.FlagSet, args []string, least, most int) error {
	err := flags.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return refuse(exitRefused, "%s: arv-docker, which stands in for docker, answers:\n%s", flags.Name(), flags.FlagUsages())
	case err != nil:
		return refuse(exitRefused, "%s: %v", flags.Name(), err)
	case flags.NArg() < least:
		return refuse(exitFailed, "%q requires at least %d argument", flags.Name(), least)
	case flags.NArg() > most:
		return refuse(exitFailed, "%q takes at most %d argument", flags.Name(), most)
	}
	return nil
}

// many is no limit to the number of arguments.
const many = 1 << 20

func parseInspect(args []string) (call, error) {
	c := call{name: "inspect"}
	flags := flagsOf(c.name)
	flags.StringVarP(&c.format, "format", "f", "", "template for each image, as {{.Id}}")
	kind := flags.String("type", "image", "image")
	if err := parsed(flags, args, 1, many); err != nil {
		return call{}, err
	}
	if *kind != "image" {
		return call{}, refuse(exitRefused, "inspect: --type %q: there are only images", *kind)
	}
	c.args = flags.Args()
	return c, nil
}

func parseImages(args []string) (call, error) {
	c := call{name: "images"}
	flags := flagsOf(c.name)
	flags.BoolVarP(&c.quiet, "quiet", "q", false, "IDs only")
	flags.BoolVar(&c.whole, "no-trunc", false, "IDs in full")
	flags.BoolP("all", "a", false, "no difference")
	if err := parsed(flags, args, 0, 1); err != nil {
		return call{}, err
	}
	c.args = flags.Args()
	if c.quiet && len(c.args) == 1 {
		if ref, err := imageref.Parse(c.args[0]); err == nil && ref.Familiar() == scriptImage {
			return call{}, refuse(exitFailed, "images: %s is of no use to arv-docker, which stands in for docker and runs no container: install Node.js", scriptImage)
		}
	}
	return c, nil
}

func parseLoad(args []string) (call, error) {
	flags := flagsOf("load")
	input := flags.StringP("input", "i", "-", "tar file")
	quiet := flags.BoolP("quiet", "q", false, "print less")
	if err := parsed(flags, args, 0, 0); err != nil {
		return call{}, err
	}
	words := []string{"load", always}
	if *quiet {
		words = append(words, "--quiet")
	}
	return call{name: "load", words: append(words, "--", *input)}, nil
}
