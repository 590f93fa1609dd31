// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Command arvados-local is an Arvados cluster in one program, for trying,
// developing and testing. It listens on loopback only and is not for
// production.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"git.arvados.org/arvados.git/lib/version"
	"git.arvados.org/arvados.git/services/localcluster"
	"github.com/sirupsen/logrus"
)

const usage = `usage: arvados-local serve [-data DIR]
       arvados-local env [-data DIR] [-user admin|user]
       arvados-local -version

serve  runs the cluster until it is told to stop
env    prints the settings by which clients find it, for: eval "$(arvados-local env)"
`

func main() {
	// Where the front looks for stock crunch-run, this program stands.
	if filepath.Base(os.Args[0]) == "crunch-run" {
		os.Exit(runOrdinary(os.Args[1:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "arvados-local:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage")

func run(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	switch args[0] {
	case "-h", "-help", "--help":
		_, err := io.WriteString(stdout, usage)
		return err
	case "-version", "--version":
		_, err := fmt.Fprintln(stdout, "arvados-local", version.Text())
		return err
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	dir := flags.String("data", "", "")
	user := flags.String("user", localcluster.User, "")
	switch err := flags.Parse(args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		_, err := io.WriteString(stdout, usage)
		return err
	case err != nil || flags.NArg() > 0:
		return errUsage
	}
	if *dir == "" {
		var err error
		if *dir, err = localcluster.DefaultDir(); err != nil {
			return err
		}
	}
	switch args[0] {
	case "serve":
		return serve(ctx, *dir, stdout)
	case "env":
		return printEnv(*dir, *user, stdout)
	}
	return errUsage
}

func serve(ctx context.Context, dir string, stdout io.Writer) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	site, err := prepareSite(dir)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cluster, err := localcluster.Start(ctx, localcluster.Options{
		Dir:           dir,
		CrunchRun:     filepath.Join(filepath.Dir(self), "crunch-run"),
		CrunchRunArgs: []string{"-builtin-config=" + site},
		Log:           logrus.StandardLogger(),
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "cluster %s answers at https://%s, data in %s\n", cluster.ClusterID, cluster.APIAddress, dir)
	<-ctx.Done()
	return cluster.Stop()
}

// prepareSite makes the site file of a new cluster, and the stand-in for stock
// crunch-run that it names: this program by another name.
func prepareSite(dir string) (site string, err error) {
	stock := filepath.Join(dir, "stock", "crunch-run")
	if err := os.MkdirAll(filepath.Dir(stock), 0700); err != nil {
		return "", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if err := os.Remove(stock); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if err := os.Symlink(self, stock); err != nil {
		return "", err
	}
	site = filepath.Join(dir, "builtin.yml")
	if _, err := os.Stat(site); !errors.Is(err, os.ErrNotExist) {
		return site, err
	}
	text := "# Site file of this cluster's crunch-run; see doc/install.md.\nstock_crunch_run: " + stock + "\n" +
		"pull:\n  registries: [\"*\", \"localhost:*\", \"127.0.0.1:*\"] # all public ones, and any on this machine\n"
	return site, os.WriteFile(site, []byte(text), 0600)
}

func printEnv(dir, user string, stdout io.Writer) error {
	s, err := localcluster.LoadSettings(dir)
	if err != nil {
		return fmt.Errorf("no cluster in %s: %w (start one by: arvados-local serve)", dir, err)
	}
	token, ok := s.Tokens[user]
	if !ok {
		return fmt.Errorf("no user %q, only %s and %s", user, localcluster.Admin, localcluster.User)
	}
	_, err = fmt.Fprintf(stdout, "export ARVADOS_API_HOST=%s\nexport ARVADOS_API_HOST_INSECURE=1\nexport ARVADOS_API_TOKEN=%s\n", s.APIAddress, token)
	return err
}
