// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package dockerimage is the image collection: the Keep collection with one
// file, "sha256:<hex>.tar", that Arvados runs containers from. It saves images
// as such collections, describes them by properties, finds them by their names
// and by the digests of images and layers, opens and validates them.
//
// It is for whoever has an image to store (builtin commands, arv-docker), and
// for whoever looks for a stored one or wants to load it. It creates no records in the API server:
// a Saver writes blocks and returns the text of a manifest, so that an image
// that was saved in part only leaves no trace. It knows nothing of registries
// and engines, and puts nothing on disk.
package dockerimage

import (
	"context"
	"io"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/keepfile"
)

// API is the API server, as one user. *arvados.Client is one.
type API interface {
	RequestAndDecodeContext(ctx context.Context, dst interface{}, method, path string, body io.Reader, params interface{}) error
}

// Keep is block storage, as one user. *keepclient.KeepClient is one.
type Keep interface {
	keepfile.BlockReader
	keepfile.BlockWriter
}

// FileName is the name of the one file in an image collection; ImageID says which
// digest it is.
func FileName(digest string) string { return digest + ".tar" }

// blockSizes are the sizes of the blocks in which so many consecutive bytes
// are stored from a block boundary on: full blocks, then the rest.
func blockSizes(span int64) []int64 {
	var sizes []int64
	for ; span > keepfile.BlockSize; span -= keepfile.BlockSize {
		sizes = append(sizes, keepfile.BlockSize)
	}
	return append(sizes, span)
}

// hasBlocks reports whether segments are whole blocks of just these sizes.
func hasBlocks(segments []keepfile.Segment, sizes []int64) bool {
	if len(segments) != len(sizes) {
		return false
	}
	for i, s := range segments {
		if !s.WholeBlock() || s.Length != sizes[i] {
			return false
		}
	}
	return true
}

// layoutBlocks are the sizes of all blocks of an archive.
func layoutBlocks(layout imagetar.Layout) []int64 {
	var sizes []int64
	for _, run := range layout.Runs() {
		sizes = append(sizes, blockSizes(run.Span())...)
	}
	return sizes
}
