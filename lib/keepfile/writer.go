// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepfile

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// Writer stores the blocks of any number of Runs. All memory for blocks is
// its; the first failed block ends all its Runs. All methods may be called by
// several goroutines at a time.
type Writer struct {
	keep    BlockWriter
	opts    arvados.BlockWriteOptions
	pool    pool
	written atomic.Int64

	mtx     sync.Mutex
	runs    map[*Run]context.CancelCauseFunc
	failure error
	failed  chan struct{}
}

// NewWriter makes a Writer that has at most blocks buffers of BlockSize in
// memory at a time (at least one; two once a Run with a reserve is started).
// They are allocated when needed and used again. opts is a template for every
// block; only StorageClasses, Replicas, RequestID and Attempts are used.
func NewWriter(kc BlockWriter, blocks int, opts arvados.BlockWriteOptions) *Writer {
	opts.Hash, opts.Data, opts.Reader, opts.DataSize = "", nil, nil, 0
	return &Writer{
		keep:   kc,
		opts:   opts,
		pool:   pool{limit: max(blocks, 1)},
		runs:   map[*Run]context.CancelCauseFunc{},
		failed: make(chan struct{}),
	}
}

// Failed is closed when a block could not be stored, after which every method
// of every Run fails. Who feeds a Run from something that may block should
// stop that then.
func (w *Writer) Failed() <-chan struct{} { return w.failed }

// Err is the error of the first block that could not be stored, or nil.
func (w *Writer) Err() error {
	w.mtx.Lock()
	defer w.mtx.Unlock()
	return w.failure
}

// Written is the number of bytes stored so far.
func (w *Writer) Written() int64 { return w.written.Load() }

// Run starts a sequence of bytes on a block boundary. Several Runs may be
// written at the same time, each by one goroutine, which must not keep a Run
// open while it waits for another Run of the same Writer. ctx holds for the
// whole Run. Every Run must be ended by Close or Abort.
//
// With a reserve, Close fills in the first reserve bytes, which are not known
// before the rest. The first block waits in memory until then, so the start
// takes two buffers at once and waits for them.
func (w *Writer) Run(ctx context.Context, reserve int) (*Run, error) {
	if reserve < 0 || reserve >= BlockSize {
		return nil, fmt.Errorf("keepfile: reserve of %d bytes does not fit a block", reserve)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	r := &Run{
		writer:  w,
		reserve: reserve,
		filled:  reserve,
		broken:  func() error { return context.Cause(ctx) },
		claim: func(n int, resuming bool) error {
			return w.pool.acquire(ctx, n, resuming)
		},
		store: func(data []byte) (string, error) {
			opts := w.opts
			opts.Data = data
			return w.store(ctx, opts)
		},
	}
	w.mtx.Lock()
	err := w.failure
	w.runs[r] = cancel
	w.mtx.Unlock()
	if err == nil {
		err = r.broken()
	}
	if err == nil && reserve > 0 {
		w.pool.atLeast(2)
		if err = r.claim(2, false); err == nil {
			r.unused = 2
		}
	}
	if err != nil {
		w.end(r, err)
		return nil, keepFault("write to Keep", "", err)
	}
	return r, nil
}

// store stores a block and checks that the answer is about that block.
func (w *Writer) store(ctx context.Context, opts arvados.BlockWriteOptions) (string, error) {
	resp, err := w.keep.BlockWrite(ctx, opts)
	if err != nil && ctx.Err() != nil {
		return "", context.Cause(ctx) // the Run was ended: no failure of Keep
	}
	if err == nil {
		var size int64
		if _, size, err = splitLocator(resp.Locator); err == nil && size != int64(len(opts.Data)) {
			err = fmt.Errorf("%d bytes were sent but Keep confirmed %d", len(opts.Data), size)
		}
	}
	if err != nil {
		err = keepFault("write block", fmt.Sprintf("of %d bytes", len(opts.Data)), err)
		w.fail(err)
		return "", err
	}
	w.written.Add(int64(len(opts.Data)))
	return resp.Locator, nil
}

// fail ends all Runs, because of err if it is the first failure.
func (w *Writer) fail(err error) {
	w.mtx.Lock()
	defer w.mtx.Unlock()
	if w.failure != nil {
		return
	}
	w.failure = err
	close(w.failed)
	for _, cancel := range w.runs {
		cancel(err)
	}
}

// end makes every pending and later operation of r fail with err.
func (w *Writer) end(r *Run, err error) {
	w.mtx.Lock()
	defer w.mtx.Unlock()
	if cancel := w.runs[r]; cancel != nil {
		cancel(err)
		delete(w.runs, r)
	}
}
