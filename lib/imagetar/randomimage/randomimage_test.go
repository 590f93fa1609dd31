// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package randomimage

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"testing"

	"git.arvados.org/arvados.git/lib/imagetar"
	"github.com/klauspost/compress/zstd"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var _ = check.Suite(&suite{})

type suite struct{}

// Sizes around every boundary of the formats: tar blocks, deflate blocks, zstd
// blocks, skippable frames.
func sizes() []int64 {
	var sizes []int64
	for _, base := range []int64{MinLayer, 4096, gzipBlock + gzipBlockHeader, zstdBlock, 4 << 20} {
		for d := int64(0); d < 40; d++ {
			sizes = append(sizes, base+d*13)
		}
	}
	return append(sizes, 65535, 65536, 65541, 131072, 131081, 4<<20-1)
}

func (s *suite) TestLayersAreExactAndReadable(c *check.C) {
	for _, compression := range []imagetar.Compression{imagetar.Plain, imagetar.Gzip, imagetar.Zstd} {
		for i, size := range sizes() {
			layer := Layer(int64(i), size, compression)
			c.Check(layer.Size, check.Equals, size)
			c.Check(imagetar.CompressionOf(layer.MediaType), check.Equals, compression)
			checkLayer(c, layer, compression)
		}
	}
}

// checkLayer reads the layer with independent decoders.
func checkLayer(c *check.C, layer imagetar.Layer, compression imagetar.Compression) {
	body, err := layer.Open(context.Background())
	c.Assert(err, check.IsNil)
	defer body.Close()
	var plain io.Reader = body
	switch compression {
	case imagetar.Gzip:
		plain, err = gzip.NewReader(body)
	case imagetar.Zstd:
		var d *zstd.Decoder
		d, err = zstd.NewReader(body)
		defer d.Close()
		plain = d
	}
	c.Assert(err, check.IsNil)
	diffID := sha256.New()
	plain = io.TeeReader(plain, diffID)
	archive := tar.NewReader(plain)
	hdr, err := archive.Next()
	c.Assert(err, check.IsNil)
	n, err := io.Copy(io.Discard, archive)
	c.Assert(err, check.IsNil)
	c.Check(n, check.Equals, hdr.Size)
	_, err = archive.Next()
	c.Check(err, check.Equals, io.EOF)
	_, err = io.Copy(io.Discard, plain)
	c.Check(err, check.IsNil, check.Commentf("%v layer of %d bytes", compression, layer.Size))
	c.Check(fmt.Sprintf("sha256:%x", diffID.Sum(nil)), check.Equals, layer.DiffID)
}

func (s *suite) TestImagesAreTheSameEverywhere(c *check.C) {
	c.Check(New(1, 3000, 70000).Digests, check.DeepEquals,
		[]string{"sha256:223db405f605b510f9ec17efa4defd61ab6d0a919f20a58b0f41fbc93d978910"})
	c.Check(New(1, 3000, 70000).Config, check.DeepEquals, New(1, 3000, 70000).Config)
	c.Check(New(2, 3000, 70000).Digests, check.Not(check.DeepEquals), New(1, 3000, 70000).Digests)
}

func (s *suite) TestImagesMakeLayouts(c *check.C) {
	for _, img := range []imagetar.Image{
		New(1),
		New(1, MinLayer, 5<<20),
		Of(Layer(1, 5000, imagetar.Plain), Layer(2, 5000, imagetar.Gzip), Layer(1, 5000, imagetar.Plain)),
	} {
		_, err := imagetar.NewLayout(img)
		c.Check(err, check.IsNil)
	}
}

func (s *suite) TestLayerOpensAnyNumberOfTimesAndStopsWithItsContext(c *check.C) {
	layer := Layer(1, 1<<20, imagetar.Gzip)
	ctx, cancel := context.WithCancel(context.Background())
	one, err := layer.Open(ctx)
	c.Assert(err, check.IsNil)
	two, err := layer.Open(context.Background())
	c.Assert(err, check.IsNil)
	buf := make([]byte, 1000)
	_, err = io.ReadFull(one, buf)
	c.Check(err, check.IsNil)
	cancel()
	_, err = io.Copy(io.Discard, one)
	c.Check(err, check.Equals, context.Canceled)
	_, err = layer.Open(ctx)
	c.Check(err, check.Equals, context.Canceled)
	n, err := io.Copy(io.Discard, two)
	c.Check(err, check.IsNil)
	c.Check(n, check.Equals, layer.Size)
}

func (s *suite) TestImpossibleLayersPanic(c *check.C) {
	c.Check(func() { Layer(1, MinLayer-1, imagetar.Plain) }, check.PanicMatches, "a random layer has at least 2048 bytes, not 2047")
	c.Check(func() { Layer(1, MinLayer, imagetar.Other) }, check.PanicMatches, "no random layers with compression other")
}

func BenchmarkLayer(b *testing.B) {
	for _, compression := range []imagetar.Compression{imagetar.Plain, imagetar.Gzip, imagetar.Zstd} {
		b.Run(compression.String(), func(b *testing.B) {
			layer := Layer(1, 64<<20, compression)
			b.SetBytes(layer.Size)
			b.ReportAllocs()
			for b.Loop() {
				body, err := layer.Open(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
