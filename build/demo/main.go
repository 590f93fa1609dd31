// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Command demo shows the way of an image into Arvados on the machine it is
// started on: it starts an embedded cluster and a registry with an image that
// it makes on the spot, submits a container request that pulls the image, and
// then runs a container of it through the cluster.
//
//	demo            uses the image made on the spot
//	demo NAME:TAG   pulls that image from its own registry instead
//
// It exits with 0 only if all of that happened, and removes what it made. It
// needs bin/arvados-local, bin/crunch-run and a Docker Engine.
package main

import (
	"context"
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

func run(ctx context.Context, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
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
		image, command = name, []string{imagePath, greetArg}
		say("image: %s", image)
	}

	step("Starting an embedded Arvados cluster")
	cluster, err := startCluster(ctx, filepath.Join(filepath.Dir(self), "arvados-local"))
	if err != nil {
		return err
	}
	defer cluster.stop()
	say("API server: https://%s", cluster.client.APIHost)

	step(`Submitting a container request: image "arvados/builtin", command ["docker","pull",%q]`, image)
	pulled, err := cluster.runRequest(ctx, request{
		name: "docker pull " + image, image: "arvados/builtin", command: []string{"docker", "pull", image}, api: true,
	})
	if err != nil {
		return err
	}
	if err := cluster.showOutput(ctx, pulled); err != nil {
		return err
	}

	step("Running a container of it: command %q", command)
	ran, err := cluster.runRequest(ctx, request{name: "try " + image, image: pulled.pdh, command: command})
	if err != nil {
		return err
	}
	if err := cluster.showLog(ctx, ran, "stdout.txt"); err != nil {
		return err
	}
	step("Done: the image came into Keep by a recorded container request, and ran")
	return nil
}

func step(format string, args ...interface{}) { fmt.Printf("\n== "+format+"\n", args...) }
func say(format string, args ...interface{})  { fmt.Printf("   "+format+"\n", args...) }
