// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Command arv-docker pulls, builds, lists, names, loads, saves and checks
// container images in Arvados, on machines without docker. Under the name docker
// it stands in for that.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"git.arvados.org/arvados.git/lib/arvdocker"
	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/builtinhost"
	"git.arvados.org/arvados.git/lib/dockerstandin"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// retryTime is how long a request to the API server may take, with all that it is
// tried again. Somebody is waiting, but for commands that take more of it themselves.
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
		Project:  os.Getenv("ARVADOS_PROJECT_UUID"),
	}
	if filepath.Base(os.Args[0]) == dockerstandin.Name {
		host := &builtinhost.Host{
			API:    client,
			Image:  os.Getenv(builtin.Variable),
			Files:  os.DirFS("/"),
			Stdout: os.Stdout,
			Stderr: os.Stderr,
		}
		if code, ours := host.Run(ctx, os.Args[1:]); ours {
			os.Exit(code)
		}
		os.Exit(dockerstandin.Run(ctx, program, os.Args[1:]))
	}
	os.Exit(program.Run(ctx, os.Args[1:]))
}
