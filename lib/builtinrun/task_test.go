// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun

import (
	"context"
	"errors"
	"fmt"

	"git.arvados.org/arvados.git/lib/imagesource/engine"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&taskSuite{})

type taskSuite struct{}

type workFunc func(ctx context.Context) (Outcome, error)

func (f workFunc) Do(ctx context.Context, _ *Session) (Outcome, error) { return f(ctx) }

// Work that ends is waited for, also when it was told to stop.
func (*taskSuite) TestEnds(c *check.C) {
	trouble := errors.New("trouble")
	t := begin(context.Background(), nil, workFunc(func(context.Context) (Outcome, error) { return Outcome{ExitCode: 7}, trouble }), nil)
	outcome, err := t.wait(context.Background())
	c.Check(outcome, check.DeepEquals, Outcome{ExitCode: 7})
	c.Check(err, check.Equals, trouble)
	t.settle(context.Background())

	ctx, stop := context.WithCancel(context.Background())
	t = begin(ctx, nil, workFunc(func(ctx context.Context) (Outcome, error) { <-ctx.Done(); return Outcome{}, ctx.Err() }), nil)
	stop()
	_, err = t.wait(ctx)
	c.Check(err, check.Equals, context.Canceled)
}

// Work that heeds nothing is given up, but may go on as long as there is time.
func (*taskSuite) TestDoesNotEnd(c *check.C) {
	release := make(chan struct{})
	ctx, stop := context.WithCancel(context.Background())
	stop()
	t := begin(ctx, nil, workFunc(func(context.Context) (Outcome, error) { <-release; return Outcome{}, nil }), nil)
	_, err := t.wait(ctx)
	c.Check(err, check.Equals, errUnfinished)
	t.settle(ctx) // does not wait
	close(release)
	t.settle(context.Background())
	_, err = t.wait(ctx)
	c.Check(err, check.IsNil)
}

// The time limit of the container ends its work, and says so; a signal says that.
func (*taskSuite) TestTimeLimit(c *check.C) {
	var ctr arvados.Container
	signal := errors.New("caught signal: terminated")
	for seconds, cause := range map[int]error{0: signal, 1: errMaxRunTime, 86400: signal} {
		ctr.SchedulingParameters.MaxRunTime = seconds
		outer, stop := context.WithCancelCause(context.Background())
		ctx, cancel := limited(outer, ctr)
		_, has := ctx.Deadline()
		c.Check(has, check.Equals, seconds > 0)
		if cause == signal {
			stop(signal)
		}
		<-ctx.Done()
		c.Check(context.Cause(ctx), check.Equals, cause)
		cancel()
		stop(nil)
	}
}

// The node is called broken if its engine is gone, unless the container was told
// to stop: then the engine may have been told the same.
func (*taskSuite) TestBroken(c *check.C) {
	gone := fmt.Errorf("pull: %w", engine.ErrUnreachable)
	stopped, stop := context.WithCancel(context.Background())
	stop()
	for _, trial := range []struct {
		ctx  context.Context
		err  error
		told int
	}{
		{context.Background(), gone, 1},
		{context.Background(), errors.New("other trouble"), 0},
		{context.Background(), nil, 0},
		{stopped, gone, 0},
	} {
		var told []error
		work := workFunc(func(context.Context) (Outcome, error) { return Outcome{}, trial.err })
		t := begin(trial.ctx, nil, work, func(err error) { told = append(told, err) })
		_, err := t.wait(context.Background())
		c.Check(err, check.Equals, trial.err)
		c.Check(told, check.HasLen, trial.told)
		_, _ = begin(trial.ctx, nil, work, nil).wait(context.Background()) // nobody wants to know
	}
}
