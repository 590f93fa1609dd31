// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerpull

import (
	"fmt"
	"io"
	"sort"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/spf13/pflag"
)

// request is what the words after "docker pull" ask for.
type request struct {
	ref      imageref.Ref
	platform string // "os/arch[/variant]", "" for the node's own
}

// parseArgs reads the words after "docker pull" as docker does.
func parseArgs(args []string) (request, error) {
	var req request
	flags := pflag.NewFlagSet("docker pull", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	flags.StringVar(&req.platform, "platform", "", "")
	if err := flags.Parse(args); err != nil {
		return request{}, builtin.Wrong("command", err, `docker pull takes one image name and at most --platform os/arch[/variant]`)
	}
	switch words := flags.Args(); len(words) {
	case 0:
		return request{}, builtin.Wrong("command", fmt.Errorf("no image name"), `write ["docker","pull","name:tag"]`)
	case 1:
		ref, err := imageref.Parse(words[0])
		if err != nil {
			return request{}, err
		}
		req.ref = ref
	default:
		return request{}, builtin.Wrong("command", fmt.Errorf("more than one image name: %q", words), "submit one container request for each image")
	}
	if flags.Changed("platform") {
		if err := builtin.CheckPlatform(req.platform); err != nil {
			return request{}, err
		}
	}
	return req, nil
}

// checkMounts refuses mounts that a pull would have to ignore although the
// user means something by them. What CWL steps always carry (scratch, stdout
// and stderr files) is fine.
func checkMounts(mounts map[string]arvados.Mount) error {
	paths := make([]string, 0, len(mounts))
	for path := range mounts {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	for _, path := range paths {
		switch mount := mounts[path]; {
		case mount.Kind == "tmp" || mount.Kind == "keep" || mount.Kind == "file":
		case mount.Kind == "collection" && mount.Writable && mount.PortableDataHash == "" && mount.UUID == "":
		default:
			return builtin.Wrong(fmt.Sprintf("mounts[%q]", path), fmt.Errorf("docker pull reads no %s mount", mount.Kind), "remove it from the request")
		}
	}
	return nil
}
