// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Command arv-docker pulls, builds, lists, names, loads, saves and checks
// container images in Arvados, on machines without docker.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"git.arvados.org/arvados.git/lib/arvdocker"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// retryTime is how long a request to the API server may take, with all that it is
// tried again. Somebody is waiting.
const retryTime = 2 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second Ctrl-C ends the program at once
	client := arvados.NewClientFromEnv()
	client.Timeout = retryTime
	info, err := os.Stderr.Stat()
	program := &arvdocker.Program{
		API:      client,
		Stdin:    os.Stdin,
		Stdout:   os.Stdout,
		Stderr:   os.Stderr,
		Terminal: err == nil && info.Mode()&os.ModeCharDevice != 0,
	}
	os.Exit(program.Run(ctx, os.Args[1:]))
}
