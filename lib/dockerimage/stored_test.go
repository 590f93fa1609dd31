// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/lib/keepfile/keeptest"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"go.uber.org/goleak"
	check "gopkg.in/check.v1"
)

type storedSuite struct{ fixture }

var _ = check.Suite(&storedSuite{})

func configDigest(img imagetar.Image) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256(img.Config))
}

// put stores an archive as the image's collection.
func (s *storedSuite) put(c *check.C, img imagetar.Image, archive []byte) Found {
	return Found{UUID: "zzzzz-4zz18-000000000000000", ManifestText: s.store(c, FileName(configDigest(img)), archive)}
}

func (s *storedSuite) open(c *check.C, found Found) imagetar.Image {
	img, err := Open(s.ctx, s.cl.client(), found)
	c.Assert(err, check.IsNil)
	return img
}

// same checks that got is want, with layers that can be read. Only its layout
// tells whether images are the same whose layers were packed anew.
func (s *storedSuite) same(c *check.C, got, want imagetar.Image) {
	c.Check(string(got.Config), check.Equals, string(want.Config))
	c.Check(string(got.Manifest), check.Equals, string(want.Manifest))
	c.Assert(got.Layers, check.HasLen, len(want.Layers))
	for i, layer := range got.Layers {
		for range 2 {
			c.Check(bytes.Equal(readLayer(c, layer), readLayer(c, want.Layers[i])), check.Equals, true)
		}
		layer.Open, want.Layers[i].Open = nil, nil
		c.Check(layer, check.DeepEquals, want.Layers[i])
	}
	layout, err := imagetar.NewLayout(got)
	c.Assert(err, check.IsNil)
	c.Check(layout.ConfigDigest, check.Equals, configDigest(want))
}

func copyOf(img imagetar.Image) imagetar.Image {
	img.Layers = append([]imagetar.Layer{}, img.Layers...)
	return img
}

// What a Saver stores comes out as it went in, to the last byte of the archive.
func (s *storedSuite) TestOpenOfSave(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	twice := randomimage.Layer(7, 5*MiB, imagetar.Gzip)
	for _, img := range []imagetar.Image{
		randomimage.Of(),
		randomimage.New(1, 2048),
		randomimage.New(1, 3000, 5*MiB, 4*MiB-1, 4*MiB, 66*MiB),
		randomimage.Of(twice, randomimage.Layer(2, 66*MiB, imagetar.Plain), twice),
		randomimage.New(1, 4*MiB-1, 4*MiB-1, 4*MiB-1, 4*MiB-1, 4*MiB-1, 4*MiB-1), // more than are held
	} {
		saved := s.save(c, 4, img)
		found := Found{UUID: "u", ManifestText: saved.ManifestText}
		got := s.open(c, found)
		c.Check(got.Digests, check.DeepEquals, img.Digests)
		c.Check(bytes.Equal(archiveOf(c, got), s.cl.contentOf(c, saved.ManifestText)), check.Equals, true)
		s.same(c, got, copyOf(img))
	}
}

func (s *storedSuite) TestDialects(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	base := randomimage.Layer(1, 5*MiB+512, imagetar.Plain)
	small := randomimage.Layer(3, 4096, imagetar.Plain)
	plain := randomimage.Of(base, randomimage.Layer(2, 7*MiB, imagetar.Plain), base, small)
	large := randomimage.Of(base, randomimage.Layer(2, 66*MiB, imagetar.Plain), base, small)
	zipped := randomimage.New(4, 5*MiB, 3000, 6*MiB)
	for label, trial := range map[string]struct {
		img      imagetar.Image
		archive  []byte
		manifest bool // the archive has it
	}{
		"docker save, old":        {large, oldDockerSave(c, large), false},
		"OCI layout":              {zipped, ociLayout(c, zipped), true},
		"OCI layout, plain":       {plain, ociLayout(c, plain), true},
		"crane":                   {zipped, archiveByName(c, zipped, craneName), false},
		"names that tell nothing": {zipped, archiveByName(c, zipped, longName), false},
		"the same, plain":         {randomimage.Of(base, small), archiveByName(c, randomimage.Of(base, small), longName), false},
		"in another order":        {zipped, reordered(c, archiveOf(c, zipped)), true},
		"with more in it":         {zipped, with(c, archiveOf(c, zipped), "other", bytes.Repeat([]byte("z"), 5*MiB)), true},
	} {
		c.Log(label)
		img := copyOf(trial.img)
		if !trial.manifest {
			img.Manifest, img.Digests = nil, nil
		}
		got := s.open(c, s.put(c, img, trial.archive))
		c.Check(got.Digests, check.DeepEquals, img.Digests)
		s.same(c, got, img)
	}
}

// Layers that engines may not take come unpacked.
func (s *storedSuite) TestZstd(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	img := randomimage.Of(randomimage.Layer(1, 5*MiB, imagetar.Zstd), randomimage.Layer(2, 3000, imagetar.Zstd), randomimage.Layer(3, 5*MiB, imagetar.Gzip))
	got := s.open(c, s.put(c, img, ociLayout(c, img)))
	want := s.cl.contentOf(c, s.save(c, 4, img).ManifestText)
	c.Check(bytes.Equal(archiveOf(c, got), want), check.Equals, true)
	c.Check(got.Digests, check.DeepEquals, img.Digests)
}

// Engines with containerd's store call an image by its manifest.
func (s *storedSuite) TestFileNamedByManifest(c *check.C) {
	img := randomimage.New(1, 3000)
	found := Found{UUID: "u", ManifestText: s.store(c, FileName(img.Digests[0]), ociLayout(c, img))}
	s.same(c, s.open(c, found), img)
}

// To open an image takes its headers and metadata, not its layers.
func (s *storedSuite) TestLittleIsRead(c *check.C) {
	img := randomimage.New(1, 66*MiB, 3000, 130*MiB, 5*MiB, 2048)
	plain := randomimage.Of(randomimage.Layer(1, 130*MiB, imagetar.Plain), randomimage.Layer(2, 3072, imagetar.Plain))
	for _, trial := range []struct {
		found Found
		most  int64
	}{
		{Found{ManifestText: s.save(c, 4, img).ManifestText}, 500 << 10},
		// Blocks that end anywhere are read up to the last header in them,
		// here 2 MiB into the third.
		{s.put(c, plain, oldDockerSave(c, plain)), 5 * MiB},
	} {
		before := s.cl.keep.Stats().BytesRead
		got := s.open(c, trial.found)
		read := s.cl.keep.Stats().BytesRead - before
		c.Check(read < trial.most, check.Equals, true, check.Commentf("%d bytes", read))
		c.Check(len(got.Layers) > 0, check.Equals, true)
	}
}

func (s *storedSuite) TestCollectionsThatAreWrong(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	img := randomimage.New(1, 5*MiB, 3000)
	archive := archiveOf(c, img)
	other := randomimage.New(2, 5*MiB)
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	w.Write(archive)
	w.Close()
	two := s.put(c, img, archive)
	two.ManifestText += "./sub" + strings.TrimPrefix(two.ManifestText, ".")
	for problem, found := range map[string]Found{
		`.*its file is called sha256:.* but holds image sha256:.*`:                             s.put(c, other, archive),
		`.*the content of the member is sha256:.*`:                                             s.put(c, img, bytes.Replace(archive, []byte(`"architecture"`), []byte(`"ARCHITECTURE"`), 1)),
		`.*has no member "blobs/sha256/.*`:                                                     s.put(c, img, archive[512+5*MiB:]),
		`.*its archive ends early, within "blobs/.*`:                                           s.put(c, img, archive[:MiB]),
		`.*read image archive: it ends early.*`:                                                s.put(c, img, archive[:5*MiB+512]),
		`.*it has neither manifest.json nor index.json.*`:                                      s.put(c, img, make([]byte, 1024)),
		`.*its archive is compressed as a whole.*`:                                             s.put(c, img, zipped.Bytes()),
		`.*read image archive.*`:                                                               s.put(c, img, bytes.Repeat([]byte("no tar "), 1000)),
		`.*the image has .* layers.*|.*names .* layers.*|.*lists . layers.*`:                   s.put(c, other, archiveByName(c, imagetar.Image{Config: other.Config, Layers: img.Layers}, craneName)),
		`.*it has 2 files and folders instead of one file.*`:                                   two,
		`.*its file "x.tar" has not the name of an image.*`:                                    {UUID: two.UUID, ManifestText: s.store(c, "x.tar", archive)},
		`request: read image in collection zzzzz-4zz18-0*: keep: read manifest.*|.*manifest.*`: {UUID: two.UUID, ManifestText: "nonsense"},
	} {
		_, err := Open(s.ctx, s.cl.client(), found)
		c.Check(err, check.ErrorMatches, problem)
		c.Check(err, check.ErrorMatches, `(request|keep): read image in collection zzzzz-4zz18-000000000000000: .*`)
		c.Check(fault.Transient(err), check.Equals, false)
	}
}

// A layer that is not what it should be is found out while it is read.
func (s *storedSuite) TestLayersThatAreWrong(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	plain := randomimage.Of(randomimage.Layer(1, 5*MiB, imagetar.Plain))
	for _, archive := range [][]byte{oldDockerSave(c, plain), archiveOf(c, plain)} {
		archive[4*MiB] ^= 1
		got := s.open(c, s.put(c, plain, archive))
		body, err := got.Layers[0].Open(s.ctx)
		c.Assert(err, check.IsNil)
		_, err = io.Copy(io.Discard, body)
		c.Check(err, check.ErrorMatches, `request: read layer sha256:.* in collection zzzzz-4zz18-0+: content of sha256:.*: it is sha256:.* \(.*store the image again\)`)
		body.Close()
		layout, err := imagetar.NewLayout(got)
		c.Assert(err, check.IsNil)
		all := layout.Reader(s.ctx, got.Layers)
		_, err = io.Copy(io.Discard, all)
		c.Check(fault.SideOf(err), check.Equals, fault.Request)
		all.Close()
	}
}

func (s *storedSuite) TestKeepFails(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	img := randomimage.New(1, 5*MiB)
	found := s.put(c, img, archiveOf(c, img))
	got := s.open(c, found)
	for status, transient := range map[int]bool{404: false, 503: true} {
		s.cl.keep.Script = func(context.Context, *keeptest.Op) error { return keeptest.Error{Status: status, Message: "failed"} }
		_, err := Open(s.ctx, s.cl.client(), found)
		c.Check(err, check.ErrorMatches, `keep: read image in collection zzzzz-4zz18-0+: .*keep: read block [0-9a-f]{32}\+\d+: \d+ failed`)
		c.Check(fault.Transient(err), check.Equals, transient)
		body, err := got.Layers[0].Open(s.ctx)
		c.Assert(err, check.IsNil)
		_, err = io.Copy(io.Discard, body)
		c.Check(err, check.ErrorMatches, `keep: read layer sha256:.* in collection .*: keep: read block .*`)
		c.Check(fault.Transient(err), check.Equals, transient)
		body.Close()
	}
	s.cl.keep.Script = func(_ context.Context, op *keeptest.Op) error { op.Data = op.Data[:300]; return nil }
	_, err := Open(s.ctx, s.cl.client(), found)
	c.Check(fault.SideOf(err), check.Equals, fault.Keep)
	s.cl.keep.Script = nil
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err = Open(ctx, s.cl.client(), found)
	c.Check(err, check.ErrorMatches, `.*context canceled`)
}

func (s *storedSuite) TestCut(c *check.C) {
	file := keepfile.File{Segments: []keepfile.Segment{{Locator: "a", Offset: 5, Length: 10}, {Locator: "b", Length: 0}, {Locator: "c", Offset: 1, Length: 3}}}
	for _, trial := range []struct {
		offset, length int64
		want           []keepfile.Segment
	}{
		{0, 13, []keepfile.Segment{file.Segments[0], file.Segments[2]}},
		{2, 3, []keepfile.Segment{{Locator: "a", Offset: 7, Length: 3}}},
		{9, 2, []keepfile.Segment{{Locator: "a", Offset: 14, Length: 1}, {Locator: "c", Offset: 1, Length: 1}}},
		{10, 3, []keepfile.Segment{file.Segments[2]}},
		{13, 0, nil},
		{4, 0, nil},
	} {
		c.Check(cut(file, trial.offset, trial.length).Segments, check.DeepEquals, trial.want)
	}
}

// FuzzOpen: whatever is in the file, what Open makes of it is what ScanArchive
// makes of all of it, or else some layer cannot be read.
func FuzzOpen(f *testing.F) {
	c := &check.C{}
	img := randomimage.Of(randomimage.Layer(1, 2048, imagetar.Plain), randomimage.Layer(2, 3072, imagetar.Plain))
	f.Add(archiveOf(c, img))
	f.Add(oldDockerSave(c, img))
	f.Add(ociLayout(c, img))
	f.Add(archiveByName(c, img, longName))
	f.Fuzz(func(t *testing.T, archive []byte) {
		keep := keeptest.New().As("")
		var blocks []keepfile.Block
		for rest := archive; len(rest) > 0; rest = rest[min(len(rest), 5000):] {
			part := rest[:min(len(rest), 5000)]
			resp, err := keep.BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: part})
			if err != nil {
				t.Fatal(err)
			}
			blocks = append(blocks, keepfile.Block{Locator: resp.Locator, Size: int64(len(part))})
		}
		found := Found{ManifestText: keepfile.ManifestText(FileName(configDigest(img)), blocks)}
		got, err := Open(context.Background(), keep, found)
		want, wantErr := imagetar.ScanArchive(bytes.NewReader(archive), sink(func(_ string, _ int64, r io.Reader) (imagetar.BlobInfo, error) {
			hash := sha256.New()
			n, err := io.Copy(hash, r)
			return imagetar.BlobInfo{Digest: fmt.Sprintf("sha256:%x", hash.Sum(nil)), Size: n}, err
		}))
		if err != nil {
			return
		}
		for i := range got.Layers {
			body, err := got.Layers[i].Open(context.Background())
			if err != nil {
				return
			}
			defer body.Close()
			if _, err := io.Copy(io.Discard, body); err != nil {
				return
			}
			got.Layers[i].Open = nil
		}
		if wantErr != nil || !reflect.DeepEqual(got, want.Image) {
			t.Fatalf("%+v instead of %+v (%v)", got, want.Image, wantErr)
		}
	})
}
