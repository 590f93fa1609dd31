// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"git.arvados.org/arvados.git/lib/imagemigrate"
	"github.com/spf13/cobra"
)

// syncFlags are how sync is to work.
type syncFlags struct {
	changeFlags
	namesByOthers          bool
	state, report, metrics string
	every                  time.Duration
}

func (p *Program) syncCommand() *cobra.Command {
	var flags syncFlags
	cmd := &cobra.Command{
		Use:   "sync [OPTIONS]",
		Short: "Keep links and properties of images in step until it is stopped",
		Long: `Keep links and properties of images in step, for as long as some programs look for
images by the ones and some by the others: look again and again at what was changed,
copy what links say into properties, and write links that properties imply. It takes
an administrator's token, adds on both sides and removes on none. Of links it takes
those that belong to the owner of the collection.

It begins with all images that there are. Stopped and started again with the same
--state, it goes on where it was. It ends by Ctrl-C or SIGTERM, with exit code 0.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(); err != nil {
				return err
			}
			ctx := cmd.Context()
			s, err := p.connectAsAdmin(ctx)
			if err != nil {
				return err
			}
			return s.sync(ctx, flags)
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.state, "state", "arv-docker-sync.state", "`file` that remembers how far this has come, to go on from there")
	f.DurationVar(&flags.every, "every", 10*time.Second, "`time` between two looks for changes")
	f.StringVar(&flags.metrics, "metrics", "", "`address` ([HOST]:PORT) at which numbers for Prometheus can be asked for, at /metrics; without HOST on this machine only")
	f.StringVar(&flags.report, "report", "", "`file` for a report, a line of JSON for each collection that was brought into step or could not be; it is added to; \"-\" is standard output")
	f.BoolVar(&flags.namesByOthers, "names-by-others", false, "take names by links that do not belong to the owner of the collection as well")
	flags.add(f, "arv-docker-sync.rollback")
	return cmd
}

// check refuses what flags cannot be.
func (f syncFlags) check() error {
	if f.every < time.Second {
		return wrong("--every", errors.New("the time is too short"), "write a second or more, as in 30s")
	}
	if f.state == "" {
		return wrong("--state", errors.New("it is empty"), "name a file that can be written")
	}
	return f.changeFlags.check()
}

// sync runs until ctx ends.
func (s *session) sync(ctx context.Context, flags syncFlags) error {
	lock, err := imagemigrate.LockPosition(flags.state)
	if err != nil {
		return err
	}
	defer lock.Close()
	report, err := openReport(s.Stdout, flags.report, true)
	if err != nil {
		return err
	}
	defer report.Close()
	y := &imagemigrate.Sync{
		API:      s.API,
		Rules:    imagemigrate.Rules{OwnNamesOnly: !flags.namesByOthers},
		Parallel: flags.parallel,
		Rate:     flags.rate,
		Every:    flags.every,
		Report:   func(row imagemigrate.Row) error { return s.tellSynced(report, row) },
		Passed: func(at imagemigrate.SyncPosition) error {
			at.Server = s.API.APIHost
			return at.Save(flags.state)
		},
		Warn: func(err error) { s.say("%v", err) },
	}
	if y.Start, err = imagemigrate.LoadSyncPosition(flags.state); err != nil {
		return err
	}
	if at := y.Start.Server; at != "" && at != s.API.APIHost {
		return wrong("--state", fmt.Errorf("%s is about %s, not about %s", flags.state, at, s.API.APIHost), "name another file")
	}
	if y.Rollback, err = imagemigrate.OpenRollback(flags.undo); err != nil {
		return err
	}
	defer y.Rollback.Close()
	stop, err := s.serveMetrics(flags.metrics, &y.Stats)
	if err != nil {
		return err
	}
	defer stop()
	return y.Run(ctx)
}

// tellSynced says what was done, in words and in the report.
func (s *session) tellSynced(report io.Writer, row imagemigrate.Row) error {
	switch {
	case row.Action == imagemigrate.Failed:
		s.say("collection %s cannot be brought into step: %s", row.Collection, harmless(row.Error))
	case len(row.Links) > 0:
		s.say("collection %s: links written: %d", row.Collection, len(row.Links))
	default:
		s.say("collection %s: properties written, names added: %d", row.Collection, len(row.Names))
	}
	return printJSONLine(report, row)
}

// serveMetrics answers requests for numbers until stop is called.
func (s *session) serveMetrics(address string, numbers http.Handler) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, wrong("--metrics", err, "write an address as in :14100 or 192.0.2.1:14100")
	}
	if host == "" {
		host = "127.0.0.1"
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, wrong("--metrics", err, "name an address of this machine and a port that is free")
	}
	s.say("numbers for Prometheus are at http://%s/metrics", listener.Addr())
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", numbers)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: answerTime}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // ends by Close
	}()
	return func() {
		_ = server.Close() // nothing is lost by it
		<-ended
	}, nil
}
