// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar

import (
	"bytes"
	"context"
	"fmt"
	"io"
)

// Reader gives the whole archive as a stream, opening one layer at a time when
// its turn comes. layers are those of the Image that the layout was made of,
// and ctx is what they are opened with. The stream ends with an error if a
// layer cannot be read or has not its size.
func (l Layout) Reader(ctx context.Context, layers []Layer) io.ReadCloser {
	r := &layoutReader{}
	for _, m := range l.Members {
		r.add(m.Header())
		if m.Layer < 0 {
			r.add(m.Content)
		} else {
			r.parts = append(r.parts, func() (io.ReadCloser, error) {
				body, err := layers[m.Layer].Open(ctx)
				if err != nil {
					return nil, err
				}
				return &exactly{ReadCloser: body, name: m.Name, left: m.Size}, nil
			})
		}
		r.add(m.Padding())
	}
	r.add(make([]byte, trailerSize))
	return r
}

// layoutReader reads its parts one after the other.
type layoutReader struct {
	parts   []func() (io.ReadCloser, error)
	current io.ReadCloser
	err     error // sticky
}

func (r *layoutReader) add(content []byte) {
	r.parts = append(r.parts, func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	})
}

func (r *layoutReader) Read(p []byte) (int, error) {
	for r.err == nil {
		if r.current == nil {
			if len(r.parts) == 0 {
				r.err = io.EOF
				break
			}
			r.current, r.err = r.parts[0]()
			r.parts = r.parts[1:]
			continue
		}
		n, err := r.current.Read(p)
		if err == io.EOF {
			err = r.current.Close()
			r.current = nil
		}
		r.err = err
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
	return 0, r.err
}

// Close stops reading. It may be called at any time, but not during a Read.
func (r *layoutReader) Close() error {
	r.err = io.ErrClosedPipe
	if r.current == nil {
		return nil
	}
	current := r.current
	r.current = nil
	return current.Close()
}

// exactly refuses a layer that is shorter or longer than its header says, which
// would shift everything after it.
type exactly struct {
	io.ReadCloser
	name string
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	n, err := e.ReadCloser.Read(p)
	e.left -= int64(n)
	if e.left < 0 {
		return 0, fmt.Errorf("%s is longer than its header says", e.name)
	}
	if err == io.EOF && e.left > 0 {
		return n, fmt.Errorf("%s is %d bytes shorter than its header says", e.name, e.left)
	}
	return n, err
}
