// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
)

// maxLayer keeps sums of sizes, in bytes, within an int64.
const maxLayer = 1 << 50

// config is what we need of an image config, OCI's or Docker's.
type config struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
	RootFS       struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// fill reads the config that m names and completes image.
func (ss *session) fill(ctx context.Context, image *Image, m *manifest, want wanted) error {
	const op = "read image config"
	if len(m.Layers) > imagetar.MaxLayers {
		return ss.invalid(manifestOp, m.digest, "its %d layers are more than the %d that an image may have", len(m.Layers), imagetar.MaxLayers)
	}
	digest, size := string(m.Config.Digest), m.Config.Size
	if !wellFormed.MatchString(digest) || size < 0 {
		return ss.invalid(manifestOp, m.digest, "digest or size of the config are malformed")
	}
	if size > imagetar.MaxConfig {
		return ss.invalid(op, digest, "its %d bytes are more than the %d that a config may have", size, imagetar.MaxConfig)
	}
	body, err := ss.open(ctx, op, digest, size)
	if err != nil {
		return err
	}
	defer body.Close()
	raw, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var cfg config
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return ss.invalid(op, digest, "it is not the JSON of a config: %w", err)
	}
	if len(cfg.RootFS.DiffIDs) != len(m.Layers) {
		return ss.invalid(op, digest, "it names %d layers (rootfs.diff_ids), but the manifest %d", len(cfg.RootFS.DiffIDs), len(m.Layers))
	}
	has := platform{cfg.OS, cfg.Architecture, cfg.Variant}
	if err := ss.checkPlatform(image, has, want); err != nil {
		return err
	}
	image.Platform = has.String()
	image.Config = raw
	image.Manifest, image.ManifestMediaType = m.raw, m.mediaType
	for i, layer := range m.Layers {
		digest, size := string(layer.Digest), layer.Size
		switch {
		case !wellFormed.MatchString(digest) || size < 0 || size > maxLayer:
			return ss.invalid(manifestOp, m.digest, "digest or size of layer %d are malformed", i+1)
		case !wellFormed.MatchString(cfg.RootFS.DiffIDs[i]):
			return ss.invalid(op, image.Digests[len(image.Digests)-1], "the diff ID of layer %d is malformed", i+1)
		case imagetar.CompressionOf(layer.MediaType) == imagetar.Other:
			return ss.artifact(ss.ref.Familiar(), fmt.Sprintf("the media type of layer %d is %s", i+1, layer.MediaType))
		}
		image.Layers = append(image.Layers, imagetar.Layer{
			MediaType: layer.MediaType,
			Digest:    digest,
			Size:      size,
			DiffID:    cfg.RootFS.DiffIDs[i],
			Open: func(ctx context.Context) (io.ReadCloser, error) {
				return ss.open(ctx, "read layer", digest, size)
			},
		})
	}
	return nil
}

// checkPlatform compares what the config says with what was wanted. Docker
// takes an image without an index for whatever platform it has; so do we, with
// a warning, unless a platform was asked for.
func (ss *session) checkPlatform(image *Image, has platform, want wanted) error {
	said := has
	if len(image.Digests) > 1 { // the index has told; configs may lack the variant
		said.variant = want.variant
	}
	if want.fits(said) >= 0 {
		return nil
	}
	if !want.explicit {
		ss.source.log.Warnf("%s is for %s, and there is none of this name for %s; it may not run here", ss.ref.Familiar(), has, want)
		return nil
	}
	return &fault.Error{Op: "choose platform", Side: fault.Request, Subject: ss.ref.Familiar(),
		Err:  errors.New("the image is for " + has.String() + ", not for " + want.String()),
		Hint: "ask for --platform " + has.String() + ", or name an image that exists for " + want.String()}
}
