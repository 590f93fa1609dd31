// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar_test

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"strings"
	"testing/iotest"

	"git.arvados.org/arvados.git/lib/imagetar"
	"gopkg.in/check.v1"
)

// memorySink keeps what it is given. It is also the model of a sink: it reads
// to the end and reports what it read.
type memorySink struct {
	blobs map[string][]byte
	sizes map[string]int64
}

func (s *memorySink) Blob(name string, size int64, r io.Reader) (imagetar.BlobInfo, error) {
	content, err := io.ReadAll(r)
	if err != nil {
		return imagetar.BlobInfo{}, err
	}
	if s.blobs == nil {
		s.blobs, s.sizes = map[string][]byte{}, map[string]int64{}
	}
	s.blobs[name], s.sizes[name] = content, size
	return imagetar.BlobInfo{Digest: sum(content), Size: int64(len(content))}, nil
}

// file is a member of an archive that a test makes.
type file struct {
	name, content string
	link          string // target; makes it a symbolic link
	typeflag      byte   // 0: by link
}

func tarOf(files ...file) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		hdr := &tar.Header{Typeflag: f.typeflag, Name: f.name, Linkname: f.link, Size: int64(len(f.content)), Mode: 0644}
		if hdr.Typeflag == 0 {
			hdr.Typeflag = tar.TypeReg
			if f.link != "" {
				hdr.Typeflag = tar.TypeSymlink
			}
		}
		if err := w.WriteHeader(hdr); err != nil {
			panic(err)
		}
		if _, err := io.WriteString(w, f.content); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

func layerBytes(layer imagetar.Layer) string {
	body, err := layer.Open(context.Background())
	if err != nil {
		panic(err)
	}
	defer body.Close()
	content, err := io.ReadAll(body)
	if err != nil {
		panic(err)
	}
	return string(content)
}

func hexOf(digest string) string { return strings.TrimPrefix(digest, "sha256:") }

var _ = check.Suite(&scanSuite{})

type scanSuite struct{}

// checkScan scans the archive in both orders and in several packings, and wants
// img's config and layers each time. It returns what was found.
func checkScan(c *check.C, files []file, img imagetar.Image) imagetar.Archive {
	reversed := make([]file, len(files))
	for i, f := range files {
		reversed[len(files)-1-i] = f
	}
	var archive imagetar.Archive
	for _, data := range [][]byte{
		tarOf(reversed...), gzipped(tarOf(files...)), zstded(tarOf(files...)), tarOf(files...),
	} {
		sink := &memorySink{}
		var err error
		archive, err = imagetar.ScanArchive(iotest.HalfReader(bytes.NewReader(data)), sink)
		c.Assert(err, check.IsNil)
		checkArchive(c, archive, sink, img)
	}
	return archive
}

// checkArchive: the archive is img's, and the sink has the layers.
func checkArchive(c *check.C, archive imagetar.Archive, sink *memorySink, img imagetar.Image) {
	c.Check(string(archive.Image.Config), check.Equals, string(img.Config))
	c.Check(archive.Platform, check.Equals, "linux/amd64")
	c.Assert(archive.Image.Layers, check.HasLen, len(img.Layers))
	c.Assert(archive.Members, check.HasLen, len(img.Layers))
	for i, layer := range archive.Image.Layers {
		c.Check(layer.DiffID, check.Equals, img.Layers[i].DiffID)
		content, ok := sink.blobs[archive.Members[i]]
		c.Check(ok, check.Equals, true, check.Commentf("the sink has no %s", archive.Members[i]))
		c.Check(layer.Digest, check.Equals, sum(content))
		c.Check(layer.Size, check.Equals, int64(len(content)))
		c.Check(imagetar.CompressionOf(layer.MediaType), check.Equals, imagetar.Sniff(content))
		if size := sink.sizes[archive.Members[i]]; size != -1 {
			c.Check(size, check.Equals, layer.Size)
		}
	}
	l, err := imagetar.NewLayout(archive.Image)
	c.Assert(err, check.IsNil)
	c.Check(l.ConfigDigest, check.Equals, sum(img.Config))
}
