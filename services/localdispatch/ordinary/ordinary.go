// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package ordinary runs ordinary containers of the embedded cluster on the
// Docker Engine: what stock crunch-run is to a real cluster, without arv-mount
// (inputs are copied from Keep to a temporary folder) and without gateway. It
// is for trying and testing, not for production.
package ordinary

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"git.arvados.org/arvados.git/lib/builtinrun"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagesource/engine"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// Work is the work of an ordinary container; see builtinrun.Work.
type Work struct {
	EngineHost string // address of the Docker Engine
}

// Do loads the image unless the engine has it, runs the command, and stores
// what it leaves in its output path.
func (w Work) Do(ctx context.Context, s *builtinrun.Session) (builtinrun.Outcome, error) {
	dir, err := os.MkdirTemp("", "arvados-container-")
	if err != nil {
		return builtinrun.Outcome{}, err
	}
	defer os.RemoveAll(dir)
	eng, err := engine.New(w.EngineHost)
	if err != nil {
		return builtinrun.Outcome{}, err
	}
	defer eng.Close()
	image, err := loadImage(ctx, s, eng)
	if err != nil {
		return builtinrun.Outcome{}, err
	}
	m, err := prepareMounts(ctx, s, dir)
	if err != nil {
		return builtinrun.Outcome{}, err
	}
	defer m.close()
	ctr := s.Container
	s.Log.Printf("running %q in image %s", ctr.Command, image)
	result, err := eng.RunContainer(ctx, engine.ContainerSpec{
		Image:      image,
		Command:    ctr.Command,
		Env:        environment(s),
		WorkingDir: ctr.Cwd,
		Binds:      m.binds,
		Memory:     ctr.RuntimeConstraints.RAM,
		CPUs:       float64(ctr.RuntimeConstraints.VCPUs),
		Network:    network(ctr),
		Labels:     map[string]string{"org.arvados.container": ctr.UUID},
		Stdin:      m.stdin,
		Stdout:     m.stdout,
		Stderr:     m.stderr,
	})
	if err != nil {
		return builtinrun.Outcome{}, err
	}
	if result.OOMKilled || result.ExitCode == 137 {
		s.Log.Warnf("the container was killed, most likely for lack of memory: raise runtime_constraints.ram, now %d", ctr.RuntimeConstraints.RAM)
	}
	s.Log.Printf("command exited with %d", result.ExitCode)
	outcome := builtinrun.Outcome{ExitCode: result.ExitCode, HasOutput: true}
	if ctr.RuntimeConstraints.API {
		// A program with API access may have set its output itself.
		if outcome.Output, err = s.CurrentOutput(ctx); err != nil || outcome.Output != "" {
			return outcome, err
		}
	}
	outcome.ManifestText, err = m.capture(ctx, s)
	return outcome, err
}

// loadImage makes sure that the engine has the container's image, and returns
// the id to run it by.
func loadImage(ctx context.Context, s *builtinrun.Session, eng *engine.Engine) (string, error) {
	pdh := s.Container.ContainerImage
	manifest, err := s.Manifest(ctx, pdh)
	if err != nil {
		return "", err
	}
	files, err := keepfile.ParseManifest(manifest)
	if err != nil {
		return "", err
	}
	if len(files) != 1 || !strings.HasSuffix(files[0].Path, ".tar") {
		return "", &fault.Error{Op: "load image", Side: fault.API, Subject: pdh, Err: fmt.Errorf("not exactly one .tar file in the collection")}
	}
	id := strings.TrimSuffix(filepath.Base(files[0].Path), ".tar")
	if eng.ImageExists(ctx, id) {
		return id, nil
	}
	s.Log.Printf("loading image %s", id)
	reader := keepfile.NewReader(ctx, s.Keep, files[0])
	defer reader.Close()
	return eng.Load(ctx, reader) // another id than the file's on the containerd image store
}

func environment(s *builtinrun.Session) []string {
	var env []string
	for key, value := range s.Container.Environment {
		env = append(env, key+"="+value)
	}
	if s.Container.RuntimeConstraints.API {
		env = append(env,
			"ARVADOS_API_HOST="+s.User.APIHost,
			"ARVADOS_API_TOKEN="+s.User.AuthToken,
			"ARVADOS_API_HOST_INSECURE="+os.Getenv("ARVADOS_API_HOST_INSECURE"),
		)
	}
	return env
}

// network is none, as for any container without API access. With it, a
// container needs the host's network to reach a cluster on loopback.
func network(ctr arvados.Container) string {
	if ctr.RuntimeConstraints.API {
		return "host"
	}
	return "none"
}
