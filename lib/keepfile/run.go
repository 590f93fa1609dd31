// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepfile

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// readSize is how much ReadFrom asks for at a time: small enough that a reader
// that hashes what it passes on finds it still in the processor's cache.
const readSize = 256 << 10

var (
	errEnded = errors.New("keepfile: run has been ended")
	errStuck = errors.New("keepfile: reader gives neither data nor an error")
)

// Run is a sequence of bytes in blocks of its own: full ones, and at the end
// whatever is left. Blocks are stored in the background while more is written.
// A Run is used by one goroutine.
type Run struct {
	writer  *Writer
	reserve int

	// These are the Run's context, which an io.Writer has no other way to
	// be given.
	broken func() error
	claim  func(n int, resuming bool) error
	store  func(data []byte) (locator string, err error)

	first  []byte // block that waits for its head, if reserve > 0
	buf    []byte // block being filled, nil if none
	filled int    // bytes of buf, or of the buffer to come
	unused int    // buffers claimed but not in use
	ended  bool

	uploads sync.WaitGroup
	mtx     sync.Mutex // for what uploads change: elements of blocks, err
	blocks  []Block
	err     error
}

// Write appends p. It waits while all buffers of the Writer are in use.
func (r *Run) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		space, err := r.space()
		if err != nil {
			return done, err
		}
		n := copy(space, p[done:])
		r.filled += n
		done += n
	}
	return done, nil
}

// ReadFrom appends all of src, which it reads straight into the block.
func (r *Run) ReadFrom(src io.Reader) (int64, error) {
	var done int64
	for idle := 0; idle < 100; {
		space, err := r.space()
		if err != nil {
			return done, err
		}
		n, err := src.Read(space[:min(len(space), readSize)])
		r.filled += n
		done += int64(n)
		if err == io.EOF {
			return done, nil
		} else if err != nil {
			return done, err
		}
		if idle++; n > 0 {
			idle = 0
		}
	}
	return done, errStuck
}

// space is the free part of the current block, at least one byte.
func (r *Run) space() ([]byte, error) {
	if r.ended {
		return nil, errEnded
	}
	if err := r.broken(); err != nil {
		return nil, keepFault("write to Keep", "", err)
	}
	if r.filled == BlockSize {
		r.finishBlock()
	}
	pool := &r.writer.pool
	switch {
	case r.buf == nil:
		if r.unused == 0 {
			if err := r.claim(1, r.first != nil); err != nil {
				return nil, keepFault("write to Keep", "", err)
			}
			r.unused++
		}
		r.unused--
		// A whole block may well follow upon another one.
		size := firstSize
		if len(r.blocks) > 0 || r.filled >= firstSize {
			size = BlockSize
		}
		r.buf = pool.memory(size)
	case r.filled == len(r.buf):
		grown := pool.memory(BlockSize)
		copy(grown, r.buf)
		r.buf = grown
	}
	return r.buf[r.filled:], nil
}

// finishBlock ends the current block.
func (r *Run) finishBlock() {
	r.mtx.Lock()
	index := len(r.blocks)
	r.blocks = append(r.blocks, Block{Size: int64(r.filled)})
	r.mtx.Unlock()
	buf := r.buf
	r.buf, r.filled = nil, 0
	if index == 0 && r.reserve > 0 {
		r.first = buf
		return
	}
	r.upload(index, buf)
}

// upload stores buf as block number index in the background.
func (r *Run) upload(index int, buf []byte) {
	r.mtx.Lock()
	size := r.blocks[index].Size
	r.mtx.Unlock()
	r.uploads.Add(1)
	go func() {
		defer r.uploads.Done()
		locator, err := r.store(buf[:size])
		r.writer.pool.release(1, buf)
		r.mtx.Lock()
		defer r.mtx.Unlock()
		r.blocks[index].Locator = locator
		if r.err == nil {
			r.err = err
		}
	}()
}

// Close fills in the reserve, which must be as long as head, stores the rest,
// and waits until all blocks are in Keep. A Run of no bytes has no blocks.
func (r *Run) Close(head []byte) ([]Block, error) {
	if r.ended {
		return nil, errEnded
	}
	defer r.Abort()
	if len(head) != r.reserve {
		return nil, fmt.Errorf("keepfile: head of %d bytes for a reserve of %d", len(head), r.reserve)
	}
	if r.reserve > 0 {
		if r.buf == nil && r.first == nil {
			if _, err := r.space(); err != nil {
				return nil, err
			}
		}
		if r.first == nil {
			r.finishBlock()
		}
		copy(r.first, head)
		r.upload(0, r.first)
		r.first = nil
	}
	if r.filled > 0 {
		r.finishBlock()
	}
	r.giveBack()
	r.uploads.Wait()
	if r.err != nil {
		return nil, keepFault("write to Keep", "", r.err)
	}
	return r.blocks, nil
}

// Abort ends the Run, if it has not been, and gives its buffers back. Blocks
// already stored stay in Keep, which removes them in time since no collection
// has them. It returns when nothing of the Run goes on.
func (r *Run) Abort() {
	if r.ended {
		return
	}
	r.ended = true
	r.writer.end(r, errEnded)
	r.giveBack()
	r.uploads.Wait()
}

// giveBack returns the buffers that are not being stored.
func (r *Run) giveBack() {
	for _, buf := range [][]byte{r.first, r.buf} {
		if buf != nil {
			r.writer.pool.release(1, buf)
		}
	}
	r.writer.pool.release(r.unused, nil)
	r.first, r.buf, r.unused = nil, nil, 0
}
