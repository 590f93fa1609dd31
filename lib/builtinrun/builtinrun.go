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
	"maps"
	"os"
	"runtime"
	"slices"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/sirupsen/logrus"
)

// Config is what Run needs to know.
type Config struct {
	UUID         string          // of the container
	Dispatcher   *arvados.Client // with the token that locked it
	InstanceType string          // JSON text for node.json, "" outside a cloud
	Site         builtin.Site
	Stderr       io.Writer // gets what crunch-run.txt gets
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

	final, links := s.work(ctx, logs, work)

	// The container must reach its end even when it was told to stop.
	ctx = context.WithoutCancel(ctx)
	s.Log.Print(final["state"]) // readers of the log wait for a line that ends so
	if err := logs.save(ctx, true); err != nil {
		// As crunch-run: no result without its log.
		s.Status.Error(s.Logs.Clean("log could not be saved: " + err.Error()))
		final, links = map[string]interface{}{"state": arvados.ContainerStateCancelled}, false
	}
	final["log"] = logs.pdh
	final["runtime_status"] = s.Status.final()
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
func (s *Session) work(ctx context.Context, logs *logCollection, work Work) (final map[string]interface{}, links bool) {
	side, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		s.Status.follow(side, func(fields map[string]string) error {
			return s.update(side, map[string]interface{}{"runtime_status": fields})
		})
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		logs.follow(side, logSaveInterval)
	}()
	outcome, err := work.Do(ctx, s)
	stop()
	<-done
	<-done

	final = map[string]interface{}{"state": arvados.ContainerStateComplete}
	if err == nil && outcome.HasOutput && outcome.Output == "" {
		outcome.Output, err = s.createOutput(ctx, outcome.ManifestText)
	}
	if cause := context.Cause(ctx); cause != nil {
		s.Log.Printf("stopping container: %v", cause)
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

// createOutput makes the collection that the API server copies for the
// container request. It is in the trash from the start: what the request does
// not take over disappears by itself.
func (s *Session) createOutput(ctx context.Context, manifest string) (pdh string, err error) {
	var made arvados.Collection
	err = call(ctx, s.User, &made, "POST", "collections", map[string]interface{}{
		"collection": map[string]interface{}{
			"name":          "output for " + s.Container.UUID,
			"manifest_text": manifest,
			"is_trashed":    true,
		},
		"ensure_unique_name": true,
		"select":             []string{"portable_data_hash"},
	})
	if err != nil {
		return "", err
	}
	if want := arvados.PortableDataHash(manifest); made.PortableDataHash != want {
		return "", &fault.Error{Op: "create output collection", Side: fault.API, Subject: want,
			Err: fmt.Errorf("the API server says its portable data hash is %s", made.PortableDataHash)}
	}
	return made.PortableDataHash, nil
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "an unnamed host"
	}
	return name
}

// newLogger writes lines as crunch-run.txt has them: the level only where it
// is a warning or worse.
func newLogger(w io.Writer) *logrus.Logger {
	logger := logrus.New()
	logger.SetOutput(w)
	logger.SetFormatter(plainLines{})
	return logger
}

type plainLines struct{}

func (plainLines) Format(e *logrus.Entry) ([]byte, error) {
	line := e.Message
	if e.Level <= logrus.WarnLevel {
		line = e.Level.String() + ": " + line
	}
	for _, key := range slices.Sorted(maps.Keys(e.Data)) {
		line += fmt.Sprintf(" %s=%v", key, e.Data[key])
	}
	return append([]byte(line), '\n'), nil
}
