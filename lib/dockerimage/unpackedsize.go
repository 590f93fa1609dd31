// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"encoding/binary"

	"git.arvados.org/arvados.git/lib/imagetar"
)

const (
	// usualRatio is what layers unpack to where gzip does not tell, and
	// maxRatio what they hardly ever exceed.
	usualRatio = 3
	maxRatio   = 8
)

// unpackedSize is the size of a stored layer once it is unpacked, in bytes.
//
// It is for booking scratch space, and unpacking every layer to know it would
// take as long as the rest of a pull. A gzip stream of one member, as nearly
// all layers are, ends with the size of what it holds modulo 4 GiB (RFC 1952).
// Since layers do not grow by compression, that is exact unless a layer unpacks
// to 4 GiB more than it is compressed. Streams of many members (eStargz) end
// with the size of the last one, which is small or 0, and are estimated.
func unpackedSize(layer imagetar.Layer, end tail) int64 {
	if imagetar.CompressionOf(layer.MediaType) != imagetar.Gzip {
		return layer.Size
	}
	// deflate adds at most 5 bytes to 64 KiB; headers come to it.
	least := layer.Size - layer.Size>>10 - 1<<10
	size := int64(binary.LittleEndian.Uint32(end[:]))
	if size >= least {
		return size
	}
	for size < least {
		size += 1 << 32
	}
	if size > maxRatio*layer.Size {
		return usualRatio * layer.Size
	}
	return size
}
