// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// describe is what config and source of an image tell about it.
func describe(img imagetar.Image) *Saved {
	var config struct {
		Created      string
		OS           string
		Architecture string
		Variant      string
	}
	// What is missing or of another type stays empty: the layout has
	// checked what matters.
	_ = json.Unmarshal(img.Config, &config)
	saved := &Saved{
		ConfigDigest: fmt.Sprintf("sha256:%x", sha256.Sum256(img.Config)),
		Digests:      img.Digests,
		LayerCount:   len(img.Layers),
	}
	if config.OS != "" && config.Architecture != "" {
		saved.Platform = config.OS + "/" + config.Architecture
		if config.Variant != "" {
			saved.Platform += "/" + config.Variant
		}
	}
	saved.Created, _ = parseTime(config.Created)
	return saved
}

// ownImage is the image as a collection of the owner has it, or nil. Its blocks
// are not read: what somebody keeps in an own collection is their own doing.
func (w *work) ownImage(ctx context.Context, img imagetar.Image) *Saved {
	if w.Owner == "" || len(img.Digests) == 0 {
		return nil
	}
	manifest := img.Digests[len(img.Digests)-1]
	found, err := FindByDigest(ctx, w.API, manifest, w.Owner)
	if err != nil {
		if ctx.Err() == nil {
			w.log.Warnf("cannot look for image %s in Keep: %v", manifest, err)
		}
		return nil
	}
	saved := describe(img)
	for _, f := range found {
		if err := f.isCopyOf(img, saved.ConfigDigest, w.ImageID); err != nil {
			w.log.Infof("collection %s is not used for image %s: %v", f.UUID, manifest, err)
			continue
		}
		saved.ManifestText, saved.PDH = f.ManifestText, f.PDH
		saved.Hash, _ = f.Hash() // which isCopyOf has looked at
		saved.Layers, saved.Size = f.Properties.Layers, f.Properties.Size
		saved.Reused = []Reuse{{Collection: f.UUID, Owner: f.OwnerUUID, Bytes: w.progress.now.Total}}
		for _, layer := range img.Layers {
			w.progress.set(layer.Digest, Finished, layer.Size, layer.Size)
		}
		return saved
	}
	return nil
}

// isCopyOf is nil if the collection is an unchanged one of just the image, as
// Save would make it.
func (f Found) isCopyOf(img imagetar.Image, configDigest string, id ImageID) error {
	if err := f.Check(); err != nil {
		return err
	}
	file, hash, err := f.image()
	switch {
	case err != nil:
		return err
	case f.Properties.PDH == "":
		return fmt.Errorf("it does not say that it is unchanged (property %s)", KeyPDH)
	case arvados.PortableDataHash(f.ManifestText) != f.PDH:
		return fmt.Errorf("its manifest is not that of its portable data hash")
	case hash != configDigest && !slices.Contains(f.Properties.Digests, configDigest):
		return fmt.Errorf("it has the image %s", file.Path)
	case (hash == configDigest) == (id == ByManifest):
		return fmt.Errorf("its file %s is not named by the image's %s", file.Path, cmp.Or(id, ByConfig))
	}
	for _, layer := range img.Layers {
		if imagetar.CompressionOf(layer.MediaType) == imagetar.Zstd {
			// What such layers unpack to is not known without reading
			// them, and neither is the layout.
			return nil
		}
	}
	layout, err := imagetar.NewLayout(img)
	if err != nil {
		return err
	}
	if hash != id.Of(layout) || !hasBlocks(file.Segments, layoutBlocks(layout)) || f.ManifestText != keepfile.ManifestText(file.Path, wholeBlocks(file.Segments)) {
		return fmt.Errorf("it holds the image in another form, perhaps from another source")
	}
	return nil
}

func wholeBlocks(segments []keepfile.Segment) []keepfile.Block {
	var blocks []keepfile.Block
	for _, s := range segments {
		blocks = append(blocks, keepfile.Block{Locator: s.Locator, Size: s.Length})
	}
	return blocks
}

// checkFirst refuses what NewLayout would refuse, before anything is read for
// it: layers that will be decompressed are taken as if they had been.
func checkFirst(img imagetar.Image) error {
	img.Layers = slices.Clone(img.Layers)
	for i, layer := range img.Layers {
		if imagetar.CompressionOf(layer.MediaType) == imagetar.Zstd {
			img.Layers[i] = plainLayer(layer, 0)
			img.Manifest = nil
		}
	}
	_, err := imagetar.NewLayout(img)
	return err
}
