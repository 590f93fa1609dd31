// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/keepfile"
)

// Kind is what an Entry is.
type Kind byte

// The kinds are what archive/tar calls their types.
const (
	Regular Kind = '0'
	Symlink Kind = '2'
	Folder  Kind = '5'
)

// Entry is a file, folder or symbolic link of a Tree.
type Entry struct {
	Path   string // relative to the tree, "dir/name"; "" is the tree itself
	Kind   Kind
	Mode   fs.FileMode // permissions only
	Size   int64       // of a file, in bytes
	Target string      // of a link, as it was written

	// A file has one of these.
	open   func(context.Context) (io.ReadCloser, error)
	stored *stored

	// broken is why the entry cannot be sent. It counts only if nothing
	// takes the entry out of the tree: a .dockerignore may.
	broken error
}

// stored is the content of a file in Keep.
type stored struct {
	keep     keepfile.BlockReader
	segments []keepfile.Segment
}

// Open reads a file. Reading ends with an error if the content has not the
// entry's Size. For many files, Tree.Open is faster.
func (e Entry) Open(ctx context.Context) (io.ReadCloser, error) {
	switch {
	case e.broken != nil:
		return nil, e.broken
	case e.Kind != Regular:
		return nil, refusal("read", fmt.Sprintf("%q", e.Path), "it is no file", "")
	case e.stored != nil:
		return keepfile.NewReader(ctx, e.stored.keep, keepfile.File{Path: e.Path, Segments: e.stored.segments}), nil
	}
	r, err := e.open(ctx)
	if err != nil {
		return nil, readFault(e.Path, err)
	}
	return &exactly{ReadCloser: r, path: e.Path, left: e.Size}, nil
}

// exactly fails unless so many bytes come: somebody may write to a local file
// while it is read.
type exactly struct {
	io.ReadCloser
	path string
	left int64
}

func (r *exactly) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.left -= int64(n)
	switch {
	case r.left < 0, err == io.EOF && r.left > 0:
		return n + int(min(r.left, 0)), readFault(r.path, errors.New("its size changed while it was read"))
	case err != nil && err != io.EOF:
		return n, readFault(r.path, err)
	}
	return n, err
}

// readFault is the error of a file that cannot be read where the user has it.
func readFault(path string, err error) error {
	var already *fault.Error
	if errors.As(err, &already) {
		return err
	}
	return &fault.Error{Op: "read", Side: fault.Request, Subject: fmt.Sprintf("%q", path), Err: err}
}

func fileInKeep(path string, keep keepfile.BlockReader, file keepfile.File) Entry {
	return Entry{Path: path, Kind: Regular, Mode: keepMode, Size: file.Size(), stored: &stored{keep, file.Segments}}
}

func fileInMemory(path string, mode fs.FileMode, content []byte) Entry {
	return Entry{Path: path, Kind: Regular, Mode: mode, Size: int64(len(content)), open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}}
}

func folder(path string) Entry {
	return Entry{Path: path, Kind: Folder, Mode: folderMode}
}

func symlink(path, target string) Entry {
	return Entry{Path: path, Kind: Symlink, Mode: linkMode, Target: target}
}
