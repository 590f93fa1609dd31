// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// blockBuffers is how many Keep blocks are in memory at a time: one that is
// read from, and two on their way or kept for later.
const blockBuffers = 3

// blocks reads the contents of many files of Keep, one after the other. Which
// segments will be asked for is known from the beginning. So blocks are fetched
// before they are needed, and a block that many files are in is fetched once,
// even if the files lie in it in another order or among files of other blocks.
type blocks struct {
	loads   []*load
	uses    []int // for each segment, the index in loads of what has its block
	start   func(*load)
	stop    func()
	active  sync.WaitGroup
	buffers [blockBuffers][]byte
	read    int // segments
	started int // loads
}

// load is a block on its way into a buffer. data and err are set when done is
// closed.
type load struct {
	keep    keepfile.BlockReader
	locator string
	buffer  int
	after   int // segments that must have been read before the buffer is free
	done    chan struct{}
	data    []byte
	err     error
}

// newBlocks prepares to read all files that are in Keep, in this order.
func newBlocks(ctx context.Context, entries []Entry) *blocks {
	ctx, cancel := context.WithCancel(ctx)
	b := &blocks{}
	b.loads, b.uses = planLoads(entries)
	b.start = func(l *load) {
		b.active.Add(1)
		go func() {
			defer b.active.Done()
			defer close(l.done)
			l.data, l.err = fetch(ctx, l.keep, l.locator, b.buffers[l.buffer])
			b.buffers[l.buffer] = l.data
		}()
	}
	b.stop = func() {
		cancel()
		b.active.Wait()
	}
	return b
}

// planLoads decides which block goes into which buffer. A block takes the place
// of the one that is needed again last, or of the one read longest ago among
// those not needed again; no plan has fewer loads.
func planLoads(entries []Entry) (loads []*load, uses []int) {
	names := []string{}
	for part := range parts(entries) {
		names = append(names, blockName(part.Locator))
	}
	const never = math.MaxInt
	again := make([]int, len(names)) // when the block of each segment is read next
	last := map[string]int{}
	for i := len(names) - 1; i >= 0; i-- {
		again[i] = never
		if next, ok := last[names[i]]; ok {
			again[i] = next
		}
		last[names[i]] = i
	}
	var buffers [blockBuffers]struct {
		name        string
		load        int
		read, again int // segments: the last one read from it, the next one
	}
	for i := range buffers {
		buffers[i].read, buffers[i].again = -1, never
	}
	i := 0
	for part, keep := range parts(entries) {
		best := 0
		for j, buffer := range buffers {
			if buffer.name == names[i] {
				best = j
				break
			}
			if buffer.again > buffers[best].again || buffer.again == buffers[best].again && buffer.read < buffers[best].read {
				best = j
			}
		}
		buffer := &buffers[best]
		if buffer.name != names[i] {
			buffer.name, buffer.load = names[i], len(loads)
			loads = append(loads, &load{keep: keep, locator: part.Locator, buffer: best, after: buffer.read + 1, done: make(chan struct{})})
		}
		buffer.read, buffer.again = i, again[i]
		uses = append(uses, buffer.load)
		i++
	}
	return loads, uses
}

// parts yields the segments of all files, and where they are.
func parts(entries []Entry) func(func(keepfile.Segment, keepfile.BlockReader) bool) {
	return func(yield func(keepfile.Segment, keepfile.BlockReader) bool) {
		for _, e := range entries {
			if e.stored == nil {
				continue
			}
			for _, segment := range e.stored.segments {
				if segment.Length > 0 && !yield(segment, e.stored.keep) {
					return
				}
			}
		}
	}
}

// copy writes the content of the next file to w.
func (b *blocks) copy(w io.Writer, file *stored) error {
	for _, segment := range file.segments {
		if segment.Length == 0 {
			continue
		}
		for b.started < len(b.loads) && b.loads[b.started].after <= b.read {
			b.start(b.loads[b.started])
			b.started++
		}
		block := b.loads[b.uses[b.read]]
		<-block.done
		if block.err != nil {
			return block.err
		}
		if segment.Offset+segment.Length > int64(len(block.data)) {
			return keepFault(segment.Locator, fmt.Errorf("a file needs it up to byte %d", segment.Offset+segment.Length))
		}
		if _, err := w.Write(block.data[segment.Offset:][:segment.Length]); err != nil {
			return err
		}
		b.read++
	}
	return nil
}

// fetch reads a block into memory, that of into if it suffices.
func fetch(ctx context.Context, keep keepfile.BlockReader, locator string, into []byte) ([]byte, error) {
	_, digits, _ := strings.Cut(blockName(locator), "+")
	size, err := strconv.Atoi(digits)
	if err != nil || size < 0 || size > keepfile.BlockSize {
		return into, keepFault(locator, errors.New("bad locator"))
	}
	if cap(into) < size {
		into = make([]byte, 0, size)
	}
	dst := &blockBuffer{ended: func() error { return context.Cause(ctx) }, data: into[:0], limit: size}
	_, err = keep.BlockRead(ctx, arvados.BlockReadOptions{Locator: locator, WriteTo: dst})
	if err == nil && len(dst.data) < size {
		err = fmt.Errorf("only %d bytes came", len(dst.data))
	}
	if ended := context.Cause(ctx); err != nil && ended != nil {
		err = ended
	}
	if err != nil {
		return dst.data, keepFault(locator, err)
	}
	return dst.data, nil
}

// blockBuffer takes the bytes of a block, and refuses them when nobody wants
// them any more, in case the BlockReader does not watch its context.
type blockBuffer struct {
	ended func() error
	data  []byte
	limit int
}

func (b *blockBuffer) Write(p []byte) (int, error) {
	if err := b.ended(); err != nil {
		return 0, err
	}
	if len(b.data)+len(p) > b.limit {
		return 0, fmt.Errorf("more than %d bytes came", b.limit)
	}
	b.data = append(b.data, p...)
	return len(p), nil
}

// blockName is a locator without its hints: a signature is a secret.
func blockName(locator string) string {
	hash, rest, _ := strings.Cut(locator, "+")
	size, _, _ := strings.Cut(rest, "+")
	return hash + "+" + size
}

// keepFault makes err an error of Keep. Keep's trouble is taken to pass unless
// the error's status says otherwise.
func keepFault(locator string, err error) error {
	e := &fault.Error{Op: "read block", Side: fault.Keep, Subject: blockName(locator), Err: err, Transient: true}
	var withTemporary interface{ Temporary() bool }
	var withStatus interface{ HTTPStatus() int }
	if errors.As(err, &withTemporary) {
		e.Transient = withTemporary.Temporary()
	} else if errors.As(err, &withStatus) {
		e.Transient = passes(withStatus.HTTPStatus())
	}
	return e
}

// passes reports whether the same request may be answered otherwise later.
func passes(status int) bool {
	return status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status < 400 || status >= 500
}
