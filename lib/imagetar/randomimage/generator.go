// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package randomimage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"

	"git.arvados.org/arvados.git/lib/imagetar"
)

// Random bytes do not compress, so layers are "compressed" into blocks that
// store them. Writing those blocks here, rather than by a compressor, makes
// every blob size possible and digests independent of the compressor's version.
const (
	tarMetadata = 512 + 1024 // header of the one file, trailer

	gzipBlock       = 65535 // most that a stored deflate block holds (RFC 1951, 3.2.4)
	gzipBlockHeader = 5
	gzipFrame       = 10 + 8 // header and trailer without optional fields (RFC 1952)

	zstdBlock       = 128 << 10 // RFC 8878, 3.1.1.2.4, for the window below
	zstdBlockHeader = 3
	zstdFrame       = 4 + 2
	zstdSkip        = 8 // smallest skippable frame
)

// generator makes the bytes of one layer.
type generator struct {
	seed        int64
	size        int64 // of the blob
	compression imagetar.Compression
}

// blob gives the layer's bytes, and copies the plain tar within to w meanwhile.
func (g generator) blob(w io.Writer) io.Reader {
	size := g.tarSize()
	switch g.compression {
	case imagetar.Plain:
		return io.TeeReader(g.tar(size), w)
	case imagetar.Gzip:
		return g.gzip(size, w)
	case imagetar.Zstd:
		return g.zstd(size, w)
	}
	panic(fmt.Sprintf("no random layers with compression %v", g.compression))
}

// tarSize is the largest size of a tar, in bytes, that fits the blob.
func (g generator) tarSize() int64 {
	size := g.size
	if g.compression == imagetar.Plain {
		return size
	}
	for size -= size % 512; ; size -= 512 {
		rest := g.size - g.compressedSize(size)
		if rest == 0 || rest > 0 && (g.compression == imagetar.Gzip || rest >= zstdSkip) {
			return size
		}
	}
}

// compressedSize is the size of a blob that holds a tar of the given size.
func (g generator) compressedSize(tar int64) int64 {
	if g.compression == imagetar.Gzip {
		return gzipFrame + tar + (tar+gzipBlock-1)/gzipBlock*gzipBlockHeader
	}
	return zstdFrame + tar + (tar+zstdBlock-1)/zstdBlock*zstdBlockHeader
}

// tar is an archive of one random file, with zeros at the end up to size.
func (g generator) tar(size int64) io.Reader {
	file := imagetar.Member{
		Name: fmt.Sprintf("random-%d-%d", g.seed, g.size),
		Size: (size - tarMetadata) / 512 * 512,
	}
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(g.seed))
	content := io.LimitReader(rand.NewChaCha8(seed), file.Size)
	zeros := make([]byte, size-file.Span())
	return io.MultiReader(bytes.NewReader(file.Header()), content, bytes.NewReader(zeros))
}

func (g generator) gzip(size int64, w io.Writer) io.Reader {
	header := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}
	if rest := g.size - g.compressedSize(size); rest > 0 {
		header[3] = 1 << 4 // a comment follows, ended by zero
		header = append(header, bytes.Repeat([]byte{'-'}, int(rest-1))...)
		header = append(header, 0)
	}
	sum := crc32.NewIEEE()
	blocks := &blocks{
		tar:  io.TeeReader(g.tar(size), io.MultiWriter(w, sum)),
		left: size,
		buf:  make([]byte, gzipBlockHeader+gzipBlock),
		head: func(head []byte, n int, last bool) {
			head[0] = flag(last) // stored, at a byte boundary
			binary.LittleEndian.PutUint16(head[1:], uint16(n))
			binary.LittleEndian.PutUint16(head[3:], ^uint16(n))
		},
		headSize: gzipBlockHeader,
	}
	trailer := func() []byte {
		buf := binary.LittleEndian.AppendUint32(nil, sum.Sum32())
		return binary.LittleEndian.AppendUint32(buf, uint32(size))
	}
	return io.MultiReader(bytes.NewReader(header), blocks, &lazy{make: trailer})
}

func (g generator) zstd(size int64, w io.Writer) io.Reader {
	// No content size, no checksum; a window of 128 KiB (3.1.1.1.2).
	header := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3}
	blocks := &blocks{
		tar:  io.TeeReader(g.tar(size), w),
		left: size,
		buf:  make([]byte, zstdBlockHeader+zstdBlock),
		head: func(head []byte, n int, last bool) {
			v := uint32(n)<<3 | uint32(flag(last)) // raw block
			head[0], head[1], head[2] = byte(v), byte(v>>8), byte(v>>16)
		},
		headSize: zstdBlockHeader,
	}
	var skip []byte
	if rest := g.size - g.compressedSize(size); rest > 0 {
		skip = binary.LittleEndian.AppendUint32(skip, 0x184d2a50)
		skip = binary.LittleEndian.AppendUint32(skip, uint32(rest-zstdSkip))
		skip = append(skip, make([]byte, rest-zstdSkip)...)
	}
	return io.MultiReader(bytes.NewReader(header), blocks, bytes.NewReader(skip))
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}
