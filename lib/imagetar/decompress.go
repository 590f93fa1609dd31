// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar

import (
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	// maxWindow is what "zstd --ultra" asks of a reader at most. It bounds
	// the decoder's memory.
	maxWindow = 128 << 20

	// What is decompressed may be bombSlack bytes plus bombRatio times its
	// compressed size. Real layers stay below the ratio on the whole; short
	// ones of a few large empty files do not.
	bombSlack = 1 << 30
	bombRatio = 200
)

// ErrBomb ends the decompression of data that would fill any disk.
var ErrBomb = fmt.Errorf("it expands to more than %d times its size", bombRatio)

// Decompress reads the plain data in r. It works on the reading goroutine, and
// closing it frees its memory but leaves r open. Errors name neither side nor
// subject.
func Decompress(r io.Reader, c Compression) (io.ReadCloser, error) {
	in := &counter{Reader: r}
	var plain io.ReadCloser
	switch c {
	case Plain:
		return io.NopCloser(r), nil
	case Gzip:
		d, err := gzip.NewReader(in)
		if err != nil {
			return nil, err
		}
		plain = d
	case Zstd:
		d, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		plain = d.IOReadCloser()
	default:
		return nil, errors.New("it is compressed in a way that is neither gzip nor zstd")
	}
	return &bombGuard{ReadCloser: plain, in: in}, nil
}

// bombGuard limits what comes out of the decompressor by what went in.
type bombGuard struct {
	io.ReadCloser
	in  *counter
	out int64
}

func (g *bombGuard) Read(p []byte) (int, error) {
	n, err := g.ReadCloser.Read(p)
	g.out += int64(n)
	if g.out-bombSlack > g.in.n*bombRatio {
		return 0, ErrBomb
	}
	return n, err
}

// counter counts what is read.
type counter struct {
	io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}
