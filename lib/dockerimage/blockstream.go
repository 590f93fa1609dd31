// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"context"
	"errors"
	"io"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// skimmer reads a file in Keep from its beginning to its end, with what is
// skipped left out. Blocks of which nothing is read cost nothing, others are
// read from their first byte to the last one that is wanted, which is the least
// that Keep can do. The blocks' MD5s are not checked: whoever skims a file
// checks in another way what it finds.
type skimmer struct {
	start    func(segment keepfile.Segment) *blockStream
	segments []keepfile.Segment // from the current one on
	at       int64              // where the next read begins, within the current segment
	current  *blockStream       // of the current segment, or nil
}

func newSkimmer(ctx context.Context, keep keepfile.BlockReader, file keepfile.File) *skimmer {
	return &skimmer{
		start:    func(s keepfile.Segment) *blockStream { return startStream(ctx, keep, s) },
		segments: file.Segments,
	}
}

// skip leaves out n bytes, or as many as there are.
func (s *skimmer) skip(n int64) {
	s.at += n
	for len(s.segments) > 0 && s.at >= s.segments[0].Length {
		s.at -= s.segments[0].Length
		s.close()
		s.segments = s.segments[1:]
	}
}

// Read reads on, up to the end of a segment at most.
func (s *skimmer) Read(p []byte) (int, error) {
	if s.skip(0); len(s.segments) == 0 {
		return 0, io.EOF
	}
	segment := s.segments[0]
	if s.current == nil {
		s.current = s.start(segment)
	}
	n, err := s.current.readAt(p[:min(int64(len(p)), segment.Length-s.at)], segment.Offset+s.at)
	s.at += int64(n)
	return n, err
}

// close ends the reading of the current block and waits until it has ended.
func (s *skimmer) close() {
	if s.current != nil {
		s.current.close()
		s.current = nil
	}
}

// blockStream is a block on its way, as far as it is read.
type blockStream struct {
	name string // hash+size, for messages: a signature is as good as its token
	pipe *io.PipeReader
	done chan struct{}
	at   int64
}

func startStream(ctx context.Context, keep keepfile.BlockReader, segment keepfile.Segment) *blockStream {
	r, w := io.Pipe()
	parts := strings.SplitN(segment.Locator, "+", 3)
	b := &blockStream{name: strings.Join(parts[:min(2, len(parts))], "+"), pipe: r, done: make(chan struct{})}
	go func() {
		defer close(b.done)
		_, err := keep.BlockRead(ctx, arvados.BlockReadOptions{Locator: segment.Locator, WriteTo: w})
		if err == nil {
			err = errors.New("the block is shorter than its locator says")
		}
		w.CloseWithError(err)
	}()
	return b
}

// readAt reads at off, which is not before where the last read ended.
func (b *blockStream) readAt(p []byte, off int64) (int, error) {
	n, err := io.CopyN(io.Discard, b.pipe, off-b.at)
	b.at += n
	if err == nil {
		var got int
		got, err = b.pipe.Read(p)
		b.at += int64(got)
		if got > 0 {
			return got, nil
		}
	}
	if err != nil {
		err = keepFault(b.name, err)
	}
	return 0, err
}

func (b *blockStream) close() {
	b.pipe.CloseWithError(errEnough)
	<-b.done
}

// keepFault makes err an error of Keep, which passes unless it says otherwise.
func keepFault(block string, err error) error {
	e := &fault.Error{Op: "read block", Side: fault.Keep, Subject: block, Err: err, Transient: true}
	var withTemporary interface{ Temporary() bool }
	var withStatus interface{ HTTPStatus() int }
	if errors.As(err, &withTemporary) {
		e.Transient = withTemporary.Temporary()
	} else if errors.As(err, &withStatus) {
		e.Transient = mayPass(withStatus.HTTPStatus())
	}
	return e
}
