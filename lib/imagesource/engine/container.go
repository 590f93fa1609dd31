// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/pkg/stdcopy"
)

// ContainerSpec is a container to run once.
type ContainerSpec struct {
	Image      string   // id or name; it is never pulled
	Command    []string // arguments of the image's entrypoint, or all if it has none
	Env        []string // "KEY=value"
	WorkingDir string   // "" or "." for the image's own
	Binds      []Bind
	Memory     int64   // bytes, RAM and swap together; 0 for no limit
	CPUs       float64 // 0 for no limit
	Network    string  // NetworkNone (also ""), NetworkBridge or NetworkHost
	User       string  // "uid:gid", "" for the image's own
	Labels     map[string]string

	Stdin          io.Reader // nil for an empty one
	Stdout, Stderr io.Writer // nil to discard
}

// Networks of a container.
const (
	NetworkNone   = "none"
	NetworkBridge = "bridge"
	NetworkHost   = "host"
)

// Bind shows a file or folder of the engine's machine in a container.
type Bind struct {
	Host      string // absolute path, must exist
	Container string // absolute path
	ReadOnly  bool
}

// ContainerResult is how a container ended.
type ContainerResult struct {
	ExitCode int
	// OOMKilled: the engine noticed that a process was killed for lack of
	// memory. Engine 20.10 misses it now and then; ExitCode is 137 all the
	// same.
	OOMKilled bool
}

// minMemory is what engines need to start a container with.
const minMemory = 16 << 20

// RunContainer runs a container to its end and removes it. When ctx ends, the
// container is killed, and it is removed all the same.
//
// A command that cannot be started is the fault of the request. All that the
// container has written has reached Stdout and Stderr before RunContainer
// returns; if one of these fails, the container is killed.
func (e *Engine) RunContainer(ctx context.Context, spec ContainerSpec) (ContainerResult, error) {
	id, err := e.create(ctx, spec)
	if err != nil {
		return ContainerResult{}, err
	}
	defer e.removeContainer(ctx, id)
	exit, err := e.follow(ctx, id, spec)
	if err != nil {
		return ContainerResult{}, err
	}
	state, err := e.cli.ContainerInspect(ctx, id)
	if err != nil {
		return ContainerResult{}, e.fault("look at container of image", spec.Image, err)
	}
	return ContainerResult{ExitCode: int(exit.StatusCode), OOMKilled: state.State.OOMKilled}, nil
}

// follow starts a container that has been created, and follows it to its end.
func (e *Engine) follow(ctx context.Context, id string, spec ContainerSpec) (exit container.WaitResponse, err error) {
	// Attached and waiting before the start, so that nothing is missed.
	conn, err := e.attach(ctx, id, container.AttachOptions{Stream: true, Stdin: spec.Stdin != nil, Stdout: true, Stderr: true})
	if err != nil {
		return exit, e.fault("attach to container of image", spec.Image, err)
	}
	output := pump(conn, spec)
	outputEnded := false
	defer func() {
		conn.Close()
		if !outputEnded {
			<-output // so that Stdout and Stderr are not written to any more
		}
	}()
	waiting, cancel := context.WithCancel(ctx)
	exited, waitFailed := e.cli.ContainerWait(waiting, id, container.WaitConditionNextExit)
	waitEnded := false
	defer func() {
		cancel()
		if !waitEnded {
			select { // else the client waits for ever to deliver one of them
			case <-exited:
			case <-waitFailed:
			}
		}
	}()
	if err := e.cli.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		return exit, e.startFault(spec, err)
	}
	for !waitEnded || !outputEnded {
		select {
		case exit = <-exited:
			waitEnded = true
		case err := <-waitFailed:
			waitEnded = true
			return exit, e.fault("wait for container of image", spec.Image, err)
		case err := <-output:
			outputEnded = true
			if err != nil {
				return exit, err
			}
		case <-ctx.Done():
			return exit, e.fault("run container of image", spec.Image, ctx.Err())
		}
	}
	if exit.Error != nil {
		return exit, e.fault("wait for container of image", spec.Image, errors.New(exit.Error.Message))
	}
	return exit, nil
}

// create makes the container. It is not cut short when ctx ends: then nobody
// would know the id to remove it by.
func (e *Engine) create(ctx context.Context, spec ContainerSpec) (id string, err error) {
	if err := ctx.Err(); err != nil {
		return "", e.fault("create container of image", spec.Image, err)
	}
	creating, cancel := detached(ctx)
	defer cancel()
	config, host := spec.engineConfig()
	created, err := e.cli.ContainerCreate(creating, config, host, nil, nil, "")
	switch {
	case cerrdefs.IsNotFound(err):
		return "", &fault.Error{Op: "create container of image", Side: fault.Engine, Subject: spec.Image, Err: err, Transient: true,
			Hint: "something has removed the image from the engine"}
	case cerrdefs.IsInvalidArgument(err):
		return "", &fault.Error{Op: "create container of image", Side: fault.Request, Subject: spec.Image, Err: err}
	case err != nil:
		return "", e.fault("create container of image", spec.Image, err)
	}
	return created.ID, nil
}

func (spec ContainerSpec) engineConfig() (*container.Config, *container.HostConfig) {
	config := &container.Config{
		Image:        spec.Image,
		Cmd:          spec.Command,
		Env:          spec.Env,
		User:         spec.User,
		Labels:       spec.Labels,
		AttachStdin:  spec.Stdin != nil,
		OpenStdin:    spec.Stdin != nil,
		StdinOnce:    spec.Stdin != nil,
		AttachStdout: true,
		AttachStderr: true,
	}
	if spec.WorkingDir != "." {
		config.WorkingDir = spec.WorkingDir
	}
	host := &container.HostConfig{
		NetworkMode: container.NetworkMode(spec.Network),
		LogConfig:   container.LogConfig{Type: "none"}, // the output comes here
	}
	if spec.Network == "" {
		host.NetworkMode = NetworkNone
	}
	if spec.Memory > 0 {
		host.Memory = max(spec.Memory, minMemory)
		host.MemorySwap = host.Memory
	}
	host.NanoCPUs = int64(spec.CPUs * 1e9)
	for _, bind := range spec.Binds {
		// Mounts, unlike binds as text, may have colons in their paths
		// and are never made by the engine when they are missing.
		host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeBind, Source: bind.Host, Target: bind.Container, ReadOnly: bind.ReadOnly})
	}
	return config, host
}

// startFault tells a command that does not exist from trouble of the engine.
func (e *Engine) startFault(spec ContainerSpec, err error) error {
	text := err.Error()
	for _, mistake := range []string{"executable file not found", "no such file or directory", "permission denied", "not a directory"} {
		if strings.Contains(text, mistake) && !isCancel(err) {
			return &fault.Error{Op: "start", Side: fault.Request, Subject: fmt.Sprintf("command %q in image %s", spec.Command, spec.Image), Err: err,
				Hint: "is there such a program in the image, and is it for the node's platform?"}
		}
	}
	return e.fault("start container of image", spec.Image, err)
}

// pump copies between the container and the spec's streams. The result comes
// when all output has been written.
func pump(conn types.HijackedResponse, spec ContainerSpec) <-chan error {
	stdout, stderr := spec.Stdout, spec.Stderr
	if stdout == nil {
		stdout = io.Discard
	}
	if stderr == nil {
		stderr = io.Discard
	}
	if spec.Stdin != nil {
		go func() {
			// A container may end, or close its input, before it has
			// read everything.
			_, _ = io.Copy(conn.Conn, spec.Stdin)
			_ = conn.CloseWrite()
		}()
	}
	done := make(chan error, 1)
	go func() {
		_, err := stdcopy.StdCopy(stdout, stderr, conn.Reader)
		if err != nil {
			err = &fault.Error{Op: "copy the output of a container of image", Side: fault.Engine, Subject: spec.Image, Err: err, Transient: true}
		}
		done <- err
	}()
	return done
}

// removeContainer kills and removes a container. There is no log to say that it
// failed; then the engine is gone, and with it whoever could do more.
func (e *Engine) removeContainer(ctx context.Context, id string) {
	ctx, cancel := detached(ctx)
	defer cancel()
	_ = e.cli.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
}
