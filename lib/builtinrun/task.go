// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun

import (
	"context"
	"errors"
	"fmt"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagesource/engine"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// A container that was told to stop is gone this long after, whoever does not
// answer. Dispatchers take a node whose crunch-run does not go for broken; without
// a final state, they cancel the container.
const stopGrace = 8 * time.Second

// workGrace is how much of that the work may take. What it still has to clean up
// may go on beside what has to be told the API server.
const workGrace = 5 * time.Second

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

// errMaxRunTime ends a container as crunch-run does at its time limit:
// Cancelled.
var errMaxRunTime = &fault.Error{Op: "run", Side: fault.Request, Subject: "scheduling_parameters.max_run_time",
	Err: errors.New("maximum run time exceeded"), Hint: "raise it, or leave it out", Transient: true}

// limited is ctx with the container's time limit, if it has one, for the work.
func limited(ctx context.Context, ctr arvados.Container) (context.Context, context.CancelFunc) {
	limit := time.Duration(ctr.SchedulingParameters.MaxRunTime) * time.Second
	if limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, limit, errMaxRunTime)
}

// task is a Work that is under way.
type task struct {
	ended   chan struct{} // closed when there is an outcome or err
	outcome Outcome
	err     error
}

// begin starts the work. broken, if not nil, is called when it finds that the
// node's engine is gone.
func begin(ctx context.Context, s *Session, work Work, broken func(error)) *task {
	t := &task{ended: make(chan struct{})}
	go func() {
		defer close(t.ended)
		t.outcome, t.err = work.Do(ctx, s)
		if broken != nil && ctx.Err() == nil && errors.Is(t.err, engine.ErrUnreachable) {
			broken(t.err)
		}
	}()
	return t
}

// errUnfinished is that of a work which an engine does not let go.
var errUnfinished = fmt.Errorf("the work is not done %v later; what it has made on the node's Docker Engine may stay there", workGrace)

// wait is how the work has ended. It is errUnfinished when ctx is over and the
// work goes on nevertheless.
func (t *task) wait(ctx context.Context) (Outcome, error) {
	select {
	case <-t.ended:
	case <-ctx.Done():
		select {
		case <-t.ended:
		case <-time.After(workGrace):
			return Outcome{}, errUnfinished
		}
	}
	return t.outcome, t.err
}

// settle waits for unfinished work until ctx ends as well.
func (t *task) settle(ctx context.Context) {
	select {
	case <-t.ended:
	case <-ctx.Done():
	}
}
