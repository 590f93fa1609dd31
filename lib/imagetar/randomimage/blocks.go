// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package randomimage

import (
	"bytes"
	"io"
)

// blocks cuts a tar into blocks with a header each.
type blocks struct {
	tar      io.Reader
	left     int64  // bytes of tar not yet read
	buf      []byte // of the size of the largest block
	head     func(head []byte, n int, last bool)
	headSize int
	ready    []byte // rest of the current block
}

func (b *blocks) Read(p []byte) (int, error) {
	if len(b.ready) == 0 {
		if b.left == 0 {
			return 0, io.EOF
		}
		n := int(min(b.left, int64(len(b.buf)-b.headSize)))
		b.ready = b.buf[:b.headSize+n]
		if _, err := io.ReadFull(b.tar, b.ready[b.headSize:]); err != nil {
			return 0, err
		}
		b.left -= int64(n)
		b.head(b.ready, n, b.left == 0)
	}
	n := copy(p, b.ready)
	b.ready = b.ready[n:]
	return n, nil
}

// lazy makes its bytes when they are first read.
type lazy struct {
	make   func() []byte
	reader *bytes.Reader
}

func (l *lazy) Read(p []byte) (int, error) {
	if l.reader == nil {
		l.reader = bytes.NewReader(l.make())
	}
	return l.reader.Read(p)
}
