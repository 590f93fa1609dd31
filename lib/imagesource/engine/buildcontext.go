// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"git.arvados.org/arvados.git/lib/fault"
)

// contextStream is the build context on its way. It remembers why reading
// failed, and is closed once, whoever closes it first.
type contextStream struct {
	open   func() io.ReadCloser
	reader io.Reader // of stream, from its first byte on

	mutex  sync.Mutex // for what follows; Read is for one goroutine
	stream io.ReadCloser
	closed bool
	err    error
}

func (s *contextStream) start(ctx context.Context, open func(context.Context) io.ReadCloser) {
	s.open = func() io.ReadCloser { return open(ctx) }
}

func (s *contextStream) Read(p []byte) (n int, err error) {
	s.mutex.Lock()
	if s.stream == nil && !s.closed {
		s.stream = s.open() // not before the builder asks for it
	}
	stream, closed := s.stream, s.closed
	s.mutex.Unlock()
	if closed {
		return 0, os.ErrClosed
	}
	if s.reader == nil {
		s.reader, err = recognizable(stream)
	}
	if err == nil {
		n, err = s.reader.Read(p)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.fail(err)
	}
	return n, err
}

func (s *contextStream) fail(err error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.err != nil || s.closed {
		return
	}
	s.err = err
	if fault.SideOf(err) == "" {
		s.err = &fault.Error{Op: "read the build context", Err: err}
	}
}

func (s *contextStream) Close() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.stream == nil {
		return nil
	}
	return s.stream.Close()
}

func (s *contextStream) failure() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.err
}

// tarHead is a tar header, by which builders recognize a tar.
const tarHead = 512

// recognizable is the same context in a form that builders take for an archive.
// They take the zeros that an empty tar consists of for a Dockerfile, unless
// they are compressed.
func recognizable(stream io.Reader) (io.Reader, error) {
	head := make([]byte, tarHead)
	n, err := io.ReadFull(stream, head)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return bytes.NewReader(head[:n]), nil
	case err != nil:
		return nil, err
	case !bytes.Equal(head, make([]byte, tarHead)):
		return io.MultiReader(bytes.NewReader(head), stream), nil
	}
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	zw := gzip.NewWriter(&packed)
	if err := tar.NewWriter(zw).Close(); err != nil {
		return nil, err
	}
	return &packed, zw.Close()
}
