// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/sirupsen/logrus"
)

// maxTried is how many collections are read for one layer before it is
// downloaded after all.
const maxTried = 3

// Reuse is a layer, or a whole image, that was not downloaded because Keep had
// it.
type Reuse struct {
	Layer      string // digest of the layer as stored; "" if it is the whole image
	Collection string // UUID of the collection that has it
	Owner      string // UUID of its owner
	Bytes      int64
}

// shelf is the image collections found so far that may have layers of the image
// being saved. Whoever has one layer of it usually has several, so each lookup
// is tried on all layers.
type shelf struct {
	api API
	log logrus.FieldLogger

	mtx   sync.Mutex
	known []Found
	asked map[string]bool // layer digests
}

// with are the known collections that say they have the layer. If ask, the API
// server is asked for more, once for each layer. That it fails is no reason to
// fail: the layer can be downloaded.
func (s *shelf) with(ctx context.Context, digest string, ask bool) []Found {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	if ask && !s.asked[digest] {
		s.asked[digest] = true
		found, err := FindByLayer(ctx, s.api, digest)
		if err != nil && ctx.Err() == nil {
			s.log.Warnf("cannot look for layer %s in Keep: %v", digest, err)
		}
		s.known = append(s.known, found...)
	}
	var have []Found
	for _, f := range s.known {
		if slices.Contains(f.Properties.Layers, digest) {
			have = append(have, f)
		}
	}
	return have
}

// wanted is a layer that Keep may have.
type wanted struct {
	digest string // of the layer as stored
	size   int64  // likewise; -1 if it is not known
	moved  func(content int64)
}

// shelved is a layer in Keep, read and found to be right.
type shelved struct {
	size   int64
	blocks []keepfile.Block
	end    tail
	from   Found
}

// find looks for a layer in collections that the caller can read. Anybody may
// say that a collection has a layer, so it is read and hashed before it is
// believed; one that lies is named in the log. It returns nil if the layer has
// to be downloaded, and an error only if ctx has ended.
func (s *shelf) find(ctx context.Context, keep keepfile.BlockReader, w wanted) (*shelved, error) {
	tried := map[string]bool{} // portable data hashes: copies are no better
	for _, ask := range []bool{false, true} {
		for _, f := range s.with(ctx, w.digest, ask) {
			if tried[f.PDH] || len(tried) == maxTried {
				continue
			}
			tried[f.PDH] = true
			got, err := f.take(ctx, keep, w)
			if err == nil {
				return got, nil
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			w.moved(0)
			s.log.Warnf("collection %s (owner %s) cannot be used for layer %s, which it says it has: %v", f.UUID, f.OwnerUUID, w.digest, err)
		}
	}
	return nil, context.Cause(ctx)
}

var errNoPlace = errors.New("it has no blocks that are those of this layer alone")

// take reads the layer in the collection's blocks and checks it.
func (f Found) take(ctx context.Context, keep keepfile.BlockReader, w wanted) (*shelved, error) {
	file, err := f.file()
	if err != nil {
		return nil, err
	}
	for i := range file.Segments {
		member := imagetar.Member{Name: imagetar.BlobName(w.digest), Size: w.size}
		if w.size < 0 {
			// Not every block is worth a request: a member begins
			// where the one before has not filled its last block (but
			// for one case in 131072, in which it is downloaded).
			if i > 0 && file.Segments[i-1].Length == keepfile.BlockSize {
				continue
			}
			if member.Size, err = sizeInHeader(ctx, keep, file.Segments[i], member.Name); err != nil {
				return nil, err
			}
		}
		sizes := blockSizes(member.Span())
		if member.Size < imagetar.BigMember || i+len(sizes) > len(file.Segments) || !hasBlocks(file.Segments[i:i+len(sizes)], sizes) {
			continue
		}
		check := newMemberCheck(member, w.digest, w.moved)
		got := &shelved{size: member.Size, from: f}
		for _, s := range file.Segments[i : i+len(sizes)] {
			if _, err = keep.BlockRead(ctx, arvados.BlockReadOptions{Locator: s.Locator, WriteTo: check}); err != nil {
				break
			}
			got.blocks = append(got.blocks, keepfile.Block{Locator: s.Locator, Size: s.Length})
		}
		if errors.Is(err, errElsewhere) {
			continue // another layer of the same size
		}
		if err == nil {
			err = check.complete()
		}
		if err != nil {
			return nil, err
		}
		got.end = check.tail
		return got, nil
	}
	return nil, errNoPlace
}

// sizeInHeader is the size that the segment's header has for the named member,
// or -1 if it begins with anything else.
func sizeInHeader(ctx context.Context, keep keepfile.BlockReader, s keepfile.Segment, name string) (int64, error) {
	header := &headerOnly{buf: make([]byte, 0, tarHeader)}
	if _, err := keep.BlockRead(ctx, arvados.BlockReadOptions{Locator: s.Locator, WriteTo: header}); err != nil && !errors.Is(err, errEnough) {
		return 0, err
	}
	hdr, err := tar.NewReader(bytes.NewReader(header.buf)).Next()
	if err != nil || hdr.Name != name {
		return -1, nil
	}
	return hdr.Size, nil
}

// reuse looks for a big layer in Keep. digest and size are those of the layer
// as it would be stored. It returns nil if the layer has to be downloaded.
func (w *work) reuse(ctx context.Context, layer imagetar.Layer, digest string, size int64) (*shelved, error) {
	got, err := w.shelf.find(ctx, w.Keep, wanted{digest: digest, size: size, moved: func(n int64) {
		w.progress.set(layer.Digest, Reusing, min(n, layer.Size), layer.Size)
	}})
	if got == nil || err != nil {
		return nil, err
	}
	w.progress.set(layer.Digest, Finished, layer.Size, layer.Size)
	w.mtx.Lock()
	defer w.mtx.Unlock()
	w.blocks[digest], w.ends[digest] = got.blocks, got.end
	w.reused = append(w.reused, Reuse{Layer: digest, Collection: got.from.UUID, Owner: got.from.OwnerUUID, Bytes: got.size})
	return got, nil
}
