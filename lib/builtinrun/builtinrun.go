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
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/imagesource/engine"
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
	Site   builtin.Site
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

// stopGrace is how long the end of a container that was told to stop may be sat
// out with servers that do not answer. Dispatchers take a node whose crunch-run
// does not go for broken; without a final state, they cancel the container.
const stopGrace = 8 * time.Second

// graceful is a context that outlives ctx by stopGrace.
func graceful(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(stopGrace):
			cancel(fmt.Errorf("no answer within %v of being told to stop", stopGrace))
		case <-longer.Done():
		}
	})
	return longer, func() { stop(); cancel(nil) }
}

// Run takes the container through its life. ctx is cancelled, with a cause
// that says why, when the container is to be stopped. An error means that the
// record may not have its final state.
func Run(ctx context.Context, cfg Config, work Work) error {
	s, err := open(ctx, cfg)
	if err != nil {
		return err
	}
	s.Log.Printf("crunch-run with builtin commands (%s) on %s", runtime.Version(), hostname())
	s.Log.Printf("container %s, image %s, command %q", cfg.UUID, s.Container.ContainerImage, s.Container.Command)
	if record, err := s.record(ctx); err != nil {
		return err
	} else {
		s.Logs.Put("container.json", record)
	}
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

	meter := meter{instanceType: cfg.InstanceType, pricesFile: cfg.PricesFile, start: time.Now()}
	final, links := s.work(ctx, cfg, logs, meter, work)

	// The container must reach its end even when it was told to stop.
	ctx, done := graceful(ctx)
	defer done()
	s.Log.Print(final["state"]) // readers of the log wait for a line that ends so
	if err := logs.save(ctx, true); err != nil {
		// As crunch-run: no result without its log.
		s.Status.Error(s.Logs.Clean("log could not be saved: " + err.Error()))
		final, links = map[string]interface{}{"state": arvados.ContainerStateCancelled}, false
	}
	final["log"] = logs.pdh
	final["cost"] = meter.cost(time.Now())
	if status := s.Status.Final(); status != nil { // else that of the container's own program stays
		final["runtime_status"] = status
	}
	if err := s.update(ctx, final); err != nil {
		return fmt.Errorf("final state of %s could not be saved: %w", cfg.UUID, err)
	}
	if links {
		s.writeLinks(ctx, cfg.Site.Links)
	}
	return nil
}

// work does the work and returns the final update of the record, but for what
// comes after the last line of the log. links says that the output is an image.
func (s *Session) work(ctx context.Context, cfg Config, logs *logCollection, meter meter, work Work) (final map[string]interface{}, links bool) {
	side, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{}, 3)
	go func() {
		defer func() { done <- struct{}{} }()
		s.Status.Follow(side, func(fields map[string]string) error {
			return s.update(side, map[string]interface{}{"runtime_status": fields})
		})
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		logs.follow(side, logSaveInterval, cfg.SaveLogs)
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		s.tellCost(side, meter, cfg.TellCost)
	}()
	outcome, err := work.Do(ctx, s)
	stop()
	<-done
	<-done
	<-done

	final = map[string]interface{}{"state": arvados.ContainerStateComplete}
	if err == nil && outcome.HasOutput && outcome.Output == "" {
		outcome.Output, err = builtin.CreateOutput(ctx, s.User, s.Container.UUID, outcome.ManifestText)
	}
	if cause := context.Cause(ctx); cause != nil {
		s.Log.Printf("stopping container: %v", cause)
		final["state"] = arvados.ContainerStateCancelled
		return final, false
	}
	if err != nil {
		s.Log.Errorf("cannot go on: %v", err)
		if cfg.Broken != nil && errors.Is(err, engine.ErrUnreachable) {
			cfg.Broken(err)
		}
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
