// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing/iotest"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/lib/keepfile/keeptest"
	"go.uber.org/goleak"
	check "gopkg.in/check.v1"
)

type archiveSuite struct{ fixture }

var _ = check.Suite(&archiveSuite{})

func (s *archiveSuite) saveArchive(c *check.C, blocks int, archive []byte) *Saved {
	saved, err := s.cl.saver(blocks).SaveArchive(s.ctx, bytes.NewReader(archive))
	c.Assert(err, check.IsNil)
	return saved
}

// An archive that was made of a layout becomes the same collection as the image
// it was made of, whatever the budget and the order of its members.
func (s *archiveSuite) TestLikeTheImageItself(c *check.C) {
	img := randomimage.Of(
		randomimage.Layer(1, 5*MiB, imagetar.Gzip),
		randomimage.Layer(2, 3000, imagetar.Plain),
		randomimage.Layer(3, 66*MiB, imagetar.Plain),
		randomimage.Layer(4, 4*MiB-1, imagetar.Gzip),
		randomimage.Layer(5, 4*MiB, imagetar.Gzip),
	)
	archive := archiveOf(c, img)
	for _, blocks := range []int{1, 2, 4} {
		s.cl = newCluster()
		direct := s.save(c, blocks, img)
		for _, archive := range [][]byte{archive, reordered(c, archive)} {
			saved := s.saveArchive(c, blocks, archive)
			c.Check(saved.Downloaded, check.Equals, direct.Downloaded)
			c.Check(saved.ConfigDigest, check.Equals, direct.ConfigDigest)
			saved.Downloaded, saved.Written, saved.ManifestText = direct.Downloaded, direct.Written, direct.ManifestText
			c.Check(saved, check.DeepEquals, direct)
		}
		s.cl.valid(c, direct)
	}
}

// members of an archive, to be put together in another way.
func members(c *check.C, archive []byte) (headers []*tar.Header, contents [][]byte) {
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		hdr, err := r.Next()
		if err == io.EOF {
			return headers, contents
		}
		c.Assert(err, check.IsNil)
		content, err := io.ReadAll(r)
		c.Assert(err, check.IsNil)
		headers, contents = append(headers, hdr), append(contents, content)
	}
}

// reordered has the members the other way round, metadata first.
func reordered(c *check.C, archive []byte) []byte {
	headers, contents := members(c, archive)
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := len(headers) - 1; i >= 0; i-- {
		c.Assert(w.WriteHeader(headers[i]), check.IsNil)
		w.Write(contents[i])
	}
	c.Assert(w.Close(), check.IsNil)
	return buf.Bytes()
}

// with has one more member, in front.
func with(c *check.C, archive []byte, name string, content []byte) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	c.Assert(w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0644}), check.IsNil)
	w.Write(content)
	c.Assert(w.Flush(), check.IsNil)
	return append(buf.Bytes(), archive...)
}

// What the image does not need is not in the result.
func (s *archiveSuite) TestUnreferencedLayersAreDropped(c *check.C) {
	img := randomimage.New(1, 5*MiB, 3000)
	archive := archiveOf(c, img)
	want := s.save(c, 2, img).PDH
	for _, size := range []int64{3000, 6 * MiB} {
		body, err := randomimage.Layer(77, size, imagetar.Gzip).Open(s.ctx)
		c.Assert(err, check.IsNil)
		other, err := io.ReadAll(body)
		c.Assert(err, check.IsNil)
		saved := s.saveArchive(c, 2, with(c, archive, "other/layer.tar", other))
		c.Check(saved.PDH, check.Equals, want)
	}
}

// Small layers that do not fit in memory together wait in Keep.
func (s *archiveSuite) TestManySmallLayers(c *check.C) {
	var layers []imagetar.Layer
	for i := range 7 {
		layers = append(layers, randomimage.Layer(int64(i), 4*MiB-1, imagetar.Gzip))
	}
	img := randomimage.Of(layers...)
	parked := map[int]int{1: 3, 4: 0} // by budget: 16 MiB for each block
	for blocks, want := range parked {
		s.cl = newCluster()
		saved := s.saveArchive(c, blocks, archiveOf(c, img))
		stats := s.cl.keep.Stats()
		c.Check(stats.Writes, check.Equals, want+1)
		c.Check(stats.Reads, check.Equals, want)
		s.cl.valid(c, saved)
	}
}

func (s *archiveSuite) TestParkedLayerIsLost(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	s.cl.keep.Script = func(_ context.Context, op *keeptest.Op) error {
		if !op.Write {
			return keeptest.Error{Status: 404, Message: "not found"}
		}
		return nil
	}
	img := randomimage.New(1, 4*MiB-1, 4*MiB-1, 4*MiB-1, 4*MiB-1, 4*MiB-1)
	_, err := s.cl.saver(1).SaveArchive(s.ctx, bytes.NewReader(archiveOf(c, img)))
	c.Check(err, check.ErrorMatches, `keep: read block .*: 404 not found`)
}

// zstd layers, and an archive that is compressed as a whole.
func (s *archiveSuite) TestCompression(c *check.C) {
	img := randomimage.Of(
		randomimage.Layer(1, 5*MiB, imagetar.Zstd),
		randomimage.Layer(2, 66*MiB, imagetar.Zstd),
		randomimage.Layer(3, 3000, imagetar.Zstd),
		randomimage.Layer(4, 5*MiB, imagetar.Gzip))
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	put := func(name string, content []byte) {
		c.Assert(w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0600}), check.IsNil)
		w.Write(content)
	}
	names := []string{}
	for _, layer := range img.Layers {
		body, err := layer.Open(s.ctx)
		c.Assert(err, check.IsNil)
		content, err := io.ReadAll(body)
		c.Assert(err, check.IsNil)
		names = append(names, `"`+imagetar.BlobName(layer.Digest)+`"`)
		put(imagetar.BlobName(layer.Digest), content)
	}
	put("config.json", img.Config)
	put("manifest.json", []byte(`[{"Config":"config.json","RepoTags":["a:b"],"Layers":[`+strings.Join(names, ",")+`]}]`))
	c.Assert(w.Close(), check.IsNil)

	img.Manifest = nil
	want := s.save(c, 4, img)
	for _, archive := range [][]byte{buf.Bytes(), compressed(buf.Bytes())} {
		for _, blocks := range []int{1, 4} {
			saved := s.saveArchive(c, blocks, archive)
			c.Check(saved.PDH, check.Equals, want.PDH)
			c.Check(saved.Layers, check.DeepEquals, want.Layers)
			c.Check(saved.Size, check.Equals, want.Size)
			c.Check(saved.Digests, check.IsNil) // this archive does not tell
			s.cl.valid(c, saved)
		}
	}
}

func (s *archiveSuite) TestLayerThatOccursTwice(c *check.C) {
	for _, size := range []int64{3000, 5 * MiB} {
		layer := randomimage.Layer(1, size, imagetar.Plain)
		img := randomimage.Of(layer, layer)
		archive := archiveOf(c, img)
		_, contents := members(c, archive)
		archive = with(c, archive, "twice/layer.tar", contents[0])
		c.Check(s.saveArchive(c, 2, archive).PDH, check.Equals, s.save(c, 2, img).PDH)
	}
}

func (s *archiveSuite) TestFailures(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	img := randomimage.New(1, 5*MiB, 3000, 6*MiB)
	archive := archiveOf(c, img)
	engine := &fault.Error{Op: "save image", Side: fault.Engine, Err: errors.New("engine is gone"), Transient: true}
	for _, trial := range []struct {
		stream    func() io.Reader
		message   string
		side      fault.Side
		transient bool
	}{
		{func() io.Reader { return strings.NewReader("no tar") }, `request: read image archive: .*`, fault.Request, false},
		{func() io.Reader { return bytes.NewReader(nil) }, `request: read image archive.*`, fault.Request, false},
		{func() io.Reader { return bytes.NewReader(archive[:6*MiB]) }, `request: read image archive blobs/.*: it ends early .*`, fault.Request, false},
		{func() io.Reader { return io.MultiReader(bytes.NewReader(archive[:3*MiB]), iotest.ErrReader(engine)) }, `.*engine: save image: engine is gone`, fault.Engine, true},
		{func() io.Reader {
			return io.MultiReader(bytes.NewReader(archive[:9*MiB]), iotest.ErrReader(errors.New("bare")))
		}, `engine: read image: .*bare`, fault.Engine, true},
	} {
		for blocks := 1; blocks <= 4; blocks += 3 {
			_, err := s.cl.saver(blocks).SaveArchive(s.ctx, trial.stream())
			c.Check(err, check.ErrorMatches, trial.message)
			c.Check(fault.SideOf(err), check.Equals, trial.side)
			c.Check(fault.Transient(err), check.Equals, trial.transient)
		}
	}
	for good := range 3 {
		left := good
		s.cl.keep.Script = func(context.Context, *keeptest.Op) error {
			if left--; left < 0 {
				return keeptest.Error{Status: 503, Message: "unavailable"}
			}
			return nil
		}
		_, err := s.cl.saver(1).SaveArchive(s.ctx, bytes.NewReader(archive))
		c.Check(err, check.ErrorMatches, `keep: write block of \d+ bytes: 503 unavailable`)
	}
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err := s.cl.saver(1).SaveArchive(ctx, bytes.NewReader(archive))
	c.Check(errors.Is(err, context.Canceled), check.Equals, true)
}

func (s *archiveSuite) TestProgress(c *check.C) {
	img := randomimage.New(1, 5*MiB, 3000)
	saver := s.cl.saver(2)
	done := map[string]int64{}
	saver.Progress = func(p Progress) {
		c.Check(p.Total, check.Equals, int64(0))
		if p.State == Finished {
			done[p.Layer] = p.LayerDone
		}
	}
	_, err := saver.SaveArchive(s.ctx, bytes.NewReader(archiveOf(c, img)))
	c.Assert(err, check.IsNil)
	c.Check(done, check.DeepEquals, map[string]int64{
		imagetar.BlobName(img.Layers[0].Digest): 5 * MiB,
		imagetar.BlobName(img.Layers[1].Digest): 3000,
	})
}
