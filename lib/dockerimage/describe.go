// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"bytes"
	"context"
	"errors"
	"io"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// Describe reads what a Saver would have recorded of the image in a collection that
// some other program has stored: platform, digests, size, the portable data hash,
// and the layers if they have blocks of their own, as they do where a Saver has
// stored them. It opens the image as Open does, so it checks that it is the image
// that the file's name tells, but not the layers. The size needs the ends of
// layers; it is 0 if it would take more than most bytes in all. most bounds what is
// read from Keep, but for what is on its way when that is exceeded.
func Describe(ctx context.Context, keep keepfile.BlockReader, found Found, most int64) (Properties, error) {
	keep = &bounded{BlockReader: keep, left: most}
	img, err := open(ctx, keep, found)
	if err != nil {
		return Properties{}, err
	}
	saved := describe(img.Image)
	if saved.Hash, err = found.Hash(); err != nil {
		return Properties{}, err
	}
	p := Properties{Digests: saved.allDigests(), Platform: saved.Platform, PDH: found.PDH}
	if p.Size, err = img.unpackedSize(ctx, keep); err != nil && !errors.Is(err, errTooMuch) {
		return Properties{}, found.blame("", err)
	}
	if layout, err := imagetar.NewLayout(img.Image); err == nil && hasBlocks(img.file.Segments, layoutBlocks(layout)) {
		p.Layers = bigLayers(img.Layers)
	}
	return p, nil
}

// bigLayers are the digests of the layers that have blocks of their own where a
// Saver stores them.
func bigLayers(layers []imagetar.Layer) (big []string) {
	seen := map[string]bool{}
	for _, layer := range layers {
		if !seen[layer.Digest] && layer.Size >= imagetar.BigMember {
			big = append(big, layer.Digest)
		}
		seen[layer.Digest] = true
	}
	return big
}

// unpackedSize is the size of all layers unpacked, by the ends of those that are
// compressed.
func (s storedImage) unpackedSize(ctx context.Context, keep keepfile.BlockReader) (size int64, err error) {
	seen := map[string]bool{}
	for i, layer := range s.Layers {
		if seen[layer.Digest] {
			continue
		}
		seen[layer.Digest] = true
		var end tail
		if imagetar.CompressionOf(layer.MediaType) == imagetar.Gzip {
			if end, err = s.layers[i].end(ctx, keep, s.file); err != nil {
				return 0, err
			}
		}
		size += unpackedSize(layer, end)
	}
	return size, nil
}

// end is the end of what the member holds.
func (m *storedMember) end(ctx context.Context, keep keepfile.BlockReader, file keepfile.File) (end tail, err error) {
	if m.held() {
		end.add(m.start)
		return end, nil
	}
	// A skimmer, since it is one that reads no more of a block than it must.
	last := min(m.size, int64(len(end)))
	in := newSkimmer(ctx, keep, file)
	defer in.close()
	in.skip(m.offset + m.size - last)
	var buf bytes.Buffer
	if _, err := io.CopyN(&buf, in, last); err != nil {
		return end, err
	}
	end.add(buf.Bytes())
	return end, nil
}

// errTooMuch says that more would have to be read than is worth it.
var errTooMuch tooMuch

type tooMuch struct{}

func (tooMuch) Error() string { return "more of it would have to be read than is allowed" }

// Temporary tells it from Keep's trouble, which may pass.
func (tooMuch) Temporary() bool { return false }

// bounded reads so many bytes of blocks. It is for one reader at a time.
type bounded struct {
	keepfile.BlockReader
	left int64
}

func (b *bounded) BlockRead(ctx context.Context, opts arvados.BlockReadOptions) (int, error) {
	if b.left <= 0 {
		return 0, errTooMuch
	}
	opts.WriteTo = &boundedWriter{opts.WriteTo, b}
	n, err := b.BlockReader.BlockRead(ctx, opts)
	if b.left < 0 {
		err = errTooMuch
	}
	return n, err
}

type boundedWriter struct {
	io.Writer
	bound *bounded
}

func (w *boundedWriter) Write(p []byte) (int, error) {
	if w.bound.left -= int64(len(p)); w.bound.left < 0 {
		return 0, errTooMuch
	}
	return w.Writer.Write(p)
}
