// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar

import (
	"encoding/json"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxIndexDepth counts indexes within indexes; real archives have at
	// most one below index.json.
	maxIndexDepth = 4
	// maxManifests counts the entries of all of them.
	maxManifests = 1000

	dockerIndexType = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// foundManifest is an image manifest of an OCI archive.
type foundManifest struct {
	manifest // MediaType is always set
	raw      []byte
	digests  []string  // index, if it was in one, and manifest
	names    []string  // from annotations
	platform *platform // from its index; may be nil
}

func (m foundManifest) configName() string { return BlobName(m.Config.Digest) }

func (m foundManifest) layerNames() []string {
	names := []string{}
	for _, layer := range m.Layers {
		names = append(names, BlobName(layer.Digest))
	}
	return names
}

// manifests are the image manifests that index.json leads to and the archive
// has.
func (es entries) manifests() ([]foundManifest, error) {
	raw, err := es.metadata("index.json", "index.json")
	if err != nil {
		return nil, err
	}
	w := indexWalk{entries: es}
	return w.found, w.index("index.json", raw, nil, nil, 1)
}

// indexWalk collects manifests from indexes within indexes.
type indexWalk struct {
	entries entries
	found   []foundManifest
	seen    int
}

// index walks one index. digests and names are those of the index itself.
func (w *indexWalk) index(what string, raw []byte, digests, names []string, depth int) error {
	var idx index
	if err := json.Unmarshal(raw, &idx); err != nil {
		return invalid(opScan, what, "it is malformed: %w", err)
	}
	if depth > maxIndexDepth {
		return invalid(opScan, what, "more than %d indexes are in each other", maxIndexDepth)
	}
	for _, d := range idx.Manifests {
		if w.seen++; w.seen > maxManifests {
			return invalid(opScan, what, "the archive lists more than %d manifests", maxManifests)
		}
		if err := w.descriptor(d, digests, append(slices.Clone(names), annotatedName(d)...), depth); err != nil {
			return err
		}
	}
	return nil
}

func (w *indexWalk) descriptor(d descriptor, digests, names []string, depth int) error {
	if isAttestation(d) {
		return nil
	}
	if !wellFormed.MatchString(d.Digest) {
		return invalid(opScan, "index.json", "the digest %.100q is malformed", d.Digest)
	}
	e := w.entries[BlobName(d.Digest)]
	if e == nil || e.json == nil {
		// An index lists platforms that were not saved; if nothing else
		// is there, ociImage says so.
		return nil
	}
	digests = append(slices.Clone(digests), d.Digest)
	switch d.MediaType {
	case ocispec.MediaTypeImageIndex, dockerIndexType:
		return w.index(d.Digest, e.json, digests, names, depth+1)
	case ocispec.MediaTypeImageManifest, dockerManifestType:
	default:
		return nil
	}
	for i, old := range w.found {
		if old.digests[len(old.digests)-1] == d.Digest {
			// There is one descriptor for each name of an image.
			w.found[i].names = append(old.names, names...)
			return nil
		}
	}
	m := foundManifest{raw: e.json, digests: digests, names: names, platform: d.Platform}
	if err := json.Unmarshal(e.json, &m.manifest); err != nil {
		return invalid(opScan, d.Digest, "the manifest is malformed: %w", err)
	}
	m.MediaType = d.MediaType
	for _, blob := range append([]descriptor{m.Config}, m.Layers...) {
		if !wellFormed.MatchString(blob.Digest) {
			return invalid(opScan, d.Digest, "the manifest has the malformed digest %.100q", blob.Digest)
		}
	}
	w.found = append(w.found, m)
	return nil
}

// ociImage is the image that index.json describes.
func (es entries) ociImage(manifests []foundManifest) (found, error) {
	var complete []foundManifest
	var names []string
	for _, m := range manifests {
		// Engines save the manifests of all platforms, but the config of
		// the one they have.
		if es[m.configName()] != nil {
			complete = append(complete, m)
			names = append(names, m.names...)
			if m.platform != nil {
				names = append(names, m.platform.String())
			}
		}
	}
	switch {
	case len(complete) == 1:
		m := complete[0]
		return found{config: m.configName(), layers: m.layerNames(), repoTags: m.names, manifest: &m}, nil
	case len(complete) > 1:
		return found{}, severalImages(len(complete), names)
	case len(manifests) > 0:
		return found{}, missing("config", manifests[0].configName())
	}
	return found{}, missing("manifest", "blobs/sha256/<manifest named in index.json>")
}

// isAttestation recognises what BuildKit puts beside images.
func isAttestation(d descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] != "" || d.Platform != nil && d.Platform.OS == "unknown"
}

// annotatedName is the image's name by containerd's annotation, or else by
// OCI's, which may also be a mere tag.
func annotatedName(d descriptor) []string {
	if name := d.Annotations["io.containerd.image.name"]; name != "" {
		return []string{name}
	}
	if name := d.Annotations[ocispec.AnnotationRefName]; strings.Contains(name, ":") {
		return []string{name}
	}
	return nil
}
