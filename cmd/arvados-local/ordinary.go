// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"git.arvados.org/arvados.git/lib/builtinrun"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localdispatch/ordinary"
)

// runOrdinary is crunch-run for ordinary containers, as the front hands them
// over: "-no-detach", flags, and the UUID; config on stdin.
func runOrdinary(args []string) int {
	signal.Ignore(syscall.SIGUSR2) // probes must not kill
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
	defer stop()
	if err := ordinaryContainer(ctx, args); err != nil {
		fmt.Fprintln(os.Stderr, "crunch-run:", err)
		return 1
	}
	return 0
}

func ordinaryContainer(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("crunch-run", flag.ContinueOnError)
	flags.Bool("no-detach", false, "")
	flags.Bool("detach", false, "") // done already
	flags.Bool("stdin-config", false, "")
	flags.String("runtime-engine", "docker", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var config struct{ Env map[string]string }
	if err := json.Unmarshal(input, &config); err != nil {
		return fmt.Errorf("decode stdin: %w", err)
	}
	for key, value := range config.Env {
		os.Setenv(key, value)
	}
	return builtinrun.Run(ctx, builtinrun.Config{
		UUID:       strings.Join(flags.Args(), " "),
		Dispatcher: arvados.NewClientFromEnv(),
		Stderr:     os.Stderr,
	}, ordinary.Work{EngineHost: "unix:///var/run/docker.sock"})
}
