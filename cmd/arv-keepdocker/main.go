// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Command arv-keepdocker brings images of the local Docker Engine into Arvados,
// and lists those that are there.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"git.arvados.org/arvados.git/lib/keepdocker"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)   // so that a second Ctrl-C ends the program at once
	signal.Ignore(syscall.SIGPIPE) // whoever reads the list may stop
	info, err := os.Stderr.Stat()
	program := &keepdocker.Program{
		API:            arvados.NewClientFromEnv(),
		Stdin:          os.Stdin,
		Stdout:         os.Stdout,
		Stderr:         os.Stderr,
		Terminal:       err == nil && info.Mode()&os.ModeCharDevice != 0,
		EngineHost:     os.Getenv("DOCKER_HOST"),
		RegistryConfig: registryConfig(),
		LockDir:        keepdocker.LockDir(os.Getenv),
	}
	os.Exit(program.Run(ctx, os.Args[1:]))
}

// registryConfig is what docker login has left, where the docker program looks
// for it. Most users have none.
func registryConfig() []byte {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		dir = filepath.Join(os.Getenv("HOME"), ".docker")
	}
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil
	}
	return config
}
