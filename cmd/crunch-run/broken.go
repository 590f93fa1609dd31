// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/builtinrun"
)

const (
	// hookTime is how long the site's hook may take: the container waits for it
	// with its final state.
	hookTime = time.Minute
	// hookGrace is how long a hook that is told to end may take for that.
	hookGrace = time.Second
)

// broken is the file by which -list tells a dispatcher to give the node up.
func (d lockDir) broken() string {
	return filepath.Join(string(d), "crunch-run-broken")
}

// giveUp makes that file.
func (d lockDir) giveUp() error {
	f, err := builtinrun.OpenNodeFile(d.broken(), os.O_CREATE|os.O_WRONLY)
	if err != nil {
		return err
	}
	return f.Close()
}

// brokenFunc is what to do when the Docker Engine of the node is gone: as stock
// crunch-run, run the site's hook, or tell the dispatcher. It is nil where ordinary
// containers do not run by that engine, which a wrong engine.host or a build on a
// node that has none must not take out of service.
//
// "No space left on device" is no such end, though it is to stock crunch-run: the steps
// of one recipe could put one node after the other out of service.
func (d lockDir) brokenFunc(ctx context.Context, cmd command, site builtin.Site, stderr io.Writer) func(error) {
	if cmd.engine != "docker" || site.Engine.Host != builtin.DefaultEngine {
		return nil
	}
	return func(err error) {
		fmt.Fprintf(stderr, "this node is broken: %v\n", err)
		if cmd.brokenHook == "" {
			err = d.giveUp()
		} else {
			err = runHook(ctx, cmd.brokenHook, stderr)
		}
		if err != nil {
			fmt.Fprintf(stderr, "nobody could be told: %v\n", err)
		}
	}
}

// runHook runs the site's hook, which has to end with this process when ctx does,
// and whatever it has started.
func runHook(ctx context.Context, program string, stderr io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, hookTime, fmt.Errorf("not done within %v", hookTime))
	defer cancel()
	hook := exec.CommandContext(ctx, program)
	hook.Stdout, hook.Stderr = stderr, stderr
	hook.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	hook.Cancel = func() error {
		if syscall.Kill(-hook.Process.Pid, syscall.SIGTERM) != nil {
			return os.ErrProcessDone
		}
		return nil
	}
	hook.WaitDelay = hookGrace
	err := hook.Run()
	if err != nil && ctx.Err() != nil {
		if hook.Process != nil {
			_ = syscall.Kill(-hook.Process.Pid, syscall.SIGKILL) // those that heed no SIGTERM, if any
		}
		err = fmt.Errorf("%s: %w", program, context.Cause(ctx))
	}
	return err
}
