// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Command demo shows the way of images into Arvados on the machine it is
// started on: it starts an embedded cluster and a registry with an image that
// it makes on the spot, submits a container request that pulls the image, and
// runs a container of it through the cluster. Then it builds the example of
// doc/examples upon that image, runs it, edits the recipe, and builds and runs
// it again.
//
//	demo            uses the image made on the spot
//	demo NAME:TAG   pulls that image from its own registry instead; it must
//	                have sh, awk and sort
//
// It exits with 0 only if all of that happened, and removes what it made. It
// needs bin/arvados-local, bin/crunch-run, a Docker Engine, and Debian's
// busybox-static for the image.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == greetArg {
		greet()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cleaner, err := newCleaner(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleaner.clean()) }()
	image, command := "", []string{"/bin/sh", "-c", "echo Hello from a container of this image:; cat /etc/os-release"}
	if len(args) > 0 {
		image = args[0]
	} else {
		step("Making an image and serving it from a registry on this machine")
		reg, name, err := serveImage(self)
		if err != nil {
			return err
		}
		defer reg.Close()
		image, command = name, []string{demoPath, greetArg}
		say("image: %s", image)
	}

	step("Starting an embedded Arvados cluster")
	bin := filepath.Dir(self)
	cluster, err := startCluster(ctx, filepath.Join(bin, "arvados-local"), cleaner)
	if err != nil {
		return err
	}
	defer cluster.stop()
	say("API server: https://%s", cluster.client.APIHost)

	if err := cluster.pullAndRun(ctx, image, command); err != nil {
		return err
	}
	if err := cluster.buildAndRun(ctx, filepath.Join(bin, "..", "doc", "examples", example), image); err != nil {
		return err
	}
	step("Done: images came into Keep by recorded container requests, pulled and built, and ran")
	return nil
}

// pullAndRun pulls an image, and runs a command in it.
func (c *cluster) pullAndRun(ctx context.Context, image string, command []string) error {
	words := []string{"docker", "pull", image}
	step(`Submitting a container request: image "arvados/builtin", command %q`, words)
	pulled, err := c.runRequest(ctx, request{name: "docker pull " + image, image: "arvados/builtin", command: words, api: true})
	if err != nil {
		return err
	}
	if err := showImage(pulled.output); err != nil {
		return err
	}
	step("Running a container of it: command %q", command)
	_, err = c.runRequest(ctx, request{name: "try " + image, image: pulled.output.PortableDataHash, command: command})
	return err
}

func step(format string, args ...interface{}) { fmt.Printf("\n== "+format+"\n", args...) }
func say(format string, args ...interface{})  { fmt.Printf("   "+format+"\n", args...) }
