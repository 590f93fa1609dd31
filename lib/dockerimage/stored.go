// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/keepfile"
)

// Open finds the image in an image collection, whoever stored it: the archive
// may be that of a Layout or any other that imagetar.ScanArchive reads, unless
// it is compressed as a whole. The layers are not read but for their beginnings
// (and for zstd ones, since engines take only what they unpack to, and others
// that nothing in the archive describes); of a big image that a Saver stored
// that is a small part. What is read, and later each layer, is checked against
// its digest, and the config against the name of the file. Up to some 48 MiB
// of small members stay in memory with the image.
//
// keep must be for the token that found was found with. Errors are of side
// Request if the collection does not hold what it should.
func Open(ctx context.Context, keep keepfile.BlockReader, found Found) (imagetar.Image, error) {
	stored, err := open(ctx, keep, found)
	return stored.Image, err
}

// storedImage is an image in a collection.
type storedImage struct {
	imagetar.Image
	file   keepfile.File
	layers []*storedMember // where each one is
}

func open(ctx context.Context, keep keepfile.BlockReader, found Found) (storedImage, error) {
	file, hash, err := found.image()
	if err != nil {
		return storedImage{}, found.blame("", err)
	}
	members, err := skimArchive(ctx, keep, file)
	if err != nil {
		return storedImage{}, found.blame("", err)
	}
	replay := &replay{skimmer: newSkimmer(ctx, keep, file), parts: members.parts()}
	defer replay.skimmer.close()
	archive, err := imagetar.ScanArchive(replay, sink(members.blob))
	if err != nil {
		return storedImage{}, found.blame("", err)
	}
	img := storedImage{Image: archive.Image, file: file}
	config := fmt.Sprintf("sha256:%x", sha256.Sum256(img.Config))
	if hash != config && !slices.Contains(img.Digests, hash) {
		// Some engines call an image by its manifest, and so have those
		// who stored what they saved.
		return storedImage{}, found.blame("", fmt.Errorf("its file is called %s but holds image %s", file.Path, config))
	}
	for i := range img.Layers {
		member := members.find(archive.Members[i])
		img.layers = append(img.layers, member)
		img.Layers[i].Open = member.opener(keep, file, found, img.Layers[i])
	}
	return img, nil
}

// opener is Layer.Open of the layer that the member holds.
func (m *storedMember) opener(keep keepfile.BlockReader, file keepfile.File, found Found, layer imagetar.Layer) opener {
	raw := func(ctx context.Context) (io.ReadCloser, error) {
		if m.held() {
			return io.NopCloser(bytes.NewReader(m.start)), nil
		}
		return keepfile.NewReader(ctx, keep, cut(file, m.offset, m.size)), nil
	}
	unpack := layer
	unpack.Open = raw
	return func(ctx context.Context) (io.ReadCloser, error) {
		var body io.ReadCloser
		var err error
		if imagetar.Sniff(m.start) == imagetar.Zstd {
			body, err = openUnpacked(ctx, unpack)
		} else {
			body, err = raw(ctx)
		}
		if err != nil {
			return nil, found.blame(layer.Digest, err)
		}
		return &blamed{ReadCloser: imagetar.Verify(body, layer.Digest, layer.Size), layer: layer.Digest, found: found}, nil
	}
}

// blamed names the collection in the errors of a layer.
type blamed struct {
	io.ReadCloser
	layer string
	found Found
}

func (b *blamed) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = b.found.blame(b.layer, err)
	}
	return n, err
}

// blame names the collection, and the part of it if there is one, in an error.
// Whoever failed already says so; what comes from nobody is wrong in the
// collection itself.
func (f Found) blame(part string, err error) error {
	name := f.UUID
	if name == "" {
		name = f.PDH
	}
	op := "read image in collection"
	if part != "" {
		op = "read layer " + part + " in collection"
	}
	e := &fault.Error{Op: op, Side: fault.SideOf(err), Subject: name, Err: err, Transient: fault.Transient(err)}
	var content *imagetar.ContentError
	if errors.As(err, &content) || e.Side == "" {
		e.Side, e.Transient = fault.Request, false
		e.Hint = "the collection is damaged or was made by hand: store the image again"
	}
	return e
}

// cut is a part of a file.
func cut(file keepfile.File, offset, length int64) keepfile.File {
	part := keepfile.File{Path: file.Path}
	for _, s := range file.Segments {
		start, end := max(offset, 0), min(offset+length, s.Length)
		if start < end {
			part.Segments = append(part.Segments, keepfile.Segment{Locator: s.Locator, Offset: s.Offset + start, Length: end - start})
		}
		offset -= s.Length
	}
	return part
}
