// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/lib/imagesource/engine"
	"github.com/spf13/cobra"
)

// engineSchemes are how an engine can be reached.
var engineSchemes = []string{"unix://", "tcp://", "npipe://"}

// noEngineHint is for whoever has none, or cannot use it from here.
const noEngineHint = "start it, or name it by --engine or DOCKER_HOST; without one: pull and build need none, and load takes a file of docker save"

func (p *Program) pushCommand() *cobra.Command {
	var flags loadFlags
	var host string
	cmd := &cobra.Command{
		Use:   "push [OPTIONS] IMAGE [NAME[:TAG]]",
		Short: "Bring an image of a Docker Engine here into Keep",
		Long: `Bring an image of a Docker Engine here into Keep, without a container request.
IMAGE is what docker calls it: a name or an id.

The image gets NAME, or else the name that it was asked for by. The engine is
that of --engine, of DOCKER_HOST, or ` + engine.DefaultHost + `. The same
image has the same portable data hash as when docker save and load bring it.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			name := ""
			if len(args) == 2 {
				var err error
				if name, err = tagOf("NAME", args[1]); err != nil {
					return err
				}
			}
			if err := checkLinks(flags.links); err != nil {
				return err
			}
			host := cmp.Or(host, os.Getenv("DOCKER_HOST"), engine.DefaultHost)
			eng, err := connectEngine(ctx, host)
			if err != nil {
				return err
			}
			defer eng.Close()
			s, err := p.connect(ctx)
			if err != nil {
				return err
			}
			r, err := s.push(ctx, eng, host, args[0], name, &flags)
			if err != nil {
				return err
			}
			return s.print(r, &requestFlags{json: flags.json, quiet: flags.quiet})
		},
	}
	cmd.Flags().StringVar(&host, "engine", "", "the engine, unix:///path or tcp://host:port (default: DOCKER_HOST, else "+engine.DefaultHost+")")
	flags.add(cmd)
	return cmd
}

// connectEngine sees whether an engine answers.
func connectEngine(ctx context.Context, host string) (*engine.Engine, error) {
	if !slices.ContainsFunc(engineSchemes, func(scheme string) bool { return strings.HasPrefix(host, scheme) }) {
		return nil, wrong("engine", fmt.Errorf("%q starts with none of %s", host, strings.Join(engineSchemes, ", ")),
			"write --engine "+engine.DefaultHost+", or let docker itself reach it: docker save IMAGE | arv-docker load -")
	}
	if os.Getenv("DOCKER_TLS_VERIFY") != "" && strings.HasPrefix(host, "tcp://") {
		return nil, wrong("DOCKER_TLS_VERIFY", errors.New("engines with TLS cannot be reached from here"),
			"let docker itself reach it: docker save IMAGE | arv-docker load -")
	}
	eng, err := engine.New(host)
	if err != nil {
		return nil, err
	}
	if _, err := eng.Ping(ctx); err != nil {
		eng.Close()
		hint := noEngineHint
		if strings.Contains(err.Error(), "permission denied") {
			hint = "become a member of the group that may use it (usually: docker), or let somebody who may run docker save, and load the file"
		}
		if f := (*fault.Error)(nil); errors.As(err, &f) {
			err = f.Err // its hint is for nodes
		}
		return nil, &fault.Error{Op: "find a Docker Engine at", Side: fault.Engine, Subject: host, Err: err, Hint: hint}
	}
	return eng, nil
}

// push stores an image of the engine. name is to be its name, "" for the one that
// it is asked for by.
func (s *session) push(ctx context.Context, eng *engine.Engine, host, image, name string, f *loadFlags) (*result, error) {
	found, err := eng.Image(ctx, image)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, wrong("IMAGE", fmt.Errorf("the Docker Engine at %s has no image %q", host, image),
			"docker images lists what it has; arv-docker pull brings images from registries into Keep without it")
	}
	if ref, err := imageref.Parse(image); name == "" && err == nil && slices.Contains(found.Names, ref.RepoTag()) {
		name = ref.RepoTag()
	}
	var names []string
	if name != "" {
		names = []string{name}
	}
	stream, err := eng.Save(ctx, *found)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	return s.load(ctx, stream, 0, names, f)
}
