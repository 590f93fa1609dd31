// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/stream"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// pushImage makes an image with one layer for each size, in bytes of gzip, and
// pushes it. A layer is random data and a third as much zeros: programs and
// text compress about so. The same seeds give the same layers.
func pushImage(ctx context.Context, ref string, seeds []uint64, sizes []int64) error {
	tag, err := name.NewTag(ref)
	if err != nil {
		return err
	}
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	for i, size := range sizes {
		layer := stream.NewLayer(layerTar(seeds[i], size), stream.WithCompressionLevel(1))
		if err := remote.WriteLayer(tag.Context(), layer, remote.WithContext(ctx)); err != nil {
			return fmt.Errorf("push layer %d of %s: %w", i, ref, err)
		}
		if image, err = mutate.Append(image, mutate.Addendum{Layer: layer, MediaType: types.OCILayer}); err != nil {
			return err
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return err
	}
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Created = v1.Time{Time: time.Unix(1700000000, 0)}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return err
	}
	return remote.Write(tag, image, remote.WithContext(ctx))
}

// layerTar streams the uncompressed layer.
func layerTar(seed uint64, size int64) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		tw := tar.NewWriter(w)
		err := tw.WriteHeader(&tar.Header{Name: fmt.Sprintf("data-%d", seed), Mode: 0644, Size: size + size/3})
		random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
		for _, part := range []io.Reader{io.LimitReader(random, size), io.LimitReader(zeros{}, size/3)} {
			if err == nil {
				_, err = io.CopyBuffer(struct{ io.Writer }{tw}, part, make([]byte, 1<<20))
			}
		}
		if err == nil {
			err = tw.Close()
		}
		w.CloseWithError(err)
	}()
	return r
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
