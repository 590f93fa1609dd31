// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"git.arvados.org/arvados.git/lib/builtin"
)

// broken is the file by which -list tells a dispatcher to give the node up.
func (d lockDir) broken() string {
	return filepath.Join(string(d), "crunch-run-broken")
}

// brokenFunc is what to do when the Docker Engine of the node is gone: as stock
// crunch-run, run the site's hook, or tell the dispatcher. It is nil where ordinary
// containers do not run by that engine, which a wrong engine.host or a build on a
// node that has none must not take out of service.
func (d lockDir) brokenFunc(cmd command, site builtin.Site, stderr io.Writer) func(error) {
	if cmd.engine != "docker" || site.Engine.Host != builtin.DefaultEngine {
		return nil
	}
	return func(err error) {
		fmt.Fprintf(stderr, "this node is broken: %v\n", err)
		if cmd.brokenHook == "" {
			err = os.WriteFile(d.broken(), nil, 0700)
		} else {
			hook := exec.Command(cmd.brokenHook)
			hook.Stdout, hook.Stderr = stderr, stderr
			err = hook.Run()
		}
		if err != nil {
			fmt.Fprintf(stderr, "nobody could be told: %v\n", err)
		}
	}
}
