// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/keepclient"
)

const (
	// patience is how long an API server may be in trouble before a request
	// is followed no more. It goes on without us.
	patience = 10 * time.Minute
	// cancelTime bounds the cancellation of a request.
	cancelTime = 30 * time.Second
)

// follower watches a container request to its end, and shows what it does.
type follower struct {
	*session
	request   arvados.ContainerRequest
	container arvados.Container
	joined    bool // another program has made the request
	quiet     bool

	keepClient *keepclient.KeepClient // nil until there is a log to read
	log        string                 // portable data hash of the log as shown
	shown      map[string]int64       // bytes of the log's files
	state      arvados.ContainerState // as told
}

// run returns the request when it is final and has succeeded. When ctx ends, it
// cancels the request, unless another program waits for it. If that one has
// given the request up, the error is errGivenUp.
func (f *follower) run(ctx context.Context) (*follower, error) {
	f.tell("container request %s", f.request.UUID)
	interval := f.Poll
	if interval == 0 {
		interval = time.Second
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	defer f.done()
	trouble := false
	for healthy := time.Now(); ; {
		err := f.look(ctx)
		switch {
		case ctx.Err() != nil:
			f.cancel(ctx)
			return nil, context.Cause(ctx)
		case err == nil && f.givenUp():
			return nil, errGivenUp
		case err == nil && f.request.State == arvados.ContainerRequestStateFinal:
			return f, f.verdict()
		case err == nil:
			healthy, trouble = time.Now(), false
		case !fault.Transient(err) || time.Since(healthy) > patience:
			return nil, fmt.Errorf("container request %s goes on, but cannot be followed: %w", f.request.UUID, err)
		case !trouble:
			trouble = true
			f.say("trying again: %v", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// tell prints a line unless the user wants none.
func (f *follower) tell(format string, args ...any) {
	if !f.quiet {
		f.say(format, args...)
	}
}

// look reads the records and shows what is new.
func (f *follower) look(ctx context.Context) error {
	var cr arvados.ContainerRequest
	err := f.call(ctx, &cr, http.MethodGet, "container_requests/"+f.request.UUID, nil)
	if err != nil {
		return err
	}
	if cr.ContainerUUID != f.container.UUID { // the first, or one that tries again
		f.shown, f.log, f.state = map[string]int64{}, "", ""
	}
	f.request = cr
	if cr.ContainerUUID == "" {
		return nil
	}
	var ctr arvados.Container
	if err := f.call(ctx, &ctr, http.MethodGet, "containers/"+cr.ContainerUUID, nil); err != nil {
		return err
	}
	f.container = ctr
	ended := ctr.State == arvados.ContainerStateComplete || ctr.State == arvados.ContainerStateCancelled
	if !ended {
		f.tellState()
	}
	// The log of the request may follow that of the container at a distance,
	// but not beyond the end.
	final := cr.State == arvados.ContainerRequestStateFinal
	if (ctr.Log != f.log || final) && cr.LogUUID != "" && !f.quiet {
		if err := f.showLog(ctx); err != nil {
			return err
		}
		f.log = ctr.Log
	}
	if activity, ok := ctr.RuntimeStatus["activity"].(string); ok && !f.quiet && !ended {
		f.now(activity)
	}
	if ended {
		f.tellState()
	}
	return nil
}

func (f *follower) tellState() {
	if f.state != f.container.State {
		f.state = f.container.State
		f.tell("container %s: %s", f.container.UUID, f.state)
	}
}

// showLog prints what has come to stdout.txt and stderr.txt.
func (f *follower) showLog(ctx context.Context) error {
	var log arvados.Collection
	err := f.call(ctx, &log, http.MethodGet, "collections/"+f.request.LogUUID, nil)
	if err != nil {
		return err
	}
	if f.keepClient == nil {
		if f.keepClient, err = f.keep(ctx); err != nil {
			return err
		}
	}
	files, err := keepfile.ParseManifest(log.ManifestText)
	if err != nil {
		return err
	}
	for _, file := range files {
		if file.Path == "stdout.txt" || file.Path == "stderr.txt" {
			if err := f.showFile(ctx, file); err != nil {
				return err
			}
		}
	}
	return nil
}

// logTime starts every line of a log file.
var logTime = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z `)

func (f *follower) showFile(ctx context.Context, file keepfile.File) error {
	if file.Size() <= f.shown[file.Path] {
		return nil
	}
	r := keepfile.NewReader(ctx, f.keepClient, file)
	defer r.Close()
	if _, err := r.Seek(f.shown[file.Path], io.SeekStart); err != nil {
		return err
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasSuffix(line, "\n") && f.request.State != arvados.ContainerRequestStateFinal {
			break // the rest of it is to come
		}
		f.shown[file.Path] += int64(len(line))
		f.say("  %s", logTime.ReplaceAllString(strings.TrimSuffix(line, "\n"), ""))
	}
	return nil
}

// cancel gives the request up, although ctx is over.
func (f *follower) cancel(ctx context.Context) {
	if f.joined {
		f.say("container request %s goes on: another program waits for it", f.request.UUID)
		return
	}
	if err := f.withdraw(ctx, f.request.UUID); err != nil {
		f.say("container request %s could not be cancelled, and goes on: %v", f.request.UUID, err)
		return
	}
	f.say("container request %s is cancelled", f.request.UUID)
}

// givenUp reports whether another program has made the request and wants it no
// more. A request that has succeeded before that is as good as any.
func (f *follower) givenUp() bool {
	return f.joined && f.request.Priority == 0 && f.verdict() != nil
}

// verdict is nil if the container has done what it was for.
func (f *follower) verdict() error {
	if f.container.State == arvados.ContainerStateComplete && f.container.ExitCode == 0 && f.request.OutputUUID != "" {
		return nil
	}
	reason, ok := f.container.RuntimeStatus["error"].(string)
	switch {
	case ok:
	case f.container.State == arvados.ContainerStateCancelled:
		reason = "it was cancelled"
	default:
		reason = fmt.Sprintf("it ended with exit code %d", f.container.ExitCode)
	}
	if f.request.LogUUID != "" {
		reason += " (its log is collection " + f.request.LogUUID + ")"
	}
	return fmt.Errorf("container request %s: %s", f.request.UUID, reason)
}
