// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
)

// command is a parsed command line.
type command struct {
	prog        string
	uuid        string
	detach      bool
	kill        int // signal number, or -1
	list        bool
	version     bool
	help        bool
	stdinConfig bool
	stdinPrices bool
	engine      string   // what runs ordinary containers: docker or singularity
	brokenHook  string   // program to be run when the node is broken, or ""
	caCerts     string   // file of the certificates to be trusted, "" for the usual ones
	site        string   // path of the site file
	check       bool     // say what this node would do
	bundle      string   // path of the stock crunch-run for a bundle
	output      string   // path of the bundle
	stockArgs   []string // the command line for stock crunch-run, without our own flags
	childArgs   []string // the command line for the detached child
}

// siteFlag is the one flag for containers that stock crunch-run does not have.
// Sites set it in Containers.CrunchRunArgumentsList.
const siteFlag = "builtin-config"

// parseFlags reads crunch-run's command line. What is wrong with it goes to
// stderr.
func parseFlags(prog string, args []string, stderr io.Writer) (command, error) {
	cmd := command{prog: prog}
	noDetach := len(args) > 0 && args[0] == "-no-detach"
	if noDetach {
		args = args[1:]
	}
	flags := flag.NewFlagSet(prog, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // a mistake needs one line, not all of the flags
	flags.BoolVar(&cmd.detach, "detach", false, "start in the background")
	flags.BoolVar(&cmd.list, "list", false, "list UUIDs of running containers (and notify their processes)")
	flags.IntVar(&cmd.kill, "kill", -1, "send `signal` to the process of the given container")
	flags.BoolVar(&cmd.version, "version", false, "print version and exit")
	flags.BoolVar(&cmd.stdinConfig, "stdin-config", false, "read environment and cluster config as JSON from stdin")
	flags.StringVar(&cmd.site, siteFlag, builtin.DefaultSiteFile, "site `file` of the builtin commands")
	flags.BoolVar(&cmd.stdinPrices, "stdin-prices", false, "with -list, read instance prices as JSON from stdin")
	flags.StringVar(&cmd.engine, "runtime-engine", "docker", "what runs ordinary containers: `docker` or singularity")
	flags.StringVar(&cmd.brokenHook, "broken-node-hook", "", "`program` to run when the node is broken, instead of telling -list")
	flags.StringVar(&cmd.caCerts, "ca-certs", "", "`file` of the certificates to be trusted")
	flags.BoolVar(&cmd.check, "check-builtin", false, "print what this node would do with containers, and exit")
	flags.StringVar(&cmd.bundle, "bundle", "", "write one `program` that carries the given stock crunch-run (-o), and exit")
	flags.StringVar(&cmd.output, "o", "", "`file` for -bundle to write")
	stockOnly(flags)
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(stderr, "Usage: %s [options] container-uuid\nRuns containers for %q, and hands all others to the site's stock crunch-run.\n", prog, builtin.Names())
		flags.SetOutput(stderr)
		flags.PrintDefaults()
		cmd.help = true
		return cmd, nil
	} else if err != nil {
		fmt.Fprintf(stderr, "error parsing command line arguments: %v (try -help)\n", err)
		return cmd, err
	}
	cmd.uuid = flags.Arg(0)
	switch {
	case cmd.version, cmd.list: // whatever follows
	case (cmd.check || cmd.bundle != "") && flags.NArg() == 0:
	case flags.NArg() != 1:
		err := errors.New("missing required argument: container-uuid (try -help)")
		fmt.Fprintln(stderr, err)
		return cmd, err
	}
	cmd.childArgs = append([]string{"-no-detach"}, args...)
	cmd.stockArgs = withoutSiteFlag(args)
	if noDetach {
		cmd.detach = false
		cmd.stockArgs = append([]string{"-no-detach"}, cmd.stockArgs...)
	}
	return cmd, nil
}

// stockOnly declares the flags that mean something to stock crunch-run only.
func stockOnly(flags *flag.FlagSet) {
	for _, name := range []string{"config", "cgroup-parent-subsystem", "cgroup-root", "cgroup-parent",
		"container-enable-networking", "container-network-mode", "memprofile"} {
		flags.String(name, "", "handed to stock crunch-run")
	}
	for _, name := range []string{"check-containerd", "crunchstat-interval", "sleep"} {
		flags.Duration(name, time.Duration(0), "handed to stock crunch-run")
	}
	flags.Bool("enable-memory-limit", true, "handed to stock crunch-run")
}

// withoutSiteFlag is args without our own flag, in either spelling.
func withoutSiteFlag(args []string) []string {
	var kept []string
	for i := 0; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "-")
		name, _, hasValue := strings.Cut(strings.TrimPrefix(name, "-"), "=")
		if !isFlag || name != siteFlag {
			kept = append(kept, args[i])
		} else if !hasValue {
			i++ // its value is the next one
		}
	}
	return kept
}
