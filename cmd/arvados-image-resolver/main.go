// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Command arvados-image-resolver stands between nginx and arvados-controller,
// and resolves names of images in container requests by the properties of
// collections: see package imageresolve. It speaks plain HTTP; TLS is nginx's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imageresolve"
	"git.arvados.org/arvados.git/lib/version"
	"github.com/sirupsen/logrus"
)

const usage = `usage: arvados-image-resolver -controller URL [-listen HOST:PORT] [-links=false]
       arvados-image-resolver -version

-controller  where arvados-controller answers, such as http://localhost:8003
-listen      where nginx finds this program (127.0.0.1:8013)
-links       names that only links know count as well (true)
`

const (
	// headerTimeout is for clients that connect and say nothing.
	headerTimeout = time.Minute
	// stopTimeout is how long requests under way may take when the program
	// is told to stop.
	stopTimeout = 30 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "arvados-image-resolver:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage")

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("arvados-image-resolver", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	controller := flags.String("controller", "", "")
	listen := flags.String("listen", "127.0.0.1:8013", "")
	links := flags.Bool("links", true, "")
	printVersion := flags.Bool("version", false, "")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		_, err := io.WriteString(stdout, usage)
		return err
	case err == nil && *printVersion:
		_, err := fmt.Fprintln(stdout, "arvados-image-resolver", version.Text())
		return err
	case err != nil || flags.NArg() > 0 || *controller == "":
		return errUsage
	}
	target, err := url.Parse(*controller)
	if err != nil || target.Scheme != "http" && target.Scheme != "https" || target.Host == "" || target.Path != "" && target.Path != "/" {
		return fmt.Errorf("-controller %s: give scheme, host and port, as in http://localhost:8003", *controller)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("-listen: %w", err)
	}
	handler := imageresolve.New(imageresolve.Config{
		Controller: target,
		Policy:     dockerimage.Policy{Links: *links},
		Log:        logrus.StandardLogger(),
	})
	defer handler.Close()
	server := &http.Server{Handler: handler, ReadHeaderTimeout: headerTimeout}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Fprintf(stdout, "resolves images at http://%s for %s\n", listener.Addr(), target)
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	// What is under way ends; shells and websockets, which never end, do not.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return server.Shutdown(ending)
}
