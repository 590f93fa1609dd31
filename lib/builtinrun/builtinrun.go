// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package builtinrun is the life of one container as the dispatcher and the
// API server see it, from Locked to its end: tokens, secret mounts, logs in
// crunch-run's format, Running, the work, the output collection, and one final
// update with everything in it.
//
// What the work is, it does not know: Builtin runs a command of lib/builtin,
// and the embedded cluster runs ordinary containers through the same life. A
// failure before Running leaves the record untouched, so that the dispatcher
// can try again; after that the record always gets a final state, and nothing
// but trashed collections stays behind when it is not Complete.
package builtinrun

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// Config is what Run needs to know.
type Config struct {
	UUID         string           // of the container
	Dispatcher   *arvados.Client  // with the token that locked it
	InstanceType string           // JSON text for node.json, "" outside a cloud
	PricesFile   string           // what the node costs from when on; it need not be there
	SaveLogs     <-chan os.Signal // a value has the logs saved at once; may be nil
	TellCost     <-chan os.Signal // a value has the cost so far written; may be nil
	// Broken, if not nil, is told why no container can run by the node's Docker
	// Engine any more.
	Broken func(error)
	Links  string    // as in builtin.Site
	Stderr io.Writer // gets what crunch-run.txt gets
}

// Work is what a container does while it is Running.
type Work interface {
	// Do returns an Outcome when the container is to be Complete, and an
	// error when it is to be Cancelled, which Arvados retries. It returns
	// promptly when ctx ends.
	Do(ctx context.Context, s *Session) (Outcome, error)
}

// Outcome is how the work of a container ended.
type Outcome struct {
	ExitCode     int
	HasOutput    bool                   // ManifestText or Output is meant
	ManifestText string                 // of the output, locators signed for Session.User
	Output       string                 // portable data hash of an output that exists already
	Properties   map[string]interface{} // for output_properties; nil leaves them alone
}

// logSaveInterval is how long the saved log may lag behind a running
// container: without a gateway it is what users see.
const logSaveInterval = 20 * time.Second

// Run takes the container through its life. ctx is cancelled, with a cause
// that says why, when the container is to be stopped. Then Run is back in eight
// seconds at most, whoever does not answer; work that has not ended is left to
// itself. An error means that the record may not have its final state.
func Run(ctx context.Context, cfg Config, work Work) error {
	s := newSession(cfg)
	err := s.open(ctx, cfg.UUID)
	if err == nil {
		err = s.run(ctx, cfg, work)
	}
	return s.Logs.cleanError(err)
}

func (s *Session) run(ctx context.Context, cfg Config, work Work) error {
	cost := meter{instanceType: cfg.InstanceType, pricesFile: cfg.PricesFile, start: time.Now()}
	s.Log.Printf("crunch-run with builtin commands (%s) on %s", runtime.Version(), hostname())
	s.Log.Printf("container %s, image %s, command %q", cfg.UUID, s.Container.ContainerImage, s.Container.Command)
	record, err := s.record(ctx)
	if err != nil {
		return err
	}
	s.Logs.Put("container.json", record)
	if cfg.InstanceType != "" {
		s.Logs.Put("node.json", []byte(cfg.InstanceType))
	}
	logs, err := s.createLogCollection(ctx)
	if err != nil {
		return err
	}
	if err := s.update(ctx, map[string]interface{}{
		"state":           arvados.ContainerStateRunning,
		"log":             logs.pdh,
		"gateway_address": "", // live logs come from the saved log collection
	}); err != nil {
		return err
	}

	// The container must reach its end even when it is told to stop.
	longer, done := graceful(ctx)
	defer done()
	within, cancel := limited(ctx, s.Container)
	defer cancel()
	t := begin(within, s, work, cfg.Broken)
	defer t.settle(longer) // of work over its limit, until the dispatcher says stop
	final, links := s.follow(within, cfg, logs, cost, t)
	s.Log.Print(final["state"]) // readers of the log wait for a line that ends so
	if err := logs.save(longer, true); err != nil {
		// As crunch-run: no result without its log.
		s.Status.Error(s.Logs.Clean("log could not be saved: " + err.Error()))
		final, links = map[string]interface{}{"state": arvados.ContainerStateCancelled}, false
	}
	final["log"] = logs.pdh
	final["cost"] = cost.until(time.Now())
	if status := s.Status.Final(); status != nil { // else that of the container's own program stays
		final["runtime_status"] = status
	}
	if err := s.update(longer, final); err != nil {
		return fmt.Errorf("final state of %s could not be saved: %w", cfg.UUID, err)
	}
	if links {
		s.writeLinks(longer, cfg.Links)
	}
	return nil
}

// follow tells how the work goes on until it ends, and returns the final update of
// the record, but for what comes after the last line of the log. links says that
// the output is an image.
func (s *Session) follow(ctx context.Context, cfg Config, logs *logCollection, cost meter, t *task) (final map[string]interface{}, links bool) {
	side, stop := context.WithCancel(context.WithoutCancel(ctx))
	var beside sync.WaitGroup
	beside.Go(func() {
		s.Status.Follow(side, func(fields map[string]string) error {
			return s.update(side, map[string]interface{}{"runtime_status": fields})
		})
	})
	beside.Go(func() { logs.follow(side, logSaveInterval, cfg.SaveLogs) })
	beside.Go(func() { s.tellCost(side, cost, cfg.TellCost) })
	outcome, err := t.wait(ctx)
	stop()
	beside.Wait()

	final = map[string]interface{}{"state": arvados.ContainerStateComplete}
	if err == nil && outcome.HasOutput && outcome.Output == "" {
		outcome.Output, err = builtin.CreateOutput(ctx, s.User, s.Container.UUID, outcome.ManifestText)
	}
	if cause := context.Cause(ctx); cause != nil {
		s.Log.Printf("stopping container: %v", cause)
		if err == errUnfinished {
			s.Log.Warn(err)
		}
		if cause == errMaxRunTime {
			s.Status.Error(cause.Error())
		}
		final["state"] = arvados.ContainerStateCancelled
		return final, false
	}
	if err != nil {
		s.Log.Errorf("cannot go on: %v", err)
		s.Status.Error(s.Logs.Clean(err.Error()))
		final["state"] = arvados.ContainerStateCancelled
		return final, false
	}
	final["exit_code"] = outcome.ExitCode
	if outcome.HasOutput {
		final["output"] = outcome.Output
	}
	if outcome.Properties != nil {
		final["output_properties"] = outcome.Properties
	}
	return final, outcome.ExitCode == 0 && outcome.Properties != nil
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "an unnamed host"
	}
	return name
}
