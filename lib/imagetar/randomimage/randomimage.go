// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package randomimage makes images for tests: layers of an exact size with
// incompressible content, the same for the same seed on every machine. Layers
// are generated while they are read, so that large ones take neither memory
// nor disk. The images load in an engine but hold nothing that could run.
package randomimage

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"

	"git.arvados.org/arvados.git/lib/imagetar"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MinLayer is the smallest size of a layer, in bytes.
const MinLayer = 2048

// New makes an image with gzip layers of the given sizes in bytes, base first.
// Layers of equal seed and size are equal between images only if they are at
// the same place; use Layer and Of for images that share layers otherwise.
func New(seed int64, layerSizes ...int64) imagetar.Image {
	var layers []imagetar.Layer
	for i, size := range layerSizes {
		layers = append(layers, Layer(seed+int64(i), size, imagetar.Gzip))
	}
	return Of(layers...)
}

// Layer makes a layer whose blob is exactly size bytes long. It reads the layer
// once, for the digest.
func Layer(seed, size int64, c imagetar.Compression) imagetar.Layer {
	if size < MinLayer {
		panic(fmt.Sprintf("a random layer has at least %d bytes, not %d", MinLayer, size))
	}
	g := generator{seed: seed, size: size, compression: c}
	blob, tar := sha256.New(), sha256.New()
	n, err := io.Copy(blob, g.blob(tar))
	if err != nil || n != size {
		panic(fmt.Sprintf("generated %d of %d bytes: %v", n, size, err))
	}
	digest := fmt.Sprintf("sha256:%x", blob.Sum(nil))
	return imagetar.Layer{
		MediaType: mediaTypes[c],
		Digest:    digest,
		Size:      size,
		DiffID:    fmt.Sprintf("sha256:%x", tar.Sum(nil)),
		Open: func(ctx context.Context) (io.ReadCloser, error) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			return imagetar.Verify(untilDone(ctx, g.blob(io.Discard)), digest, size), nil
		},
	}
}

// Of makes an image for linux/amd64 of the given layers, base first, with an
// OCI manifest.
func Of(layers ...imagetar.Layer) imagetar.Image {
	cfg := map[string]any{
		"architecture": "amd64",
		"os":           "linux",
		"created":      "2026-01-02T03:04:05Z",
		"config":       map[string]any{"Cmd": []string{"/bin/true"}},
	}
	diffIDs := []string{}
	blobs := []map[string]any{}
	for _, layer := range layers {
		diffIDs = append(diffIDs, layer.DiffID)
		blobs = append(blobs, descriptor(layer.MediaType, layer.Digest, layer.Size))
	}
	cfg["rootfs"] = map[string]any{"type": "layers", "diff_ids": diffIDs}
	config := marshal(cfg)
	manifest := marshal(map[string]any{
		"schemaVersion": 2,
		"mediaType":     ocispec.MediaTypeImageManifest,
		"config":        descriptor(ocispec.MediaTypeImageConfig, digestOf(config), int64(len(config))),
		"layers":        blobs,
	})
	return imagetar.Image{
		Config:            config,
		Manifest:          manifest,
		ManifestMediaType: ocispec.MediaTypeImageManifest,
		Digests:           []string{digestOf(manifest)},
		Layers:            layers,
	}
}

var mediaTypes = map[imagetar.Compression]string{
	imagetar.Plain: ocispec.MediaTypeImageLayer,
	imagetar.Gzip:  ocispec.MediaTypeImageLayerGzip,
	imagetar.Zstd:  ocispec.MediaTypeImageLayerZstd,
}

func descriptor(mediaType, digest string, size int64) map[string]any {
	return map[string]any{"mediaType": mediaType, "digest": digest, "size": size}
}

func digestOf(content []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(content)) }

func marshal(v any) []byte {
	buf, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of strings and numbers
	}
	return buf
}

// untilDone makes r fail once ctx is done, as a download would.
func untilDone(ctx context.Context, r io.Reader) io.ReadCloser {
	return io.NopCloser(readFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	}))
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }
