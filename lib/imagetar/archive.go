// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar

import "io"

// Archive is what ScanArchive found in an image archive.
type Archive struct {
	// Image has everything that NewLayout needs; Layer.Open is nil, since
	// the sink has the bytes. Digests are those of the manifest, after that
	// of the index if index.json names one, by which the archive describes
	// the image; nil if it has no manifest. Manifest is nil if the archive
	// has none that fits the layers as the sink got them.
	Image Image
	// Members[i] is the name under which the sink got Image.Layers[i].
	Members []string
	// RepoTags are the image's names as the archive writes them; nil if it
	// has none. They are not checked.
	RepoTags []string
	// Platform is "linux/arm/v7", from the config.
	Platform string
}

// BlobSink takes the layers of an archive while it is scanned.
type BlobSink interface {
	// Blob reads r to its end, which is the only time these bytes can be
	// read, and reports digest and size of what it read. It is called once
	// for every member that may be a layer (also for some that turn out to
	// be none), from one goroutine. Gzip and plain layers arrive as they
	// are in the archive, others decompressed; size is the number of bytes,
	// or -1 if they are being decompressed. name is the member's name, which
	// comes from the archive and is not to be used as a path. Content that
	// the archive has twice arrives twice.
	//
	// An error ends the scan, which returns it as it is.
	Blob(name string, size int64, r io.Reader) (BlobInfo, error)
}

// BlobInfo describes bytes that a BlobSink has read.
type BlobInfo struct {
	Digest string // "sha256:<64 hex>"
	Size   int64
}
