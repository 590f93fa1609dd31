// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"

	"git.arvados.org/arvados.git/lib/imagetar"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	check "gopkg.in/check.v1"
)

// testLabel marks the images of a test, so that it finds what is left of them
// on an engine that others use at the same time.
const testLabel = "org.arvados.engine-test"

// testImage is an image with one layer, ready to be pushed.
type testImage struct {
	label    string
	config   []byte
	layer    []byte
	diffID   string
	manifest []byte
}

// busyboxImage is an image that can run: one static program. The label makes it
// different from all others; of its layer, only a small file differs.
func busyboxImage(c *check.C, label, platform string) testImage {
	program, err := os.ReadFile("/bin/busybox")
	c.Assert(err, check.IsNil, check.Commentf("these tests need a static busybox: apt-get install busybox-static"))
	return newImage(c, label, platform, []file{{"bin/", nil}, {"bin/busybox", program}, {"bin/sh", nil}, {"tmp/", nil}, {"label", []byte(label)}})
}

// bulkyImage has a layer of some size that does not compress.
func bulkyImage(c *check.C, label string, size int) testImage {
	content := make([]byte, size)
	seed := sha256.Sum256([]byte(label))
	_, err := rand.NewChaCha8(seed).Read(content)
	c.Assert(err, check.IsNil)
	return newImage(c, label, "linux/amd64", []file{{"bulk", content}})
}

type file struct {
	name    string
	content []byte
}

func newImage(c *check.C, label, platform string, files []file) testImage {
	var plain, packed bytes.Buffer
	tw := tar.NewWriter(&plain)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Mode: 0755, Size: int64(len(f.content))}
		switch f.name {
		case "bin/sh":
			header.Typeflag, header.Linkname = tar.TypeSymlink, "busybox"
		case "tmp/":
			header.Mode = 01777
		}
		c.Assert(tw.WriteHeader(header), check.IsNil)
		_, err := tw.Write(f.content)
		c.Assert(err, check.IsNil)
	}
	c.Assert(tw.Close(), check.IsNil)
	zw, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	c.Assert(err, check.IsNil)
	_, err = zw.Write(plain.Bytes())
	c.Assert(err, check.IsNil)
	c.Assert(zw.Close(), check.IsNil)
	img := testImage{label: label, layer: packed.Bytes(), diffID: digestOf(plain.Bytes())}
	config := ocispec.Image{
		Platform: parsePlatform(platform),
		Config: ocispec.ImageConfig{
			Env:    []string{"PATH=/bin"},
			Cmd:    []string{"sh", "-c", "busybox cat /label"},
			Labels: map[string]string{testLabel: label},
		},
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.Digest(img.diffID)}},
	}
	img.config = marshal(config)
	manifest := ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: toDigest(img.config), Size: int64(len(img.config))},
		Layers:    []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: toDigest(img.layer), Size: int64(len(img.layer))}},
	}
	manifest.SchemaVersion = 2
	img.manifest = marshal(manifest)
	return img
}

// archive is the image in our layout, as it is stored in Keep.
func (img testImage) archive(c *check.C) []byte {
	layers := []imagetar.Layer{{
		MediaType: ocispec.MediaTypeImageLayerGzip,
		Digest:    digestOf(img.layer),
		Size:      int64(len(img.layer)),
		DiffID:    img.diffID,
		Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(img.layer)), nil
		},
	}}
	layout, err := imagetar.NewLayout(imagetar.Image{Config: img.config, Manifest: img.manifest, ManifestMediaType: ocispec.MediaTypeImageManifest, Layers: layers})
	c.Assert(err, check.IsNil)
	stream := layout.Reader(context.Background(), layers)
	defer stream.Close()
	tar, err := io.ReadAll(stream)
	c.Assert(err, check.IsNil)
	return tar
}

// hashSink reads layers and remembers nothing of them but their digests.
type hashSink struct{}

func (hashSink) Blob(_ string, _ int64, r io.Reader) (imagetar.BlobInfo, error) {
	hash := sha256.New()
	n, err := io.Copy(hash, r)
	return imagetar.BlobInfo{Digest: fmt.Sprintf("sha256:%x", hash.Sum(nil)), Size: n}, err
}

func digestOf(content []byte) string { return toDigest(content).String() }

func toDigest(content []byte) digest.Digest { return digest.FromBytes(content) }

func marshal(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}
