// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"git.arvados.org/arvados.git/lib/fault"
)

// Limits on what an image may claim. Registries and clients agree on 4 MiB for
// manifests; nobody states one for configs, which are of the same kind.
const (
	MaxConfig   = 8 << 20
	MaxManifest = 4 << 20
	MaxLayers   = 1000
	maxLayer    = 1 << 50 // bytes; keeps sums of sizes within int64
)

var wellFormed = regexp.MustCompile(`^sha256:[a-f0-9]{64}$`)

// config is what the layout needs to know of an image configuration (OCI image
// spec, config.md; Docker's is the same).
type config struct {
	platform
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// platform in the form and order of an OCI index.
type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	OSVersion    string `json:"os.version,omitempty"`
	Variant      string `json:"variant,omitempty"`
}

// String is "linux/arm/v7".
func (p platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

func parseConfig(raw []byte) (config, error) {
	var cfg config
	op, subject := "read image config", digestOf(raw)
	if len(raw) > MaxConfig {
		return cfg, invalid(op, subject, "%d bytes are more than the %d that a config may have", len(raw), MaxConfig)
	}
	if err := json.Unmarshal(raw, &cfg); err != nil {
		return cfg, invalid(op, subject, "it is not the JSON of a config: %w", err)
	}
	if cfg.RootFS.Type != "layers" {
		return cfg, &fault.Error{Op: op, Side: fault.Request, Subject: subject,
			Err:  fmt.Errorf("it describes no container image (rootfs.type is %.40q, not \"layers\")", cfg.RootFS.Type),
			Hint: "name a container image; other artifacts, such as charts and signatures, cannot be run"}
	}
	for _, id := range cfg.RootFS.DiffIDs {
		if !wellFormed.MatchString(id) {
			return cfg, invalid(op, subject, "the diff ID %.100q is malformed", id)
		}
	}
	return cfg, nil
}

// checkLayers makes sure that the layers are those of the config and can be
// stored as they are. Digests are well-formed afterwards.
func checkLayers(layers []Layer, cfg config) error {
	const op = "check image layers"
	if len(layers) > MaxLayers {
		return invalid(op, "", "%d layers are more than the %d that an image may have", len(layers), MaxLayers)
	}
	if len(layers) != len(cfg.RootFS.DiffIDs) {
		return invalid(op, "", "the image has %d layers but its config names %d (rootfs.diff_ids)", len(layers), len(cfg.RootFS.DiffIDs))
	}
	first := map[string]Layer{}
	for i, layer := range layers {
		if !wellFormed.MatchString(layer.Digest) {
			return invalid(op, "", "the digest %.100q of layer %d is malformed", layer.Digest, i+1)
		}
		same, twice := first[layer.Digest]
		first[layer.Digest] = layer
		c := CompressionOf(layer.MediaType)
		switch {
		case foreign(layer.MediaType):
			return &fault.Error{Op: op, Side: fault.Request, Subject: layer.Digest,
				Err:  errors.New("the layer may not be redistributed (media type " + layer.MediaType + ")"),
				Hint: "choose an image without such layers; they occur in images for Windows"}
		case c != Gzip && c != Plain:
			return invalid(op, layer.Digest, "a layer of media type %.100q must be decompressed before it is stored", layer.MediaType)
		case layer.Size < 0 || layer.Size > maxLayer:
			return invalid(op, layer.Digest, "the size %d is impossible", layer.Size)
		case layer.DiffID != cfg.RootFS.DiffIDs[i]:
			return invalid(op, layer.Digest, "its diff ID is %.100q but the config names %s", layer.DiffID, cfg.RootFS.DiffIDs[i])
		case c == Plain && layer.Digest != layer.DiffID:
			return invalid(op, layer.Digest, "the layer is not compressed, so its digest should be the diff ID %s", layer.DiffID)
		case twice && (same.Size != layer.Size || same.DiffID != layer.DiffID || CompressionOf(same.MediaType) != c):
			return invalid(op, layer.Digest, "the layer occurs twice with different properties")
		}
	}
	return nil
}

// invalid is the error for an image that contradicts itself or a limit.
func invalid(op, subject, format string, args ...any) error {
	return &fault.Error{Op: op, Side: fault.Request, Subject: subject, Err: fmt.Errorf(format, args...),
		Hint: "the image is damaged or not made by the usual rules: choose another one, or build or push it again"}
}
