// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun_test

import (
	"context"
	"crypto/rand"
	"math/big"
	"os"
	"os/exec"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

// running is a container that is run while its test does something to it. A test
// waits for nothing any more when the container has ended, or when neither that nor
// what it waits for comes in a long time.
type running struct {
	cr     arvados.ContainerRequest
	done   chan struct{} // closed when Run has returned and its ending has been read
	ending ending
}

const longTime = 5 * time.Minute

// begin is run in the background.
func (s *stage) begin(ctx context.Context, c *check.C, cr arvados.ContainerRequest, site builtin.Site) *running {
	r := &running{cr: cr, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.ending = s.run(ctx, c, cr, site)
	}()
	return r
}

// end waits for the ending.
func (r *running) end(c *check.C) ending {
	select {
	case <-r.done:
	case <-time.After(longTime):
		c.Fatalf("it does not end")
	}
	return r.ending
}

// until waits for what happens to the container, and returns when it was seen.
func (r *running) until(c *check.C, what string, happened func() bool) time.Time {
	for late := time.Now().Add(longTime); !happened(); {
		select {
		case <-time.After(20 * time.Millisecond):
			c.Assert(time.Now().Before(late), check.Equals, true, check.Commentf("does not happen: %s", what))
		case <-r.done:
			c.Assert(happened(), check.Equals, true, check.Commentf("never happened: %s\n%s", what, r.ending.why()))
		}
	}
	return time.Now()
}

// untilClosed is until for something that closes a channel.
func (r *running) untilClosed(c *check.C, what string, happened <-chan struct{}) time.Time {
	return r.until(c, what, func() bool {
		select {
		case <-happened:
			return true
		default:
			return false
		}
	})
}

// tell sends a signal, which is heeded only while the container is Running.
func (r *running) tell(c *check.C, to chan<- os.Signal, sig os.Signal) {
	r.until(c, sig.String()+" was heeded", func() bool {
		select {
		case to <- sig:
			return true
		case <-time.After(20 * time.Millisecond):
			return false
		}
	})
}

// sleep is a step that does not end by itself, and is found among the processes of
// the node.
type sleep string

// newSleep is a step that no other test has, nor another run of this one.
func newSleep(c *check.C) sleep {
	n, err := rand.Int(rand.Reader, big.NewInt(900_000_000))
	c.Assert(err, check.IsNil)
	return sleep("busybox sleep " + n.Add(n, big.NewInt(100_000_000)).String()) // three years at least
}

// runs reports whether the step is under way.
func (step sleep) runs() bool { return exec.Command("pgrep", "-f", "^"+string(step)+"$").Run() == nil }
