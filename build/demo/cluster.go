// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
	"git.arvados.org/arvados.git/sdk/go/keepclient"
)

// cluster is a running embedded cluster and an ordinary user's access to it.
type cluster struct {
	dir    string
	cmd    *exec.Cmd
	client *arvados.Client
	keep   *keepclient.KeepClient
}

// startCluster starts arvados-local on a new data folder and waits until it
// answers.
func startCluster(ctx context.Context, program string) (*cluster, error) {
	dir, err := os.MkdirTemp("", "arvados-demo-")
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir, cmd: exec.Command(program, "serve", "-data", dir)}
	c.cmd.Stderr = os.Stderr
	// Its own group, so that Ctrl-C reaches it by stop only.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ready, err := c.cmd.StdoutPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	if _, err := ready.Read(make([]byte, 1)); err != nil { // it prints when it is up
		c.stop()
		return nil, fmt.Errorf("%s did not start: %w", program, err)
	}
	go io.Copy(io.Discard, ready)
	env, err := exec.CommandContext(ctx, program, "env", "-data", dir).Output()
	if err != nil {
		c.stop()
		return nil, err
	}
	c.client = &arvados.Client{Timeout: time.Minute, Insecure: true}
	for _, line := range strings.Split(string(env), "\n") {
		name, value, _ := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		switch name {
		case "ARVADOS_API_HOST":
			c.client.APIHost = value
		case "ARVADOS_API_TOKEN":
			c.client.AuthToken = value
		}
	}
	arv, err := arvadosclient.New(c.client)
	if err == nil {
		c.keep, err = keepclient.MakeKeepClient(arv)
	}
	if err != nil {
		c.stop()
	}
	return c, err
}

func (c *cluster) stop() {
	c.cmd.Process.Signal(syscall.SIGTERM)
	c.cmd.Wait()
	os.RemoveAll(c.dir)
}

type request struct {
	name, image string
	command     []string
	api         bool
}

// finished is a container request that has ended well.
type finished struct {
	arvados.ContainerRequest
	pdh string // of its output
}

// runRequest submits a request and follows it to its end.
func (c *cluster) runRequest(ctx context.Context, r request) (*finished, error) {
	var cr arvados.ContainerRequest
	err := c.call(ctx, &cr, "POST", "container_requests", map[string]interface{}{"container_request": map[string]interface{}{
		"name":                r.name,
		"state":               "Committed",
		"priority":            500,
		"container_image":     r.image,
		"command":             r.command,
		"mounts":              map[string]interface{}{"/out": map[string]interface{}{"kind": "tmp", "capacity": 1 << 30}},
		"output_path":         "/out",
		"cwd":                 "/out",
		"runtime_constraints": map[string]interface{}{"vcpus": 1, "ram": 512 << 20, "API": r.api},
		"container_count_max": 1,
		"use_existing":        false, // a tag's meaning can change
	}})
	if err != nil {
		return nil, err
	}
	say("container request %s, container %s", cr.UUID, cr.ContainerUUID)
	var ctr arvados.Container
	for shown := ""; cr.State != arvados.ContainerRequestStateFinal; {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		if err := c.call(ctx, &ctr, "GET", "containers/"+cr.ContainerUUID, nil); err != nil {
			return nil, err
		}
		state := string(ctr.State)
		if activity, ok := ctr.RuntimeStatus["activity"].(string); ok {
			state += ": " + activity
		}
		if state != shown {
			say("%s", state)
			shown = state
		}
		if err := c.call(ctx, &cr, "GET", "container_requests/"+cr.UUID, nil); err != nil {
			return nil, err
		}
	}
	if err := c.call(ctx, &ctr, "GET", "containers/"+cr.ContainerUUID, nil); err != nil {
		return nil, err
	}
	done := &finished{ContainerRequest: cr, pdh: ctr.Output}
	if ctr.State != arvados.ContainerStateComplete || ctr.ExitCode != 0 {
		for _, log := range []string{"crunch-run.txt", "stderr.txt"} {
			c.showLog(ctx, done, log)
		}
		return nil, fmt.Errorf("the container ended %s with exit code %d: %v", ctr.State, ctr.ExitCode, ctr.RuntimeStatus)
	}
	return done, nil
}

// showOutput prints the output collection of a pull.
func (c *cluster) showOutput(ctx context.Context, cr *finished) error {
	if err := c.showLog(ctx, cr, "stdout.txt"); err != nil {
		return err
	}
	var coll arvados.Collection
	if err := c.call(ctx, &coll, "GET", "collections/"+cr.OutputUUID, nil); err != nil {
		return err
	}
	files, err := keepfile.ParseManifest(coll.ManifestText)
	if err != nil || len(files) != 1 {
		return errors.Join(err, fmt.Errorf("the output has %d files, not one", len(files)))
	}
	properties, err := json.MarshalIndent(coll.Properties, "   ", "  ")
	if err != nil {
		return err
	}
	step("The image is in Keep")
	say("collection:         %s (%s)", coll.UUID, coll.Name)
	say("portable data hash: %s", coll.PortableDataHash)
	say("file:               %s, %d bytes", files[0].Path, files[0].Size())
	say("properties:         %s", properties)
	return nil
}

// showLog prints one file of a request's log.
func (c *cluster) showLog(ctx context.Context, cr *finished, name string) error {
	var coll arvados.Collection
	if err := c.call(ctx, &coll, "GET", "collections/"+cr.LogUUID, nil); err != nil {
		return err
	}
	files, err := keepfile.ParseManifest(coll.ManifestText)
	if err != nil {
		return err
	}
	for _, file := range files {
		if file.Path != name {
			continue
		}
		r := keepfile.NewReader(ctx, c.keep, file)
		defer r.Close()
		text, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		for _, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
			say("%s | %s", name, line)
		}
		return nil
	}
	return fmt.Errorf("no %s in the log %s", name, cr.LogUUID)
}

func (c *cluster) call(ctx context.Context, dst interface{}, method, path string, params map[string]interface{}) error {
	return c.client.RequestAndDecodeContext(ctx, dst, method, "arvados/v1/"+path, nil, params)
}
