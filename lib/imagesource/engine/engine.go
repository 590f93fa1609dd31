// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package engine is the node's Docker Engine as a source of images (pull, then
// save; build), as a place to load an image into, and as the runner of ordinary
// containers of the embedded cluster. It speaks to engines with either image
// store, from API 1.41 on, and hides the differences: what an image id is,
// which errors come with HTTP 200, what a pull leaves behind.
//
// It is the only package that knows github.com/docker/docker/client and
// BuildKit's client. It never writes an image to disk itself, never logs (progress
// goes to the caller), and never removes what it has not brought.
package engine

import (
	"context"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
)

// DefaultHost is where the engine of a node listens.
const DefaultHost = "unix:///var/run/docker.sock"

// cleanupTime bounds what is done after a request has ended, also when its
// context is already over.
const cleanupTime = 30 * time.Second

// Engine is one Docker Engine. It may be used by several goroutines at a time.
type Engine struct {
	cli *client.Client
	// second: it is a private builder's. That it cannot be reached says
	// nothing about the node.
	second bool
}

// New prepares requests to the engine at host, "unix:///path" or
// "tcp://host:port"; "" is DefaultHost. It does not connect. Variables of the
// environment such as DOCKER_HOST have no influence.
func New(host string) (*Engine, error) {
	if host == "" {
		host = DefaultHost
	}
	cli, err := client.NewClientWithOpts(client.WithHost(host), client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, &fault.Error{Op: "use the Docker Engine at", Side: fault.Engine, Subject: host, Err: err,
			Hint: "the site's engine.host must look like " + DefaultHost}
	}
	return &Engine{cli: cli}, nil
}

// Close drops idle connections. Streams that are still open are not affected.
func (e *Engine) Close() error { return e.cli.Close() }

// Info says what engine answers.
type Info struct {
	APIVersion string // as negotiated: "1.41"
	Version    string // of the engine: "20.10.24+dfsg1"
	Store      string // StoreContainerd, or the graph driver: "overlay2"
	Platform   string // of the node, as in image configs: "linux/amd64"
}

// RecentDockerfile reports whether the engine knows the syntax of Dockerfiles
// since 1.4, heredocs among it: from Docker Engine 23.0 on.
func (i Info) RecentDockerfile() bool {
	return versions.GreaterThanOrEqualTo(i.APIVersion, "1.42")
}

// StoreContainerd is the image store in which an image id is the digest of a
// manifest or index, and layers stay as the registry had them. With any other
// store it is the digest of the config, and layers are kept unpacked.
const StoreContainerd = "containerd"

// Ping asks the engine who it is.
func (e *Engine) Ping(ctx context.Context) (Info, error) {
	version, err := e.cli.ServerVersion(ctx)
	if err != nil {
		return Info{}, e.fault("ask the version of", "", err)
	}
	info, err := e.cli.Info(ctx)
	if err != nil {
		return Info{}, e.fault("ask the image store of", "", err)
	}
	store := info.Driver
	for _, status := range info.DriverStatus {
		if status == [2]string{"driver-type", "io.containerd.snapshotter.v1"} {
			store = StoreContainerd
		}
	}
	return Info{
		APIVersion: e.cli.ClientVersion(),
		Version:    version.Version,
		Store:      store,
		Platform:   version.Os + "/" + version.Arch,
	}, nil
}

// detached is a context for cleaning up after ctx, which may be over.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
}
