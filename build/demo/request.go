// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// request is a container request.
type request struct {
	name, image string
	command     []string
	mounts      map[string]string // portable data hashes of collections, by path
	api         bool
}

// finished is a container request that has ended well.
type finished struct {
	output arvados.Collection
	stdout string        // without times
	took   time.Duration // from when it was submitted
}

// runRequest submits a request and follows it to its end.
func (c *cluster) runRequest(ctx context.Context, r request) (*finished, error) {
	started := time.Now()
	mounts := map[string]interface{}{"/out": map[string]interface{}{"kind": "tmp", "capacity": 1 << 30}}
	for path, pdh := range r.mounts {
		mounts[path] = map[string]interface{}{"kind": "collection", "portable_data_hash": pdh}
	}
	var cr arvados.ContainerRequest
	err := c.call(ctx, &cr, "POST", "container_requests", map[string]interface{}{"container_request": map[string]interface{}{
		"name":                r.name,
		"state":               "Committed",
		"priority":            500,
		"container_image":     r.image,
		"command":             r.command,
		"mounts":              mounts,
		"output_path":         "/out",
		"cwd":                 "/out",
		"runtime_constraints": map[string]interface{}{"vcpus": 1, "ram": 512 << 20, "API": r.api},
		"container_count_max": 1,
		"use_existing":        false, // what a name means can change
	}})
	if err != nil {
		return nil, err
	}
	say("container request %s, container %s", cr.UUID, cr.ContainerUUID)
	ctr, err := c.follow(ctx, cr)
	if err != nil {
		return nil, err
	}
	took := time.Since(started)
	if err := c.call(ctx, &cr, "GET", "container_requests/"+cr.UUID, nil); err != nil {
		return nil, err
	}
	logs, err := c.readFiles(ctx, cr.LogUUID)
	if err != nil {
		return nil, err
	}
	if ctr.State != arvados.ContainerStateComplete || ctr.ExitCode != 0 {
		for _, name := range []string{"crunch-run.txt", "stdout.txt", "stderr.txt"} {
			sayLines(name, withoutTimes(logs[name]))
		}
		return nil, fmt.Errorf("the container ended %s with exit code %d: %v", ctr.State, ctr.ExitCode, ctr.RuntimeStatus)
	}
	done := &finished{stdout: withoutTimes(logs["stdout.txt"]), took: took}
	sayLines("stdout.txt", done.stdout)
	if err := c.call(ctx, &done.output, "GET", "collections/"+cr.OutputUUID, nil); err != nil {
		return nil, err
	}
	c.cleaner.note(done.output)
	return done, nil
}

// follow says what a request's container does until the request is final.
func (c *cluster) follow(ctx context.Context, cr arvados.ContainerRequest) (ctr arvados.Container, err error) {
	for shown := ""; cr.State != arvados.ContainerRequestStateFinal; {
		select {
		case <-ctx.Done():
			c.cancel(cr)
			return ctr, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		if err := c.call(ctx, &ctr, "GET", "containers/"+cr.ContainerUUID, nil); err != nil {
			return ctr, err
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
			return ctr, err
		}
	}
	err = c.call(ctx, &ctr, "GET", "containers/"+cr.ContainerUUID, nil)
	return ctr, err
}

// cancel cancels a request, and waits for its container to end: until then,
// crunch-run takes off the engine what it has put there.
func (c *cluster) cancel(cr arvados.ContainerRequest) {
	ctx, stop := context.WithTimeout(context.Background(), 15*time.Second)
	defer stop()
	path := "container_requests/" + cr.UUID
	err := c.call(ctx, &cr, "PUT", path, map[string]interface{}{"container_request": map[string]interface{}{"priority": 0}})
	for err == nil && cr.State != arvados.ContainerRequestStateFinal {
		time.Sleep(200 * time.Millisecond)
		err = c.call(ctx, &cr, "GET", path, nil)
	}
}

// withoutTimes is a log without the times that its lines begin with.
func withoutTimes(log string) string {
	var text strings.Builder
	for line := range strings.Lines(log) {
		_, line, _ = strings.Cut(line, " ")
		text.WriteString(line)
	}
	return text.String()
}

func sayLines(label, text string) {
	for line := range strings.Lines(text) {
		say("%s | %s", label, strings.TrimSuffix(line, "\n"))
	}
}
