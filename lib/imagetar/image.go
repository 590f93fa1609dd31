// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar

import (
	"context"
	"io"
)

// Image is one image for one platform, as an image source offers it.
type Image struct {
	// Config is the raw image configuration; its SHA-256 is the identity of
	// the image.
	Config []byte
	// Manifest is the raw image manifest (OCI or Docker schema 2) whose
	// layers are Layers as they are, or nil when the source has none that
	// fits; the layout then makes one.
	Manifest []byte
	// ManifestMediaType is the media type of Manifest.
	ManifestMediaType string
	// Digests are the digests under which the source knows the image: index
	// (if it came through one) and manifest, in this order.
	Digests []string
	// Layers, base first, one for each rootfs.diff_ids entry of Config.
	Layers []Layer
}

// Layer is one layer of an Image.
type Layer struct {
	MediaType string
	Digest    string // "sha256:<64 hex>" of the bytes as the source has them
	Size      int64  // of the bytes as the source has them
	DiffID    string // digest of the uncompressed layer, from the config

	// Open starts reading the bytes. The reader ends with an error, never
	// with io.EOF, if the bytes are not exactly Size long with digest Digest.
	// It may be called more than once, also at the same time. Computing a
	// layout does not call it, so it may be nil there.
	Open func(ctx context.Context) (io.ReadCloser, error)
}
