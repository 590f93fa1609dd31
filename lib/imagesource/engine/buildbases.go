// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"github.com/containerd/containerd/v2/core/content"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// bring makes the bases ready: a builder with the containerd store reads of
// them what it needs; any other engine finds by name only what was loaded.
func (b *build) bring(ctx context.Context) error {
	for _, base := range b.req.Bases {
		layout, err := imagetar.NewLayout(base.Image)
		if err != nil {
			return err
		}
		if b.streams() {
			b.bases.add(base.Name, layout, base.Image.Layers)
		} else if err := b.load(ctx, base, layout); err != nil {
			return err
		}
	}
	return nil
}

// loadedBase is a base that has a private name on the engine: an image that was
// there already, or one that was loaded.
type loadedBase struct {
	name string
	id   string // "" unless the image was there before, without a name
}

func (b *build) load(ctx context.Context, base Base, layout imagetar.Layout) error {
	loaded := loadedBase{name: base.Name}
	before, err := b.cli.ImageInspect(ctx, layout.ConfigDigest)
	if there := err == nil; there {
		if len(before.RepoTags) == 0 {
			loaded.id = before.ID
		}
		// With this store the digest of the config says all: the engine has
		// verified the layers.
		if err := b.cli.ImageTag(ctx, before.ID, base.Name); err == nil {
			b.loaded = append(b.loaded, loaded)
			return nil
		} else if !cerrdefs.IsNotFound(err) {
			return b.fault("name image", before.ID, err)
		}
	}
	b.req.Activity("loading base image " + layout.ConfigDigest)
	archive := layout.Reader(ctx, base.Image.Layers)
	defer archive.Close()
	id, err := b.Load(ctx, archive)
	if err != nil {
		return err
	}
	b.loaded = append(b.loaded, loadedBase{name: base.Name})
	if err := b.cli.ImageTag(ctx, id, base.Name); err != nil {
		cleanup, cancel := detached(ctx) // our name would have taken it along
		defer cancel()
		_ = b.RemoveImage(cleanup, id)
		return b.fault("name image", id, err)
	}
	return nil
}

// unload removes the bases. An engine removes an image with its last name, so
// one that somebody else had without a name is given one that stays.
func (b *build) unload(ctx context.Context) {
	for _, base := range b.loaded {
		if base.id != "" {
			found := "arvados-builtin/found:" + strings.TrimPrefix(base.id, "sha256:")
			b.warn("keep", found, b.cli.ImageTag(ctx, base.id, found))
		}
		b.warn("remove", base.name, b.untag(ctx, base.name))
	}
}

func (b *build) warn(op, name string, err error) {
	if err != nil {
		b.req.Log(fmt.Sprintf("could not %s %s on the engine: %v", op, name, err))
	}
}

// baseStore shows the blobs of bases to the builder, which reads those that it
// needs and does not have. It can only be read.
type baseStore struct {
	names map[string]string // digests of manifests by the bases' names
	blobs map[digest.Digest]blob

	mutex sync.Mutex
	err   error
}

type blob struct {
	size int64
	open func(context.Context) (io.ReadCloser, error)
}

func (s *baseStore) add(name string, layout imagetar.Layout, layers []imagetar.Layer) {
	if s.names == nil {
		s.names, s.blobs = map[string]string{}, map[digest.Digest]blob{}
	}
	s.names[name] = layout.ManifestDigest
	for _, member := range layout.Members {
		hex, ok := strings.CutPrefix(member.Name, "blobs/sha256/")
		if !ok {
			continue
		}
		open := func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(string(member.Content))), nil
		}
		if member.Layer >= 0 {
			open = layers[member.Layer].Open
		}
		s.blobs[digest.NewDigestFromEncoded(digest.SHA256, hex)] = blob{size: member.Size, open: open}
	}
}

// stores is the option of the builder's client.
func (s *baseStore) stores() map[string]content.Store {
	if s.names == nil {
		return nil
	}
	return map[string]content.Store{ociStore: s}
}

func (s *baseStore) failure() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.err
}

func (s *baseStore) fail(err error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.err == nil {
		s.err = err
		if fault.SideOf(err) == "" {
			s.err = &fault.Error{Op: "read a base image", Err: err}
		}
	}
}

// Info implements content.Store.
func (s *baseStore) Info(_ context.Context, d digest.Digest) (content.Info, error) {
	found, ok := s.blobs[d]
	if !ok {
		return content.Info{}, fmt.Errorf("blob %s: %w", d, cerrdefs.ErrNotFound)
	}
	return content.Info{Digest: d, Size: found.size}, nil
}

// ReaderAt implements content.Store. The reader is for one goroutine.
func (s *baseStore) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	found, ok := s.blobs[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", desc.Digest, cerrdefs.ErrNotFound)
	}
	return &blobReader{store: s, size: found.size, open: func() (io.ReadCloser, error) { return found.open(ctx) }}, nil
}

// blobReader reads a stream at offsets: the builder asks for one after the
// other, seldom from the beginning again.
type blobReader struct {
	store  *baseStore
	size   int64
	open   func() (io.ReadCloser, error)
	stream io.ReadCloser
	at     int64 // offset of stream
}

func (r *blobReader) Size() int64 { return r.size }

func (r *blobReader) ReadAt(p []byte, off int64) (n int, err error) {
	defer func() {
		if err != nil && !errors.Is(err, io.EOF) && !isCancel(err) {
			r.store.fail(err)
		}
	}()
	if off >= r.size {
		return 0, io.EOF
	}
	if r.stream == nil || off < r.at {
		if err := r.Close(); err != nil {
			return 0, err
		}
		if r.stream, err = r.open(); err != nil {
			return 0, err
		}
		r.at = 0
	}
	skipped, err := io.CopyN(io.Discard, r.stream, off-r.at)
	r.at += skipped
	if err != nil {
		return 0, noEOF(err)
	}
	wanted := min(int64(len(p)), r.size-off)
	n, err = io.ReadFull(r.stream, p[:wanted])
	r.at += int64(n)
	if err != nil {
		return n, noEOF(err)
	}
	if wanted < int64(len(p)) {
		return n, io.EOF
	}
	return n, nil
}

// noEOF is the error of a stream that ended too early.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (r *blobReader) Close() error {
	if r.stream == nil {
		return nil
	}
	stream := r.stream
	r.stream = nil
	return stream.Close()
}

// The rest of content.Store is about writing, and about blobs of others.

func (*baseStore) Update(context.Context, content.Info, ...string) (content.Info, error) {
	return content.Info{}, cerrdefs.ErrNotImplemented
}

func (*baseStore) Walk(context.Context, content.WalkFunc, ...string) error {
	return cerrdefs.ErrNotImplemented
}

func (*baseStore) Delete(context.Context, digest.Digest) error { return cerrdefs.ErrNotImplemented }

func (*baseStore) Status(context.Context, string) (content.Status, error) {
	return content.Status{}, cerrdefs.ErrNotImplemented
}

func (*baseStore) ListStatuses(context.Context, ...string) ([]content.Status, error) {
	return nil, cerrdefs.ErrNotImplemented
}

func (*baseStore) Abort(context.Context, string) error { return cerrdefs.ErrNotImplemented }

func (*baseStore) Writer(context.Context, ...content.WriterOpt) (content.Writer, error) {
	return nil, cerrdefs.ErrNotImplemented
}
