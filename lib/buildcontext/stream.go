// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
)

// streamBuffer is how many bytes of headers and small files are put together
// before a reader gets them.
const streamBuffer = 64 << 10

// Open is the tree as a tar stream, in the order of Entries: owner 0, no names
// of owners, one constant time. Names that a plain header cannot take have PAX
// records; a name that is not UTF-8 is in them as it is. The stream ends
// with an error, never with io.EOF, if anything could not be read or ctx has
// ended. It must be closed; Close returns when nothing goes on any more.
func (t *Tree) Open(ctx context.Context) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	s := &stream{PipeReader: r, cancel: cancel, done: make(chan struct{})}
	unwatch := context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
	go func() {
		defer close(s.done)
		err := t.writeTar(ctx, w)
		unwatch()
		w.CloseWithError(err)
	}()
	return s
}

type stream struct {
	*io.PipeReader
	cancel func()
	done   chan struct{}
}

func (s *stream) Close() error {
	s.PipeReader.Close()
	s.cancel()
	<-s.done
	return nil
}

func (t *Tree) writeTar(ctx context.Context, w io.Writer) error {
	buffered := bufio.NewWriterSize(w, streamBuffer)
	archive := tar.NewWriter(buffered)
	err := t.each(ctx, func(e Entry, content func(io.Writer) error) error {
		if err := archive.WriteHeader(header(e)); err != nil {
			return refusal("put into a tar", fmt.Sprintf("%q", e.Path), err.Error(), "give it another name")
		}
		return content(archive)
	})
	if err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return buffered.Flush()
}

func header(e Entry) *tar.Header {
	name := e.Path
	if e.Kind == Folder {
		name += "/"
	}
	return &tar.Header{
		Typeflag: byte(e.Kind),
		Name:     name,
		Linkname: e.Target,
		Size:     e.Size,
		Mode:     int64(e.Mode),
		ModTime:  modTime,
	}
}

// Digest is the SHA-256, in hex, of all that the stream has of the tree: paths,
// kinds, permissions, targets of links, contents. How Keep has packed the
// contents makes no difference.
func (t *Tree) Digest(ctx context.Context) (string, error) {
	all, file := sha256.New(), sha256.New()
	err := t.each(ctx, func(e Entry, content func(io.Writer) error) error {
		file.Reset()
		if err := content(file); err != nil {
			return err
		}
		// With lengths, since names may have any character.
		fmt.Fprintf(all, "%c %o %d:%s %d:%s %d %x\n", e.Kind, e.Mode, len(e.Path), e.Path, len(e.Target), e.Target, e.Size, file.Sum(nil))
		return nil
	})
	return fmt.Sprintf("%x", all.Sum(nil)), err
}

// each visits all entries in order. content writes what a file contains, just
// once; it writes nothing for other entries.
func (t *Tree) each(ctx context.Context, visit func(e Entry, content func(io.Writer) error) error) error {
	for _, e := range t.entries {
		if e.broken != nil {
			return e.broken
		}
	}
	blocks := newBlocks(ctx, t.entries)
	defer blocks.stop()
	for _, e := range t.entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := visit(e, func(w io.Writer) error {
			switch {
			case e.stored != nil:
				return blocks.copy(w, e.stored)
			case e.Kind == Regular:
				return e.copy(ctx, w)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// copy writes the content of a file that is not in Keep.
func (e Entry) copy(ctx context.Context, w io.Writer) error {
	r, err := e.Open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(w, r)
	return err
}
