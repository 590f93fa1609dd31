// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/lib/keepfile/keeptest"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	check "gopkg.in/check.v1"
	"pgregory.net/rapid"
)

type saveSuite struct{ fixture }

var _ = check.Suite(&saveSuite{})

// The result for a fixed image is fixed: what is in Keep today must be found
// again tomorrow.
func (s *saveSuite) TestGolden(c *check.C) {
	img := randomimage.New(1, 5*MiB, 3000, 4*MiB, 2*MiB)
	saved := s.save(c, 4, img)
	c.Check(s.cl.keep.Sign(saved.ManifestText, ""), check.Equals, goldenManifest)
	c.Check(saved.PDH, check.Equals, arvados.PortableDataHash(goldenManifest))
	c.Check(saved.Digests, check.DeepEquals, img.Digests)
	c.Check(saved.Platform, check.Equals, "linux/amd64")
	c.Check(saved.Created, check.Equals, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	c.Check(saved.Layers, check.DeepEquals, []string{img.Layers[0].Digest, img.Layers[2].Digest})
	c.Check(saved.Reused, check.HasLen, 0)
	c.Check(saved.Downloaded, check.Equals, int64(11*MiB+3000))
	c.Check(saved.Written, check.Equals, s.cl.keep.Stats().BytesWritten)
	c.Check(bytes.Equal(s.cl.contentOf(c, saved.ManifestText), archiveOf(c, img)), check.Equals, true)
	s.cl.valid(c, saved)
}

// goldenManifest: layer of 5 MiB | layer of 3000 bytes | layer of 4 MiB | layer
// of 2 MiB, metadata, trailer.
const goldenManifest = ". 7cf84076c591b226150f399a5dca049a+5243392 2b313db23d88ca352a015e272d16e581+3584" +
	" fba0a4b952d20a9abb77656ed1f6629b+4194816 0cbf7d193639d1dc48609fedd1e6e625+2104320" +
	" 0:11546112:sha256\\0723c8e6cbb3bf1c8b8d19a88f77be00fbfa4a063060f28b263eb514d897bb2afd8.tar\n"

// A block ends before and after every member of 4 MiB or more, also where two
// images have nothing else in common.
func (s *saveSuite) TestSharedLayersShareBlocks(c *check.C) {
	shared := randomimage.Layer(100, 70*MiB, imagetar.Gzip)
	one := randomimage.Of(randomimage.Layer(1, 3000, imagetar.Gzip), shared)
	two := randomimage.Of(randomimage.Layer(2, 5*MiB, imagetar.Gzip), randomimage.Layer(3, 9000, imagetar.Gzip), shared)
	blocks1 := blockNames(c, s.save(c, 4, one).ManifestText)
	blocks2 := blockNames(c, s.save(c, 4, two).ManifestText)
	c.Assert(blocks1, check.HasLen, 4) // small layer | shared, shared | metadata
	c.Assert(blocks2, check.HasLen, 5) // big layer | small layer | shared, shared | metadata
	c.Check(blocks1[1:3], check.DeepEquals, blocks2[2:4])
	c.Check(strings.HasSuffix(blocks1[1], "+67108864"), check.Equals, true)
	c.Check(strings.HasSuffix(blocks1[2], fmt.Sprintf("+%d", 6*MiB+512)), check.Equals, true)
}

func (s *saveSuite) TestSameImageSamePDH(c *check.C) {
	img := randomimage.New(5, 4*MiB, 5000, 66*MiB, 2000+MiB)
	first := s.save(c, 1, img)
	for _, blocks := range []int{0, 2, 4, 9} {
		s.cl = newCluster()
		c.Check(s.save(c, blocks, img).PDH, check.Equals, first.PDH)
	}
}

func (s *saveSuite) TestLayerThatOccursTwice(c *check.C) {
	big, small := randomimage.Layer(1, 5*MiB, imagetar.Gzip), randomimage.Layer(2, 5000, imagetar.Plain)
	img := randomimage.Of(big, small, big, small)
	saved := s.save(c, 2, img)
	c.Check(saved.Downloaded, check.Equals, int64(5*MiB+5000))
	c.Check(saved.Layers, check.DeepEquals, []string{big.Digest})
	c.Check(bytes.Equal(s.cl.contentOf(c, saved.ManifestText), archiveOf(c, img)), check.Equals, true)
	s.cl.valid(c, saved)
}

func (s *saveSuite) TestManySmallLayers(c *check.C) {
	var layers []imagetar.Layer
	for i := range 200 {
		layers = append(layers, randomimage.Layer(int64(i), int64(2048+100*i), imagetar.Gzip))
	}
	img := randomimage.Of(layers...)
	saved := s.save(c, 1, img)
	c.Check(blockNames(c, saved.ManifestText), check.HasLen, 1)
	c.Check(saved.Layers, check.HasLen, 0)
	c.Check(bytes.Equal(s.cl.contentOf(c, saved.ManifestText), archiveOf(c, img)), check.Equals, true)
}

func (s *saveSuite) TestNoLayers(c *check.C) {
	s.cl.valid(c, s.save(c, 4, randomimage.Of()))
}

// sparse reads as size zero bytes; what its digest is, nobody computes.
func sparse(size int64) imagetar.Layer {
	digest := "sha256:" + strings.Repeat("5", 64)
	return imagetar.Layer{
		MediaType: "application/vnd.oci.image.layer.v1.tar",
		Digest:    digest,
		Size:      size,
		DiffID:    digest,
		Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.LimitReader(zeroReader{}, size)), nil
		},
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A layer of more than 8 GiB, whose size does not fit an ordinary tar header.
func (s *saveSuite) TestHugeLayer(c *check.C) {
	const size = 8<<30 + 5
	s.cl.keep.Discard = true
	img := randomimage.Of(sparse(size))
	saved := s.save(c, 4, img)
	names := blockNames(c, saved.ManifestText)
	c.Assert(names, check.HasLen, 130) // 512+8 GiB+507 of the layer, metadata
	c.Check(names[1:128], check.DeepEquals, repeat("7f614da9329cd3aebf59b91aadc30bf0+67108864", 127))
	c.Check(names[0], check.Equals, goldenHugeStart)
	c.Check(names[128], check.Equals, "0f343b0931126a20f133d67c2b018a3b+1024") // zeros
	c.Check(strings.Contains(saved.ManifestText, fmt.Sprintf(" 0:%d:sha256\\072", layoutOf(c, img).Size)), check.Equals, true)
	c.Check(saved.Size, check.Equals, int64(size))
}

// goldenHugeStart is a header with a size of 8 GiB + 5 in base 256, then zeros.
const goldenHugeStart = "6d0c23aebbef19f717ba313211b512a8+67108864"

func repeat(s string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = s
	}
	return list
}

func layoutOf(c *check.C, img imagetar.Image) imagetar.Layout {
	layout, err := imagetar.NewLayout(img)
	c.Assert(err, check.IsNil)
	return layout
}

// Whatever the layers and the budget, the blocks one after the other are the
// archive of the layout.
func TestBlocksAreTheLayout(t *testing.T) {
	sizes := []int64{2048, 100_000, 4*MiB - 512, 4*MiB - 1, 4 * MiB, 4*MiB + 1, 5_000_000}
	var all []imagetar.Layer
	for i, size := range sizes {
		all = append(all, randomimage.Layer(int64(i), size, imagetar.Gzip), randomimage.Layer(int64(i), size, imagetar.Plain))
	}
	rapid.Check(t, func(t *rapid.T) {
		var layers []imagetar.Layer
		for range rapid.IntRange(0, 4).Draw(t, "layers") {
			layers = append(layers, rapid.SampledFrom(all).Draw(t, "layer"))
		}
		img, keep := randomimage.Of(layers...), keeptest.New()
		saver := Saver{API: newCluster(), Keep: keep.As("token"), Blocks: rapid.IntRange(1, 4).Draw(t, "blocks")}
		saved, err := saver.Save(context.Background(), img)
		if err != nil {
			t.Fatal(err)
		}
		files, err := keepfile.ParseManifest(saved.ManifestText)
		if err != nil || len(files) != 1 || files[0].Path != saved.ConfigDigest+".tar" {
			t.Fatal(files, err)
		}
		layout, err := imagetar.NewLayout(img)
		if err != nil {
			t.Fatal(err)
		}
		want := layout.Reader(context.Background(), img.Layers)
		defer want.Close()
		got := keepfile.NewReader(context.Background(), keep.As("token"), files[0])
		defer got.Close()
		sameBytes(t, got, want)
	})
}

func sameBytes(t *rapid.T, got, want io.Reader) {
	buf1, buf2 := make([]byte, MiB), make([]byte, MiB)
	for pos := 0; ; pos += len(buf1) {
		n1, err1 := io.ReadFull(got, buf1)
		n2, err2 := io.ReadFull(want, buf2)
		if n1 != n2 || err1 != err2 || !bytes.Equal(buf1[:n1], buf2[:n2]) {
			t.Fatalf("different from byte %d on: %d %v, %d %v", pos, n1, err1, n2, err2)
		}
		if err1 != nil {
			return
		}
	}
}
