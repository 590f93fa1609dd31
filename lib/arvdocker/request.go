// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagesource/registry"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

type attrs = map[string]interface{}

const (
	// usualPriority is what Workbench and arvados-cwl-runner submit with.
	usualPriority = 500
	// scratch is the capacity of the output folder, which every server wants
	// to be there and nothing is written to.
	scratch = 1 << 30
)

// requestFlags are the flags of commands that submit a container request.
type requestFlags struct {
	project     string
	noWait      bool
	dryRun      bool
	quiet       bool
	json        bool
	ram         string
	cores       int
	credentials string
	links       string
	imageID     dockerimage.ImageID // of pull; "" for either
}

func (f *requestFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	addProjectFlag(cmd, &f.project, "request and image")
	flags.BoolVar(&f.noWait, "no-wait", false, "do not wait for the container; print the UUID of the request")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print the container request as JSON and submit nothing")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "print nothing but the portable data hash of the image")
	flags.BoolVar(&f.json, "json", false, "print the result as JSON")
	flags.StringVar(&f.ram, "ram", "", "RAM of the container, as in 2GiB (default: what the work needs)")
	flags.IntVar(&f.cores, "cores", 0, "cores of the container (default: what the work needs)")
	flags.StringVar(&f.credentials, "credentials", "", "docker config.json with registry credentials; it goes with the request as a secret mount")
	addLinksFlag(cmd, &f.links)
}

// resources are what the container gets where the flags do not say.
type resources struct {
	ram   int64 // bytes
	cores int
}

// request is a container request for a builtin command, as the user wants it.
func (f *requestFlags) request(owner, name string, command []string, need resources, mounts, secrets attrs) (attrs, error) {
	if f.ram != "" {
		n, err := humanize.ParseBytes(f.ram)
		if err != nil || n == 0 || n > 1<<50 {
			return nil, wrong("--ram", fmt.Errorf("%q is not a size", f.ram), "write one as in 2GiB")
		}
		need.ram = int64(n)
	}
	if f.cores < 0 {
		return nil, wrong("--cores", fmt.Errorf("%d is too few", f.cores), "write 1 or more")
	} else if f.cores > 0 {
		need.cores = f.cores
	}
	all := attrs{"/out": attrs{"kind": "tmp", "capacity": scratch}}
	maps.Copy(all, mounts)
	r := attrs{
		"owner_uuid":          owner,
		"name":                name,
		"state":               arvados.ContainerRequestStateCommitted,
		"priority":            usualPriority,
		"container_image":     builtin.Image,
		"command":             command,
		"mounts":              all,
		"output_path":         "/out",
		"output_name":         "Image of " + strings.ReplaceAll(name, "/", " "), // which no collection may have in its name
		"runtime_constraints": attrs{"vcpus": need.cores, "ram": need.ram, "API": true},
		"use_existing":        false, // what tags, FROM and branches mean can change
	}
	if len(secrets) > 0 {
		r["secret_mounts"] = secrets
	}
	return r, nil
}

// registryCredentials reads --credentials; nil for none.
func (f *requestFlags) registryCredentials() ([]byte, error) {
	if f.credentials == "" {
		return nil, nil
	}
	text, err := os.ReadFile(f.credentials)
	if err != nil {
		return nil, wrong("--credentials", err, "name a file that you can read")
	}
	// The registry package says what is wrong with it, if anything is.
	source, err := registry.New(registry.Options{Credentials: text})
	if err != nil {
		return nil, err
	}
	source.Close()
	return text, nil
}

// withCredentials are the secret mounts of a request that has credentials.
func withCredentials(secrets attrs, credentials []byte) attrs {
	if credentials == nil {
		return secrets
	}
	all := attrs{registry.CredentialsPath: attrs{"kind": "text", "content": string(credentials)}}
	maps.Copy(all, secrets)
	return all
}

// submit sends a request, or prints it, or follows an equal one that is under
// way.
func (s *session) submit(ctx context.Context, request attrs, f *requestFlags) (*result, error) {
	if err := mark(request); err != nil {
		return nil, err
	}
	if f.dryRun {
		return nil, printJSON(s.Stdout, withoutSecrets(request))
	}
	for {
		cr, joined, err := s.place(ctx, request)
		if err != nil {
			return nil, explainRefusal(err)
		}
		if joined && !f.quiet {
			s.say("the same is under way already: container request %s", cr.UUID)
		}
		if f.noWait {
			if f.json {
				return nil, printJSON(s.Stdout, attrs{"container_request": cr.UUID, "container": cr.ContainerUUID})
			}
			_, err := fmt.Fprintln(s.Stdout, cr.UUID)
			return nil, err
		}
		finished, err := (&follower{session: s, request: cr, joined: joined, quiet: f.quiet}).run(ctx)
		switch {
		case err == nil:
			return s.outcome(ctx, finished, f.links)
		case !errors.Is(err, errGivenUp):
			return nil, err
		case !f.quiet:
			s.say("container request %s was given up by whoever made it", cr.UUID)
		}
	}
}

// withoutSecrets is a request to be shown.
func withoutSecrets(request attrs) attrs {
	secrets, _ := request["secret_mounts"].(attrs)
	if len(secrets) == 0 {
		return request
	}
	hidden := attrs{}
	for path := range secrets {
		hidden[path] = attrs{"kind": "text", "content": "[secret]"}
	}
	shown := maps.Clone(request)
	shown["secret_mounts"] = hidden
	return shown
}

// explainRefusal adds what is behind a refusal that every cluster without the
// builtin commands gives.
func explainRefusal(err error) error {
	var refused *arvados.TransactionError
	var f *fault.Error
	if errors.As(err, &refused) && errors.As(err, &f) && refused.StatusCode == http.StatusUnprocessableEntity && f.Hint == "" {
		f.Hint = "if this is about the image " + builtin.Image + ": the cluster has not got the builtin commands; ask its administrator"
	}
	return err
}
