// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"gopkg.in/check.v1"
)

// Errors of the stream are not the archive's fault: whoever made the stream
// knows the side.
func (s *scanSuite) TestErrorsOfTheStreamComeBack(c *check.C) {
	lost := &fault.Error{Side: fault.Engine, Err: errors.New("connection lost"), Transient: true}
	data := tarOf(newDockerSave(threeLayers())...)
	for n := 0; n <= len(data); n += 256 {
		_, err := imagetar.ScanArchive(io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(lost)), &memorySink{})
		c.Assert(err, check.ErrorMatches, "read image archive: engine: connection lost", check.Commentf("after %d bytes", n))
		c.Check(fault.SideOf(err), check.Equals, fault.Engine)
		c.Check(fault.Transient(err), check.Equals, true)
	}
}

// However much is cut off, nothing incomplete is taken for complete.
func (s *scanSuite) TestArchiveCutAnywhere(c *check.C) {
	data := archiveOf(c, threeLayers())
	for n := 0; n < len(data); n += 128 {
		_, err := scan(data[:n])
		if n < len(data)-512 { // half a trailer is one
			c.Check(err, check.ErrorMatches, "request: read image archive.* it ends early .*", check.Commentf("%d of %d bytes", n, len(data)))
		}
	}
}

type sinkFunc func(string, int64, io.Reader) (imagetar.BlobInfo, error)

func (f sinkFunc) Blob(name string, size int64, r io.Reader) (imagetar.BlobInfo, error) {
	return f(name, size, r)
}

func (s *scanSuite) TestErrorsOfTheSinkComeBack(c *check.C) {
	full := &fault.Error{Side: fault.Keep, Err: errors.New("disk full")}
	_, err := imagetar.ScanArchive(bytes.NewReader(tarOf(good()...)), sinkFunc(func(string, int64, io.Reader) (imagetar.BlobInfo, error) {
		return imagetar.BlobInfo{}, full
	}))
	c.Check(err, check.Equals, error(full))
}

func (s *scanSuite) TestSinkThatLeavesBytesIsNoticed(c *check.C) {
	for _, files := range [][]file{good(), {{name: "z", content: string(zstded(tarOf()))}}} {
		_, err := imagetar.ScanArchive(bytes.NewReader(tarOf(files...)), sinkFunc(func(name string, size int64, r io.Reader) (imagetar.BlobInfo, error) {
			n, err := io.CopyN(io.Discard, r, 10)
			return imagetar.BlobInfo{Digest: "sha256:" + hexA, Size: n}, err
		}))
		c.Check(err, check.ErrorMatches, "read image archive: the sink took 10 bytes of .* and left some")
	}
}

// A sink need not look for the end of what has a size.
func (s *scanSuite) TestSinkMayReadBySize(c *check.C) {
	_, err := imagetar.ScanArchive(bytes.NewReader(tarOf(good()...)), sinkFunc(func(name string, size int64, r io.Reader) (imagetar.BlobInfo, error) {
		content := make([]byte, size)
		_, err := io.ReadFull(r, content)
		return imagetar.BlobInfo{Digest: sum(content), Size: size}, err
	}))
	c.Check(err, check.IsNil)
}

// What cannot be a layer never reaches the sink.
func (s *scanSuite) TestSinkGetsLayersOnly(c *check.C) {
	sink := &memorySink{}
	img := threeLayers()
	_, err := imagetar.ScanArchive(bytes.NewReader(tarOf(append(newDockerSave(img), file{name: "README", content: "text"})...)), sink)
	c.Assert(err, check.IsNil)
	c.Check(sink.blobs, check.HasLen, 2)
}

// BenchmarkScanArchive has a sink that does nothing: hashing and storing are
// the sink's.
func BenchmarkScanArchive(b *testing.B) {
	img := randomimage.New(1, 32<<20, 32<<20)
	l, err := imagetar.NewLayout(img)
	if err != nil {
		b.Fatal(err)
	}
	data, err := io.ReadAll(l.Reader(b.Context(), img.Layers))
	if err != nil {
		b.Fatal(err)
	}
	digests := map[string]string{}
	for _, layer := range img.Layers {
		digests[imagetar.BlobName(layer.Digest)] = layer.Digest
	}
	sink := sinkFunc(func(name string, size int64, r io.Reader) (imagetar.BlobInfo, error) {
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, make([]byte, 1<<20))
		return imagetar.BlobInfo{Digest: digests[name], Size: n}, err
	})
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := imagetar.ScanArchive(bytes.NewReader(data), sink); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	data := make([]byte, 64<<20)
	digest := sum(data)
	buf := make([]byte, 1<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		r := imagetar.Verify(io.NopCloser(bytes.NewReader(data)), digest, int64(len(data)))
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buf); err != nil {
			b.Fatal(err)
		}
	}
}
