// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing/iotest"

	"git.arvados.org/arvados.git/lib/imagetar"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&compressionSuite{})

type compressionSuite struct{}

func (s *compressionSuite) TestMediaTypesOfLayers(c *check.C) {
	for mediaType, want := range map[string]imagetar.Compression{
		"application/vnd.oci.image.layer.v1.tar":                       imagetar.Plain,
		"application/vnd.oci.image.layer.v1.tar+gzip":                  imagetar.Gzip,
		"application/vnd.oci.image.layer.v1.tar+zstd":                  imagetar.Zstd,
		"application/vnd.oci.image.layer.nondistributable.v1.tar":      imagetar.Plain,
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": imagetar.Gzip,
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": imagetar.Zstd,
		"application/vnd.docker.image.rootfs.diff.tar":                 imagetar.Plain,
		"application/vnd.docker.image.rootfs.diff.tar.gzip":            imagetar.Gzip,
		"application/vnd.docker.image.rootfs.diff.tar.zstd":            imagetar.Zstd,
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":    imagetar.Gzip,

		"": imagetar.Other,
		"application/vnd.oci.image.layer.v1.tar+bzip2":   imagetar.Other,
		"application/vnd.oci.image.layer.v1.tar+gzip+x":  imagetar.Other,
		"application/vnd.oci.image.layer.v1":             imagetar.Other,
		"application/vnd.oci.image.manifest.v1+json":     imagetar.Other,
		"application/vnd.cncf.helm.chart.content.v1.tar": imagetar.Other,
		"application/vnd.in-toto+json":                   imagetar.Other,
	} {
		c.Check(imagetar.CompressionOf(mediaType), check.Equals, want, check.Commentf("%s", mediaType))
	}
}

func (s *compressionSuite) TestFirstBytesTell(c *check.C) {
	for _, t := range []struct {
		prefix string
		want   imagetar.Compression
	}{
		{"", imagetar.Plain},
		{"\x1f", imagetar.Plain},
		{"\x1f\x8b\x08", imagetar.Gzip},
		{"\x1f\x8b\x07", imagetar.Plain},
		{"\x28\xb5\x2f\xfd", imagetar.Zstd},
		{"\x50\x2a\x4d\x18", imagetar.Zstd},
		{"\x5f\x2a\x4d\x18", imagetar.Zstd},
		{"\x60\x2a\x4d\x18", imagetar.Plain},
		{"BZh9", imagetar.Other},
		{"\xfd7zXZ\x00", imagetar.Other},
		{"etc/passwd", imagetar.Plain},
	} {
		c.Check(imagetar.Sniff([]byte(t.prefix)), check.Equals, t.want, check.Commentf("%q", t.prefix))
	}
	c.Check(imagetar.Plain.String()+imagetar.Gzip.String()+imagetar.Zstd.String()+imagetar.Other.String(), check.Equals, "plaingzipzstdother")
}

func gzipped(b []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Write(b)
	w.Close()
	return buf.Bytes()
}

func zstded(b []byte) []byte {
	var buf bytes.Buffer
	w, err := zstd.NewWriter(&buf)
	if err != nil {
		panic(err)
	}
	w.Write(b)
	w.Close()
	return buf.Bytes()
}

func (s *compressionSuite) TestDecompress(c *check.C) {
	text := []byte(strings.Repeat(hello, 100000))
	for _, t := range []struct {
		compression imagetar.Compression
		data        []byte
	}{
		{imagetar.Plain, text},
		{imagetar.Gzip, gzipped(text)},
		{imagetar.Zstd, zstded(text)},
	} {
		c.Check(imagetar.Sniff(t.data), check.Equals, t.compression)
		r, err := imagetar.Decompress(bytes.NewReader(t.data), t.compression)
		c.Assert(err, check.IsNil)
		c.Check(iotest.TestReader(r, text), check.IsNil)
		c.Check(r.Close(), check.IsNil)
	}
}

func (s *compressionSuite) TestDamageIsFound(c *check.C) {
	for compression, data := range map[imagetar.Compression][]byte{
		imagetar.Gzip: gzipped([]byte(strings.Repeat(hello, 1000))),
		imagetar.Zstd: zstded([]byte(strings.Repeat(hello, 1000))),
	} {
		for _, damaged := range [][]byte{data[:len(data)-5], append([]byte("xxxx"), data...), nil} {
			if len(damaged) == 0 && compression == imagetar.Zstd {
				continue // no frame at all is valid
			}
			r, err := imagetar.Decompress(bytes.NewReader(damaged), compression)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			c.Check(err, check.NotNil, check.Commentf("%v of %d bytes", compression, len(damaged)))
		}
	}
	_, err := imagetar.Decompress(strings.NewReader("BZh9"), imagetar.Other)
	c.Check(err, check.ErrorMatches, "it is compressed in a way that is neither gzip nor zstd")
}

// A few kilobytes that would become 200 GiB are given up after 1 GiB.
func (s *compressionSuite) TestBombIsGivenUp(c *check.C) {
	w := &bytes.Buffer{}
	w.Write([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3})
	const blocks = 200 << 30 / (128 << 10)
	block := []byte{2, 0, 0x10, 0} // RLE: 128 KiB of one byte
	r, err := imagetar.Decompress(io.MultiReader(w, repeat(block, blocks)), imagetar.Zstd)
	c.Assert(err, check.IsNil)
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, make([]byte, 1<<20))
	c.Check(errors.Is(err, imagetar.ErrBomb), check.Equals, true, check.Commentf("%v", err))
	c.Check(n > 1<<29 && n < 3<<30, check.Equals, true, check.Commentf("%d bytes", n))
	c.Check(r.Close(), check.IsNil)
}

// repeat reads b n times.
func repeat(b []byte, n int) io.Reader {
	readers := make([]io.Reader, 0, 64)
	chunk := bytes.Repeat(b, n/64)
	for range 64 {
		readers = append(readers, bytes.NewReader(chunk))
	}
	return io.MultiReader(readers...)
}

// What compresses well but is not large is no bomb.
func (s *compressionSuite) TestEmptyFilesAreNoBomb(c *check.C) {
	for compression, data := range map[imagetar.Compression][]byte{
		imagetar.Gzip: gzipped(make([]byte, 100<<20)),
		imagetar.Zstd: zstded(make([]byte, 100<<20)),
	} {
		c.Check(len(data) < 1<<20, check.Equals, true)
		r, err := imagetar.Decompress(bytes.NewReader(data), compression)
		c.Assert(err, check.IsNil)
		n, err := io.Copy(io.Discard, r)
		c.Check(err, check.IsNil)
		c.Check(n, check.Equals, int64(100<<20))
	}
}
