// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar

import (
	"bytes"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Compression is how a layer is compressed.
type Compression int

const (
	Plain Compression = iota // a tar as it is
	Gzip
	Zstd
	Other // anything that no engine is sure to read, bzip2 and xz among it
)

// String is the lower-case name.
func (c Compression) String() string {
	return [...]string{"plain", "gzip", "zstd", "other"}[c]
}

// SniffLen is how many bytes Sniff wants to see; fewer are enough at the end of
// the data.
const SniffLen = 6

// Sniff tells the compression from the first bytes of the data.
func Sniff(prefix []byte) Compression {
	switch {
	case bytes.HasPrefix(prefix, []byte{0x1f, 0x8b, 8}): // RFC 1952, deflate
		return Gzip
	case bytes.HasPrefix(prefix, []byte{0x28, 0xb5, 0x2f, 0xfd}): // RFC 8878, frame
		return Zstd
	case len(prefix) >= 4 && prefix[0]&0xf0 == 0x50 && bytes.Equal(prefix[1:4], []byte{0x2a, 0x4d, 0x18}): // skippable frame
		return Zstd
	case bytes.HasPrefix(prefix, []byte("BZh")), bytes.HasPrefix(prefix, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return Other
	}
	return Plain
}

// Media types of Docker's schema 2 and of layers that registries need not have.
const (
	dockerManifestType  = "application/vnd.docker.distribution.manifest.v2+json"
	dockerLayerType     = "application/vnd.docker.image.rootfs.diff.tar"
	dockerForeignType   = "application/vnd.docker.image.rootfs.foreign.diff.tar"
	ociNondistributable = "application/vnd.oci.image.layer.nondistributable.v1.tar"
)

// CompressionOf tells the compression from a layer's media type; Other for what
// is no media type of a layer.
func CompressionOf(mediaType string) Compression {
	for _, base := range []string{ocispec.MediaTypeImageLayer, ociNondistributable, dockerLayerType, dockerForeignType} {
		if suffix, ok := strings.CutPrefix(mediaType, base); ok {
			switch suffix {
			case "":
				return Plain
			case "+gzip", ".gzip": // OCI writes +, Docker a dot
				return Gzip
			case "+zstd", ".zstd":
				return Zstd
			}
		}
	}
	return Other
}

// foreign reports whether a layer of this type need not be in the registry that
// offers its image.
func foreign(mediaType string) bool {
	return strings.HasPrefix(mediaType, dockerForeignType) || strings.HasPrefix(mediaType, ociNondistributable)
}

// layerType is the OCI media type of a layer with compression c.
func layerType(c Compression) string {
	if c == Gzip {
		return ocispec.MediaTypeImageLayerGzip
	}
	return ocispec.MediaTypeImageLayer
}
