// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepfile

import (
	"context"
	"io"
)

// Packer writes several files one after the other into the same blocks, for
// collections of small files.
type Packer struct {
	run   *Run
	err   error // why there is no run
	size  int64
	files []packedFile
}

type packedFile struct {
	path       string
	start, end int64
}

// NewPacker starts packing. ctx holds until Close or Abort.
func NewPacker(ctx context.Context, w *Writer) *Packer {
	run, err := w.Run(ctx, 0)
	return &Packer{run: run, err: err}
}

// Add appends the file at path with all that r gives.
func (p *Packer) Add(path string, r io.Reader) error {
	if p.err != nil {
		return p.err
	}
	n, err := p.run.ReadFrom(r)
	p.files = append(p.files, packedFile{path: path, start: p.size, end: p.size + n})
	p.size += n
	return err
}

// Close waits until everything is stored and returns the files in the order
// in which they were added.
func (p *Packer) Close() ([]File, error) {
	if p.err != nil {
		return nil, p.err
	}
	blocks, err := p.run.Close(nil)
	if err != nil {
		return nil, err
	}
	stream := newStream(blocks)
	files := make([]File, len(p.files))
	for i, f := range p.files {
		files[i] = File{Path: f.path, Segments: stream.cut(f.start, f.end)}
	}
	return files, nil
}

// Abort ends packing, if Close has not.
func (p *Packer) Abort() {
	if p.err == nil {
		p.run.Abort()
	}
}
