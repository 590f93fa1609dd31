// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"slices"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// plainLayer is a layer as it is once decompressed to size bytes.
func plainLayer(layer imagetar.Layer, size int64) imagetar.Layer {
	layer.MediaType, layer.Digest, layer.Size = ocispec.MediaTypeImageLayer, layer.DiffID, size
	return layer
}

// unpackLayers makes zstd layers plain: not every engine loads them. Their size
// and thereby the layout is known only when they have been decompressed, so big
// ones are stored right away, and small ones read a second time later.
func (w *work) unpackLayers(ctx context.Context, img imagetar.Image) (imagetar.Image, error) {
	sizes := map[string]*int64{} // by digest as the source has it
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(w.jobs)
	for _, layer := range img.Layers {
		if imagetar.CompressionOf(layer.MediaType) != imagetar.Zstd || sizes[layer.Digest] != nil {
			continue
		}
		size := new(int64)
		sizes[layer.Digest] = size
		g.Go(func() (err error) {
			*size, err = w.unpackLayer(gctx, layer)
			return err
		})
	}
	if err := g.Wait(); err != nil || len(sizes) == 0 {
		return img, err
	}
	img.Layers = slices.Clone(img.Layers)
	for i, layer := range img.Layers {
		if size := sizes[layer.Digest]; size != nil {
			img.Layers[i] = plainLayer(layer, *size)
			img.Layers[i].Open = func(ctx context.Context) (io.ReadCloser, error) {
				return openUnpacked(ctx, layer)
			}
		}
	}
	img.Manifest = nil // it describes the compressed layers
	return img, nil
}

// unpackLayer decompresses a layer, stores it if it is big, and returns its
// size.
func (w *work) unpackLayer(ctx context.Context, layer imagetar.Layer) (int64, error) {
	got, err := w.reuse(ctx, layer, layer.DiffID, -1)
	if err != nil {
		return 0, err
	}
	if got != nil {
		return got.size, nil
	}
	body, err := openUnpacked(ctx, layer)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	return w.storeUnknown(ctx, body, func() string { return layer.DiffID })
}

// storeUnknown stores a layer of which nothing is known until it has been read,
// when digest is called. It returns its size, and stores nothing if that makes
// it a small layer.
func (w *work) storeUnknown(ctx context.Context, body io.Reader, digest func() string) (int64, error) {
	out, err := w.writer.Run(ctx, tarHeader)
	if err != nil {
		return 0, err
	}
	defer out.Abort()
	size, err := out.ReadFrom(body)
	if err != nil || size < imagetar.BigMember {
		return size, err
	}
	m := imagetar.Member{Name: imagetar.BlobName(digest()), Size: size}
	if _, err := out.Write(m.Padding()); err != nil {
		return 0, err
	}
	blocks, err := out.Close(m.Header())
	if err != nil {
		return 0, err
	}
	w.mtx.Lock()
	defer w.mtx.Unlock()
	w.blocks[digest()] = blocks
	return size, nil
}

// openUnpacked opens a zstd layer decompressed. The reader ends with an error
// unless layer and what it unpacks to have their digests.
func openUnpacked(ctx context.Context, layer imagetar.Layer) (io.ReadCloser, error) {
	body, err := layer.Open(ctx)
	if err != nil {
		return nil, err
	}
	u := &unpacked{layer: layer, body: &errKeeper{ReadCloser: body}, hash: sha256.New()}
	if u.plain, err = imagetar.Decompress(u.body, imagetar.Zstd); err != nil {
		body.Close()
		return nil, u.fault(err)
	}
	return u, nil
}

type unpacked struct {
	layer imagetar.Layer
	body  *errKeeper
	plain io.ReadCloser
	hash  hash.Hash
}

func (u *unpacked) Read(p []byte) (int, error) {
	n, err := u.plain.Read(p)
	u.hash.Write(p[:n])
	switch {
	case err == nil:
		return n, nil
	case err != io.EOF:
		return n, u.fault(err)
	}
	if _, err := io.Copy(io.Discard, u.body); err != nil {
		return n, err
	}
	if got := fmt.Sprintf("sha256:%x", u.hash.Sum(nil)); got != u.layer.DiffID {
		return n, u.fault(fmt.Errorf("it unpacks to %s but the config says %s", got, u.layer.DiffID))
	}
	return n, io.EOF
}

func (u *unpacked) Close() error {
	u.plain.Close()
	return u.body.Close()
}

// fault is the error of the image source if there was one, which decompression
// may have disguised, and else that of an image that is not in order.
func (u *unpacked) fault(err error) error {
	if u.body.err != nil {
		return u.body.err
	}
	return &fault.Error{Op: "unpack layer", Side: fault.Request, Subject: u.layer.Digest, Err: err,
		Hint: "the image is damaged: choose another one, or push it again"}
}

// errKeeper remembers how reading ended, unless well.
type errKeeper struct {
	io.ReadCloser
	err error
}

func (k *errKeeper) Read(p []byte) (int, error) {
	n, err := k.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		k.err = err
	}
	return n, err
}
