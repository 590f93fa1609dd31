// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package builtinhost runs a builtin command inside an ordinary container: it is
// what /bin/docker of the image arvados/builtin does on nodes that have stock
// crunch-run only. Pulls work there as they do under the front, straight from the
// registry; builds need the front, and the user is told so.
//
// It acts with the container's own token, so that it can do what the user can do.
// Of records it changes the container's own alone: its output, its properties and
// its status. It never ends the container (crunch-run does, by the exit code),
// uses no engine, and keeps nothing on disk.
package builtinhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime/debug"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/builtin"
	_ "git.arvados.org/arvados.git/lib/builtin/dockerpull" // registers itself
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/lib/imagesource/registry"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/lib/keepfile/keepaccess"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// program is the first word of commands.
const program = "docker"

// Memory of the program beside blocks, and of a pull with one block under way, in
// bytes.
const (
	memoryBase = 64 << 20
	leastRAM   = memoryBase + 80<<20
)

// Host is a container, seen from inside.
type Host struct {
	API   *arvados.Client // as the environment has it
	Image string          // builtin.Variable in the environment: "" if this is another image
	Files fs.FS           // from the root, for secret mounts

	Stdout, Stderr io.Writer
}

// Run does the work of the container if args, without the program's name, are its
// command, and returns the exit code. It is not ours if this is no container, or
// if another program of it called docker.
func (h *Host) Run(ctx context.Context, args []string) (code int, ours bool) {
	words := append([]string{program}, args...)
	pull := len(args) > 0 && args[0] == "pull"
	if !pull && (len(args) == 0 || args[0] != "build") {
		return 0, false
	}
	container, err := h.container(ctx, words)
	if err == nil && container == nil {
		return 0, false
	}
	status := &builtin.Status{}
	switch {
	case err != nil:
	case !pull:
		err = &fault.Error{Op: "run", Side: fault.Request, Subject: "docker build",
			Err:  errors.New("this container is run by a crunch-run without builtin commands, and a container cannot build images"),
			Hint: "ask the administrator to install the crunch-run with builtin commands (doc/install.md); docker pull works without it"}
	default:
		err = h.pull(ctx, *container, args[1:], status)
	}
	if err == nil {
		return 0, true
	}
	message := builtin.Shorten(err.Error())
	fmt.Fprintln(h.Stderr, message)
	if container != nil {
		status.Error(message)
		if err := h.update(context.WithoutCancel(ctx), *container, map[string]interface{}{"runtime_status": status.Final()}); err != nil {
			fmt.Fprintln(h.Stderr, err)
		}
	}
	if code, final := builtin.ExitCode(err); final {
		return code, true
	}
	return 1, true // from inside, a container cannot ask to be run again
}

// container is the record of the container whose command this is, nil if there is
// none.
func (h *Host) container(ctx context.Context, words []string) (*arvados.Container, error) {
	if h.API.AuthToken == "" && h.Image != "" {
		return nil, &fault.Error{Op: "check", Side: fault.Request, Subject: "runtime_constraints.API",
			Err:  errors.New("it must be true, and is not, since the container has no ARVADOS_API_TOKEN"),
			Hint: "set it to true (arv:APIRequirement in CWL): builtin commands need the network, and write to Keep on your behalf"}
	}
	// The token of a container is v2/UUID/SECRET/CONTAINER.
	if parts := strings.Split(h.API.AuthToken, "/"); len(parts) != 4 || parts[0] != "v2" || !arvados.UUIDMatch(parts[3]) {
		return nil, nil
	}
	var ctr arvados.Container
	if err := builtin.CallAPI(ctx, h.API, &ctr, "GET", "containers/current", nil); err != nil {
		return nil, err
	}
	if len(ctr.Command) > 0 && ctr.Command[0] == "/bin/"+program {
		ctr.Command[0] = program
	}
	if !slices.Equal(ctr.Command, words) {
		return nil, nil
	}
	return &ctr, nil
}

// pull pulls into the output of the container.
func (h *Host) pull(ctx context.Context, ctr arvados.Container, args []string, status *builtin.Status) error {
	if ram := ctr.RuntimeConstraints.RAM; ram > 0 && ram < leastRAM {
		return &fault.Error{Op: "check", Side: fault.Request, Subject: "runtime_constraints.ram",
			Err:  fmt.Errorf("%s is too little for a pull", builtin.Size(ram)),
			Hint: fmt.Sprintf("set it to %s (%d) or more (ResourceRequirement ramMin in CWL); large images come faster with 512 MiB", builtin.Size(leastRAM), int64(leastRAM))}
	}
	command, rest, ok := builtin.Find(append([]string{program, "pull"}, args...))
	if !ok {
		return builtin.Unknown(ctr.Command)
	}
	job, err := h.job(ctx, ctr, rest)
	if err != nil {
		return err
	}
	job.Activity = status.Activity
	debug.SetMemoryLimit(memoryBase + int64(job.Blocks)*keepfile.BlockSize) // what was read before is garbage by the time that blocks are written
	side, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		status.Follow(side, func(fields map[string]string) error {
			return h.update(side, ctr, map[string]interface{}{"runtime_status": fields})
		})
	}()
	result, err := command.Run(ctx, job)
	stop()
	<-done
	if err != nil {
		return err
	}
	pdh, err := builtin.CreateOutput(ctx, h.API, ctr.UUID, result.ManifestText)
	if err != nil {
		return err
	}
	return h.update(ctx, ctr, map[string]interface{}{
		"output":            pdh,
		"output_properties": result.Properties,
		"runtime_status":    status.Final(),
	})
}

// job is the work as commands know it.
func (h *Host) job(ctx context.Context, ctr arvados.Container, args []string) (*builtin.Job, error) {
	var me arvados.User
	if err := builtin.CallAPI(ctx, h.API, &me, "GET", "users/current", nil); err != nil {
		return nil, err
	}
	secrets, err := h.secrets()
	if err != nil {
		return nil, err
	}
	kc, err := keepaccess.Open(ctx, h.API)
	if err != nil {
		return nil, err
	}
	if len(ctr.OutputStorageClasses) == 0 {
		ctr.OutputStorageClasses = nil // the cluster's default ones; an empty list would mean none
	}
	blocks := dockerimage.BlocksInFlight()
	if ram := ctr.RuntimeConstraints.RAM; ram > 0 { // not every runtime has a limit of its own
		blocks = min(blocks, dockerimage.BlocksFor(ram))
	}
	return &builtin.Job{
		UUID:    ctr.UUID,
		Args:    args,
		Mounts:  ctr.Mounts,
		Secrets: secrets,
		Env:     ctr.Environment,
		RAM:     ctr.RuntimeConstraints.RAM,
		VCPUs:   ctr.RuntimeConstraints.VCPUs,
		API:     h.API,
		Keep:    kc,
		Owner:   me.UUID,
		Admin:   me.IsAdmin,
		Write:   arvados.BlockWriteOptions{StorageClasses: ctr.OutputStorageClasses},
		Blocks:  blocks,
		Site:    h.site(args),
		Log:     builtin.NewLogger(h.Stderr),
		Stdout:  h.Stdout,
	}, nil
}

// site stands for the site file, which containers do not see. The network of the
// container decides what it can reach; any program of the user's could do the same
// in it, so the registry that is named may have any address.
func (h *Host) site(args []string) builtin.Site {
	registries := []string{"*"}
	for _, word := range args {
		if ref, err := imageref.Parse(word); err == nil {
			registries = append(registries, ref.Domain)
		}
	}
	site := builtin.Site{Pull: builtin.SitePull{Source: "registry", Registries: registries}}
	if h.Image == string(dockerimage.ByManifest) {
		site.ImageID = dockerimage.ByManifest
	}
	return site
}

// secrets are the secret mounts that commands may look for, which are files here.
func (h *Host) secrets() (map[string][]byte, error) {
	text, err := fs.ReadFile(h.Files, strings.TrimPrefix(registry.CredentialsPath, "/"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, &fault.Error{Op: "read", Side: fault.Request, Subject: registry.CredentialsPath, Err: err, Hint: "mount it as a file, by secret_mounts"}
	}
	return map[string][]byte{registry.CredentialsPath: text}, nil
}

// update changes the record of the container.
func (h *Host) update(ctx context.Context, ctr arvados.Container, attrs map[string]interface{}) error {
	return builtin.CallAPI(ctx, h.API, &arvados.Container{}, "PUT", "containers/"+ctr.UUID, map[string]interface{}{
		"container": attrs,
		"select":    []string{"uuid"},
	})
}
