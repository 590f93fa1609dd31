// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepfile

import (
	"context"
	"slices"
	"sync"
)

// firstSize is what a buffer starts with, so that a few kilobytes do not cost
// a whole block's memory.
const firstSize = 1 << 20

// pool lends the buffers of a Writer, at most limit at a time.
//
// Who holds a buffer and waits for another one can deadlock with its like.
// Only a run with a deferred head does that, holding its first block; such a
// run starts with two buffers taken at once, so that there is always one run
// at least whose second buffer comes back when it has been stored, and those
// that hold a first block are served before those that hold nothing.
type pool struct {
	mtx      sync.Mutex
	limit    int
	lent     int
	spare    [][]byte // of BlockSize, to be used again
	resuming []*claim // of runs that hold a first block
	starting []*claim // of the others; first come, first served
}

// claim waits for n buffers.
type claim struct {
	n       int
	queue   *[]*claim
	granted chan struct{} // closed when they are there
}

// acquire waits until n buffers may be used. If ctx ends first, the error is
// its cause.
func (p *pool) acquire(ctx context.Context, n int, resuming bool) error {
	return p.wait(ctx, p.enqueue(n, resuming))
}

func (p *pool) enqueue(n int, resuming bool) *claim {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	c := &claim{n: n, queue: &p.starting, granted: make(chan struct{})}
	if resuming {
		c.queue = &p.resuming
	}
	*c.queue = append(*c.queue, c)
	p.grant()
	return c
}

func (p *pool) wait(ctx context.Context, c *claim) error {
	select {
	case <-c.granted:
		return nil
	case <-ctx.Done():
	}
	p.mtx.Lock()
	defer p.mtx.Unlock()
	if i := slices.Index(*c.queue, c); i >= 0 {
		*c.queue = slices.Delete(*c.queue, i, i+1)
	} else {
		p.lent -= c.n // granted meanwhile
	}
	p.grant()
	return context.Cause(ctx)
}

// release returns n buffers; used is the memory of one that was in use, or
// nil.
func (p *pool) release(n int, used []byte) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	p.lent -= n
	if len(used) == BlockSize {
		p.spare = append(p.spare, used)
	}
	p.grant()
}

func (p *pool) grant() {
	for _, queue := range []*[]*claim{&p.resuming, &p.starting} {
		for len(*queue) > 0 && p.lent+(*queue)[0].n <= p.limit {
			p.lent += (*queue)[0].n
			close((*queue)[0].granted)
			*queue = (*queue)[1:]
		}
	}
}

// atLeast raises the limit to n.
func (p *pool) atLeast(n int) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	p.limit = max(p.limit, n)
	p.grant()
}

// memory is the memory of a buffer that has been acquired: a used one of
// BlockSize, else a new one of the given size.
func (p *pool) memory(size int) []byte {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	if last := len(p.spare) - 1; last >= 0 {
		buf := p.spare[last]
		p.spare = p.spare[:last]
		return buf
	}
	return make([]byte, size)
}
