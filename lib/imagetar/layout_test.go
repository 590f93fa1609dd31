// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with a file in testdata. These bytes are part of the
// portable data hash of every image: a change of theirs ends all sharing with
// what is in Keep already.
func golden(c *check.C, name string, got []byte) {
	name = filepath.Join("testdata", name)
	if *update {
		c.Assert(os.MkdirAll("testdata", 0777), check.IsNil)
		c.Assert(os.WriteFile(name, got, 0666), check.IsNil)
	}
	want, err := os.ReadFile(name)
	c.Assert(err, check.IsNil)
	c.Check(string(got), check.Equals, string(want), check.Commentf("%s differs", name))
}

var _ = check.Suite(&layoutSuite{})

type layoutSuite struct{}

func mustLayout(c *check.C, img imagetar.Image) imagetar.Layout {
	l, err := imagetar.NewLayout(img)
	c.Assert(err, check.IsNil)
	return l
}

func archiveOf(c *check.C, img imagetar.Image) []byte {
	r := mustLayout(c, img).Reader(context.Background(), img.Layers)
	defer r.Close()
	buf, err := io.ReadAll(r)
	c.Assert(err, check.IsNil)
	return buf
}

func content(l imagetar.Layout, name string) []byte {
	for _, m := range l.Members {
		if m.Name == name {
			return m.Content
		}
	}
	return nil
}

func sum(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// threeLayers has one of each kind of layer, and one layer twice.
func threeLayers() imagetar.Image {
	plain := randomimage.Layer(1, 3072, imagetar.Plain)
	return randomimage.Of(plain, randomimage.Layer(2, 5000, imagetar.Gzip), plain)
}

// generated is the same image from a source without a manifest.
func generated() imagetar.Image {
	img := threeLayers()
	img.Manifest, img.ManifestMediaType = nil, ""
	return img
}

func (s *layoutSuite) TestArchiveNeverChanges(c *check.C) {
	l := mustLayout(c, generated())
	golden(c, "manifest.json", content(l, "manifest.json"))
	golden(c, "index.json", content(l, "index.json"))
	golden(c, "oci-layout", content(l, "oci-layout"))
	golden(c, "generated-manifest", content(l, imagetar.BlobName(l.ManifestDigest)))
	golden(c, "header", l.Members[0].Header())
	golden(c, "members", []byte(listing(l)))
	golden(c, "archive.sha256", []byte(sum(archiveOf(c, generated()))+"\n"))
	golden(c, "archive-with-manifest.sha256", []byte(sum(archiveOf(c, threeLayers()))+"\n"))
}

func listing(l imagetar.Layout) string {
	var text strings.Builder
	for _, m := range l.Members {
		fmt.Fprintf(&text, "%s %d %d\n", m.Name, m.Size, m.Layer)
	}
	return text.String()
}

func (s *layoutSuite) TestMembersAreLayersBaseFirstThenMetadata(c *check.C) {
	img := threeLayers()
	l := mustLayout(c, img)
	var names []string
	for _, m := range l.Members {
		names = append(names, m.Name)
	}
	c.Check(names, check.DeepEquals, []string{
		imagetar.BlobName(img.Layers[0].Digest),
		imagetar.BlobName(img.Layers[1].Digest),
		// The third layer is the first again.
		imagetar.BlobName(l.ConfigDigest),
		imagetar.BlobName(l.ManifestDigest),
		"manifest.json", "index.json", "oci-layout",
	})
	c.Check(l.Members[0].Layer, check.Equals, 0)
	c.Check(l.Members[1].Layer, check.Equals, 1)
	c.Check(l.Members[2].Layer, check.Equals, -1)
	c.Check(content(l, imagetar.BlobName(l.ConfigDigest)), check.DeepEquals, img.Config)
	c.Check(content(l, imagetar.BlobName(l.ManifestDigest)), check.DeepEquals, img.Manifest)
	c.Check(l.ConfigDigest, check.Equals, sum(img.Config))
	c.Check(l.ManifestDigest, check.Equals, sum(img.Manifest))
}

func (s *layoutSuite) TestManifestJSONListsALayerAsOftenAsTheConfig(c *check.C) {
	img := threeLayers()
	var images []struct{ Layers []string }
	c.Assert(json.Unmarshal(content(mustLayout(c, img), "manifest.json"), &images), check.IsNil)
	c.Check(images[0].Layers, check.DeepEquals, []string{
		imagetar.BlobName(img.Layers[0].Digest), imagetar.BlobName(img.Layers[1].Digest), imagetar.BlobName(img.Layers[0].Digest)})
}

func (s *layoutSuite) TestImageWithoutLayers(c *check.C) {
	l := mustLayout(c, randomimage.New(1))
	c.Check(l.Members, check.HasLen, 5)
	c.Check(string(content(l, "manifest.json")), check.Equals,
		`[{"Config":"`+imagetar.BlobName(l.ConfigDigest)+`","RepoTags":null,"Layers":[]}]`)
	c.Check(l.Runs(), check.HasLen, 1)
}

func (s *layoutSuite) TestPlatformOfTheIndexIsThatOfTheConfig(c *check.C) {
	for _, t := range []struct{ config, platform string }{
		{`{"os":"linux","architecture":"arm","variant":"v7"`, `,"platform":{"architecture":"arm","os":"linux","variant":"v7"}`},
		{`{"os":"windows","architecture":"amd64","os.version":"10.0.1"`, `,"platform":{"architecture":"amd64","os":"windows","os.version":"10.0.1"}`},
		{`{"os":"linux"`, ``},
		{`{"created":"2026-01-01T00:00:00Z"`, ``},
	} {
		config := t.config + `,"rootfs":{"type":"layers","diff_ids":[]}}`
		l := mustLayout(c, imagetar.Image{Config: []byte(config)})
		c.Check(string(content(l, "index.json")), check.Matches, `.*"size":\d+\Q`+t.platform+`\E}\]}`)
	}
}

func (s *layoutSuite) TestArchiveIsATarOfItsMembers(c *check.C) {
	img := threeLayers()
	l := mustLayout(c, img)
	archive := archiveOf(c, img)
	c.Check(int64(len(archive)), check.Equals, l.Size)
	r := tar.NewReader(bytes.NewReader(archive))
	for _, m := range l.Members {
		hdr, err := r.Next()
		c.Assert(err, check.IsNil)
		c.Check(hdr.Name, check.Equals, m.Name)
		body, err := io.ReadAll(r)
		c.Assert(err, check.IsNil)
		if hex, ok := strings.CutPrefix(m.Name, "blobs/sha256/"); ok {
			c.Check(sum(body), check.Equals, "sha256:"+hex)
		} else {
			c.Check(body, check.DeepEquals, m.Content)
		}
	}
	_, err := r.Next()
	c.Check(err, check.Equals, io.EOF)
}

func (s *layoutSuite) TestMediaTypesOfDockerAreKept(c *check.C) {
	img := randomimage.New(1, 5000)
	img.Layers[0].MediaType = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	img.ManifestMediaType = "application/vnd.docker.distribution.manifest.v2+json"
	img.Manifest = []byte(strings.NewReplacer(
		"application/vnd.oci.image.manifest.v1+json", img.ManifestMediaType,
		"application/vnd.oci.image.layer.v1.tar+gzip", img.Layers[0].MediaType,
	).Replace(string(img.Manifest)))
	l := mustLayout(c, img)
	c.Check(content(l, imagetar.BlobName(l.ManifestDigest)), check.DeepEquals, img.Manifest)
	c.Check(string(content(l, "index.json")), check.Matches, `.*"manifests":\[{"mediaType":"application/vnd.docker.distribution.manifest.v2\+json".*`)

	// Made here, the manifest is OCI whatever the source's types.
	img.Manifest = nil
	l = mustLayout(c, img)
	c.Check(string(content(l, imagetar.BlobName(l.ManifestDigest))), check.Not(check.Matches), ".*docker.*")
}

// zstd cannot be kept; the caller says what the layer is when decompressed.
func (s *layoutSuite) TestZstdLayerIsLaidOutDecompressed(c *check.C) {
	zstd := randomimage.Layer(1, 5000, imagetar.Zstd)
	img := randomimage.Of(zstd)
	_, err := imagetar.NewLayout(img)
	c.Check(err, check.ErrorMatches, `request: check image layers sha256:\w{64}: a layer of media type ".*zstd" must be decompressed before it is stored .*`)

	plain := randomimage.Layer(1, 5000, imagetar.Plain)
	plain.Digest, plain.DiffID = zstd.DiffID, zstd.DiffID
	img.Layers, img.Manifest = []imagetar.Layer{plain}, nil
	c.Check(mustLayout(c, img).Members[0].Name, check.Equals, imagetar.BlobName(zstd.DiffID))
}
