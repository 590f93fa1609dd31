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
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
	check "gopkg.in/check.v1"
)

type unpackSuite struct {
	fixture
	big, huge, small imagetar.Layer // zstd
}

var _ = check.Suite(&unpackSuite{})

func (s *unpackSuite) SetUpSuite(*check.C) {
	s.big = randomimage.Layer(1, 5*MiB, imagetar.Zstd)
	s.huge = randomimage.Layer(2, 66*MiB, imagetar.Zstd)
	s.small = randomimage.Layer(3, 5000, imagetar.Zstd)
}

// unpackedImage is the image as it is to be stored.
func unpackedImage(c *check.C, img imagetar.Image) imagetar.Image {
	img.Layers = append([]imagetar.Layer(nil), img.Layers...)
	for i, layer := range img.Layers {
		if imagetar.CompressionOf(layer.MediaType) != imagetar.Zstd {
			continue
		}
		body, err := layer.Open(context.Background())
		c.Assert(err, check.IsNil)
		d, err := zstd.NewReader(body)
		c.Assert(err, check.IsNil)
		content, err := io.ReadAll(d)
		c.Assert(err, check.IsNil)
		img.Layers[i] = plainLayer(layer, int64(len(content)))
		img.Layers[i].Open = func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(content)), nil
		}
		img.Manifest = nil
	}
	return img
}

// zstd layers are stored under their diff IDs as if they had never been
// compressed, with any budget, big ones and small ones and beside gzip.
func (s *unpackSuite) TestZstdLayers(c *check.C) {
	gzip := randomimage.Layer(4, 4*MiB, imagetar.Gzip)
	img := randomimage.Of(s.small, s.big, gzip, s.huge, randomimage.Layer(5, 3000, imagetar.Zstd), s.big)
	want := unpackedImage(c, img)
	for _, blocks := range []int{1, 2, 4} {
		s.cl = newCluster()
		saved := s.save(c, blocks, img)
		c.Check(bytes.Equal(s.cl.contentOf(c, saved.ManifestText), archiveOf(c, want)), check.Equals, true)
		c.Check(saved.Layers, check.DeepEquals, []string{s.big.DiffID, gzip.Digest, s.huge.DiffID})
		c.Check(saved.Digests, check.DeepEquals, img.Digests) // as the registry knows it
		c.Check(saved.Size > 75*MiB, check.Equals, true)
		s.cl.valid(c, saved)
	}
}

func (s *unpackSuite) TestZstdLayersAreReused(c *check.C) {
	s.cl.addImage(bob, s.save(c, 2, randomimage.Of(s.huge, s.big)))
	saved := s.save(c, 2, forbid(randomimage.Of(s.small, s.big, s.huge), 1, 2))
	c.Check(saved.Reused, check.HasLen, 2)
	c.Check(saved.Downloaded, check.Equals, int64(2*5000)) // the small one is read twice
	s.cl.valid(c, saved)
}

// An image that has a layer plain and one that has it by zstd share its blocks.
func (s *unpackSuite) TestPlainAndZstdShareBlocks(c *check.C) {
	plain := unpackedImage(c, randomimage.Of(s.big))
	s.cl.addImage(bob, s.save(c, 2, plain))
	saved := s.save(c, 2, forbid(randomimage.Of(s.small, s.big), 1))
	c.Check(saved.Reused, check.HasLen, 1)
	s.cl.valid(c, saved)
}

// layerOf is a zstd layer with this content.
func layerOf(content []byte, diffID string) imagetar.Layer {
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(content))
	return imagetar.Layer{
		MediaType: "application/vnd.oci.image.layer.v1.tar+zstd",
		Digest:    digest,
		Size:      int64(len(content)),
		DiffID:    diffID,
		Open: func(context.Context) (io.ReadCloser, error) {
			return imagetar.Verify(io.NopCloser(bytes.NewReader(content)), digest, int64(len(content))), nil
		},
	}
}

func compressed(content []byte) []byte {
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	defer encoder.Close()
	return encoder.EncodeAll(content, nil)
}

func (s *unpackSuite) TestImagesThatAreWrong(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	diffID := "sha256:" + strings.Repeat("6", 64)
	for _, trial := range []struct {
		layer   imagetar.Layer
		message string
	}{
		{layerOf(compressed([]byte("some")), diffID), `request: unpack layer sha256:.*: it unpacks to sha256:.* but the config says ` + diffID + ` \(.*\)`},
		{layerOf(compressed(make([]byte, 9*MiB)), diffID), `request: unpack layer sha256:.*: it unpacks to .*`},
		{layerOf([]byte("no zstd at all, though it says so"), diffID), `request: unpack layer sha256:.*: .*magic number.*`},
		{layerOf(compressed(make([]byte, 9*MiB))[:200], diffID), `request: unpack layer sha256:.*`},
		{layerOf(nil, diffID), `request: unpack layer sha256:.*`},
	} {
		_, err := s.cl.saver(1).Save(s.ctx, randomimage.Of(s.big, trial.layer, s.small))
		c.Check(err, check.ErrorMatches, trial.message)
		c.Check(fault.Transient(err), check.Equals, false)
	}
}

// Trouble of the source remains that, however decompression takes it.
func (s *unpackSuite) TestSourceFails(c *check.C) {
	broken := &fault.Error{Op: "read layer", Side: fault.Registry, Err: errors.New("connection lost"), Transient: true}
	for _, good := range []int64{0, 3, 1000, 4*MiB + 1} {
		layer := s.big
		open := layer.Open
		layer.Open = func(ctx context.Context) (io.ReadCloser, error) {
			body, err := open(ctx)
			return &failAfter{ReadCloser: body, left: good, err: broken}, err
		}
		_, err := s.cl.saver(1).Save(s.ctx, randomimage.Of(layer))
		c.Check(err, check.Equals, broken)
	}
}

// failAfter passes on so many bytes and fails then.
type failAfter struct {
	io.ReadCloser
	left int64
	err  error
}

func (f *failAfter) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, f.err
	}
	n, err := f.ReadCloser.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	return n, err
}

// What can be refused without reading layers is.
func (s *unpackSuite) TestRefusedBeforeDownload(c *check.C) {
	for message, change := range map[string]func(img *imagetar.Image){
		`request: .* the image has 1 layers but its config names 2 .*`: func(img *imagetar.Image) { img.Layers = img.Layers[:1] },
		`request: .* its diff ID is .* but the config names .*`:        func(img *imagetar.Image) { img.Layers[1].DiffID = img.Layers[0].DiffID },
		`request: read image config .*`:                                func(img *imagetar.Image) { img.Config = []byte("{}") },
		`request: .* must be decompressed .*`:                          func(img *imagetar.Image) { img.Layers[0].MediaType = "text/plain" },
	} {
		img := forbid(randomimage.Of(s.big, s.small), 0, 1)
		change(&img)
		_, err := s.cl.saver(2).Save(s.ctx, img)
		c.Check(err, check.ErrorMatches, message)
	}
}
