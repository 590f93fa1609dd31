// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// Reader reads a File from Keep, at any place. It holds at most two blocks in
// memory: the one last read from, and, while reading goes on from where it
// ended, the one after it. Methods but Close may be called by several
// goroutines at a time, ReadAt to good effect.
type Reader struct {
	stream *stream
	// segments has, for each block of stream, the segment it stands for.
	segments []Segment
	start    func(locator string, into []byte) *fetch
	stop     context.CancelCauseFunc

	mtx     sync.Mutex
	pos     int64  // of Read and Seek
	next    int64  // where the last read ended
	current *fetch // finished, or nil
	ahead   *fetch // under way or finished, or nil
	spare   []byte // memory of a block
}

var errClosed = errors.New("keepfile: reader is closed")

// NewReader opens f. ctx holds until Close; when it ends, so does reading.
func NewReader(ctx context.Context, kc BlockReader, f File) *Reader {
	ctx, stop := context.WithCancelCause(ctx)
	r := &Reader{stream: &stream{}, stop: stop}
	for _, s := range f.Segments {
		if s.Length > 0 {
			r.stream.add(Block{Locator: s.Locator, Size: s.Length})
			r.segments = append(r.segments, s)
		}
	}
	r.start = func(locator string, into []byte) *fetch { return startFetch(ctx, kc, locator, into) }
	return r
}

// Size is the file's length in bytes.
func (r *Reader) Size() int64 { return r.stream.size }

// Read reads on from where the last Read or Seek ended.
func (r *Reader) Read(p []byte) (int, error) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if r.pos >= r.Size() {
		return 0, io.EOF
	}
	n, err := r.readPart(p, r.pos)
	r.pos += int64(n)
	return n, err
}

// Seek sets where the next Read begins.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.Size()
	}
	if whence < io.SeekStart || whence > io.SeekEnd || offset < 0 {
		return r.pos, fmt.Errorf("keepfile: cannot seek to %d", offset)
	}
	r.pos = offset
	return offset, nil
}

// ReadAt fills p from byte off on, or returns an error that says why not.
func (r *Reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("keepfile: cannot read at %d", off)
	}
	r.mtx.Lock()
	defer r.mtx.Unlock()
	done := 0
	for done < len(p) {
		if off+int64(done) >= r.Size() {
			return done, io.EOF
		}
		n, err := r.readPart(p[done:], off+int64(done))
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// readPart reads at least one byte of p, and none beyond the end of the
// segment that byte off is in. off is within the file.
func (r *Reader) readPart(p []byte, off int64) (int, error) {
	i := r.stream.find(off)
	segment := r.segments[i]
	data, err := r.block(segment.Locator)
	if err != nil {
		return 0, err
	}
	if end := segment.Offset + segment.Length; end > int64(len(data)) {
		return 0, keepFault("read block", blockName(segment.Locator), fmt.Errorf("the file needs it up to byte %d", end))
	}
	n := copy(p, data[segment.Offset:][off-r.stream.start[i]:segment.Length])
	if off == r.next {
		r.readAhead(i)
	}
	r.next = off + int64(n)
	return n, nil
}

// block is the content of a block.
func (r *Reader) block(locator string) ([]byte, error) {
	if r.current != nil && r.current.locator == locator {
		return r.current.data, nil
	}
	if r.ahead != nil && r.ahead.locator != locator {
		r.ahead.stop()
		<-r.ahead.done
		r.spare, r.ahead = r.ahead.memory(), nil
	}
	if r.ahead == nil {
		if r.current != nil {
			r.spare, r.current = r.current.memory(), nil
		}
		r.ahead = r.start(locator, r.spare)
		r.spare = nil
	}
	<-r.ahead.done
	if r.current != nil {
		r.spare = r.current.memory()
	}
	r.current, r.ahead = r.ahead, nil
	if err := r.current.err; err != nil {
		r.current = nil
		return nil, err
	}
	return r.current.data, nil
}

// readAhead starts to fetch the block after segment i, if it is another one
// and nothing is being fetched.
func (r *Reader) readAhead(i int) {
	if r.ahead != nil || i+1 == len(r.segments) || r.segments[i+1].Locator == r.segments[i].Locator {
		return
	}
	r.ahead = r.start(r.segments[i+1].Locator, r.spare)
	r.spare = nil
}

// Close stops reading ahead and drops all memory. It returns when nothing goes
// on any more.
func (r *Reader) Close() error {
	r.stop(errClosed)
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if r.ahead != nil {
		<-r.ahead.done
	}
	r.current, r.ahead, r.spare = nil, nil, nil
	return nil
}

// fetch is a block on its way into memory. data and err are set when done is
// closed.
type fetch struct {
	locator string
	done    chan struct{}
	stop    func()
	data    []byte
	err     error
}

func startFetch(ctx context.Context, kc BlockReader, locator string, into []byte) *fetch {
	ctx, cancel := context.WithCancel(ctx)
	f := &fetch{locator: locator, done: make(chan struct{}), stop: cancel}
	go func() {
		defer close(f.done)
		defer cancel()
		_, size, err := splitLocator(locator)
		if err == nil && int64(cap(into)) < size {
			into = make([]byte, 0, size)
		}
		dst := &blockBuffer{stopped: func() error { return context.Cause(ctx) }, data: into[:0], limit: int(size)}
		if err == nil {
			_, err = kc.BlockRead(ctx, arvados.BlockReadOptions{Locator: locator, WriteTo: dst})
		}
		if err == nil && len(dst.data) < dst.limit {
			err = fmt.Errorf("only %d bytes came", len(dst.data))
		}
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if f.data = dst.data; err != nil {
			f.err = keepFault("read block", blockName(locator), err)
		}
	}()
	return f
}

// memory is the fetch's memory, to be used again.
func (f *fetch) memory() []byte { return f.data[:0] }

// blockBuffer takes the bytes of a block. It refuses them when the fetch has
// been stopped, in case the BlockReader does not watch its context.
type blockBuffer struct {
	stopped func() error
	data    []byte
	limit   int
}

func (b *blockBuffer) Write(p []byte) (int, error) {
	if err := b.stopped(); err != nil {
		return 0, err
	}
	if len(b.data)+len(p) > b.limit {
		return 0, fmt.Errorf("more than %d bytes came", b.limit)
	}
	b.data = append(b.data, p...)
	return len(p), nil
}
