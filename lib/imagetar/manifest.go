// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar

import (
	"encoding/json"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The types below are written with their fields in this order. They are not
// those of the image-spec module, since the archive's bytes must not change
// with a new version of it.

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// dockerImage is an entry of manifest.json, as "docker save" writes it.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// manifestOf is the OCI manifest of an image that brings none, or what the
// manifest it brings should say.
func manifestOf(img Image) manifest {
	m := manifest{
		SchemaVersion: 2,
		MediaType:     ocispec.MediaTypeImageManifest,
		Config:        descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digestOf(img.Config), Size: int64(len(img.Config))},
		Layers:        []descriptor{},
	}
	if img.Manifest != nil {
		m.MediaType = img.ManifestMediaType
	}
	for _, layer := range img.Layers {
		m.Layers = append(m.Layers, descriptor{MediaType: layerType(CompressionOf(layer.MediaType)), Digest: layer.Digest, Size: layer.Size})
	}
	return m
}

// checkManifest makes sure that the manifest img brings describes img, want
// being what it should say.
func checkManifest(img Image, want manifest) error {
	op, subject := "check image manifest", digestOf(img.Manifest)
	if len(img.Manifest) > MaxManifest {
		return invalid(op, subject, "%d bytes are more than the %d that a manifest may have", len(img.Manifest), MaxManifest)
	}
	var m manifest
	if err := json.Unmarshal(img.Manifest, &m); err != nil {
		return invalid(op, subject, "it is not the JSON of a manifest: %w", err)
	}
	switch {
	case m.SchemaVersion != 2:
		return invalid(op, subject, "schema version %d instead of 2", m.SchemaVersion)
	case want.MediaType != ocispec.MediaTypeImageManifest && want.MediaType != dockerManifestType:
		return invalid(op, subject, "the media type %.100q is not that of an image manifest", want.MediaType)
	case m.MediaType != "" && m.MediaType != want.MediaType:
		return invalid(op, subject, "it was offered as %s but calls itself %.100q", want.MediaType, m.MediaType)
	case m.Config.Digest != want.Config.Digest || m.Config.Size != want.Config.Size:
		return invalid(op, subject, "it names the config %.100q of %d bytes, but the image's is %s of %d bytes",
			m.Config.Digest, m.Config.Size, want.Config.Digest, want.Config.Size)
	case len(m.Layers) != len(want.Layers):
		return invalid(op, subject, "it names %d layers, but the image has %d", len(m.Layers), len(want.Layers))
	}
	for i, layer := range m.Layers {
		if layer.Digest != want.Layers[i].Digest || layer.Size != want.Layers[i].Size || layer.MediaType != img.Layers[i].MediaType {
			return invalid(op, subject, "layer %d is %.100q of %d bytes (%.100q), but the image's is %s of %d bytes (%s)",
				i+1, layer.Digest, layer.Size, layer.MediaType, want.Layers[i].Digest, want.Layers[i].Size, img.Layers[i].MediaType)
		}
	}
	return nil
}

// dockerManifest is manifest.json. RepoTags stays null: names are properties
// of the collection.
func dockerManifest(configDigest string, layers []Layer) []byte {
	entry := dockerImage{Config: BlobName(configDigest), Layers: []string{}}
	for _, layer := range layers {
		entry.Layers = append(entry.Layers, BlobName(layer.Digest))
	}
	return marshal([]dockerImage{entry})
}

// ociIndex is index.json, pointing at img.Manifest.
func ociIndex(img Image, cfg config) []byte {
	d := descriptor{MediaType: img.ManifestMediaType, Digest: digestOf(img.Manifest), Size: int64(len(img.Manifest))}
	if cfg.OS != "" && cfg.Architecture != "" {
		d.Platform = &cfg.platform
	}
	return marshal(index{SchemaVersion: 2, MediaType: ocispec.MediaTypeImageIndex, Manifests: []descriptor{d}})
}

// marshal cannot fail for the types of this file.
func marshal(v any) []byte {
	buf, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return buf
}
