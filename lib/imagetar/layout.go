// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package imagetar makes and reads the tar archives in which container images
// are kept. A Layout is the one archive that Arvados keeps of an image: the
// same bytes for the same image everywhere, computed from config, manifest and
// the layers' digests alone, so that writers can store its parts in any order
// and at the same time. ScanArchive reads the archives that other programs
// make (docker save, skopeo, podman, crane) in one pass.
//
// The package never extracts anything to disk, never contacts a registry or
// an engine, and never holds a layer in memory.
package imagetar

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// Layout is the archive of one image: layers base first, config, manifest,
// manifest.json, index.json, oci-layout. It is a docker-archive and an OCI
// layout at once. No name of the image is in it, so that a tag never changes
// the archive.
type Layout struct {
	Members        []Member
	ConfigDigest   string // identity of the image
	ManifestDigest string
	Size           int64 // of the whole archive in bytes, trailer included
}

// NewLayout computes the archive of img, whose layers must be gzip or plain: a
// caller decompresses any other layer, replaces it by the plain one and leaves
// Manifest nil. A layer that occurs twice is one member. Errors are
// *fault.Error of side Request, since no other try will make the image fit.
func NewLayout(img Image) (Layout, error) {
	cfg, err := parseConfig(img.Config)
	if err != nil {
		return Layout{}, err
	}
	if err := checkLayers(img.Layers, cfg); err != nil {
		return Layout{}, err
	}
	m := manifestOf(img)
	if img.Manifest != nil {
		err = checkManifest(img, m)
	} else {
		img.Manifest = marshal(m)
	}
	if err != nil {
		return Layout{}, err
	}
	img.ManifestMediaType = m.MediaType

	l := Layout{ConfigDigest: digestOf(img.Config), ManifestDigest: digestOf(img.Manifest)}
	seen := map[string]bool{}
	for i, layer := range img.Layers {
		if !seen[layer.Digest] {
			seen[layer.Digest] = true
			l.Members = append(l.Members, Member{Name: BlobName(layer.Digest), Size: layer.Size, Layer: i})
		}
	}
	for _, digest := range []string{l.ConfigDigest, l.ManifestDigest} {
		if seen[digest] {
			return Layout{}, invalid("lay out image", digest, "a layer has the digest of the image's own metadata")
		}
	}
	l.add(BlobName(l.ConfigDigest), img.Config)
	l.add(BlobName(l.ManifestDigest), img.Manifest)
	l.add("manifest.json", dockerManifest(l.ConfigDigest, img.Layers))
	l.add("index.json", ociIndex(img, cfg))
	l.add("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	for _, m := range l.Members {
		l.Size += m.Span()
	}
	l.Size += trailerSize
	return l, nil
}

func (l *Layout) add(name string, content []byte) {
	l.Members = append(l.Members, Member{Name: name, Size: int64(len(content)), Content: content, Layer: -1})
}

// Run is a sequence of members that is stored in Keep blocks of its own: the
// first block starts with the first member and the last one ends with the last
// member (and the trailer).
type Run struct {
	Members []Member
	Trailer int // zero bytes after the last member: 1024 in the last Run, else 0
}

// Runs divides the archive. A member of BigMember or more is a Run alone, so
// its Keep blocks depend on nothing else and images share them; the members in
// between are packed together.
func (l Layout) Runs() []Run {
	var runs []Run
	small := false // the last Run may take more members
	for _, m := range l.Members {
		big := m.Size >= BigMember
		if small && !big {
			last := &runs[len(runs)-1]
			last.Members = append(last.Members, m)
		} else {
			runs = append(runs, Run{Members: []Member{m}})
		}
		small = !big
	}
	// oci-layout is the last member and small, so the trailer never
	// becomes part of a layer's blocks.
	runs[len(runs)-1].Trailer = trailerSize
	return runs
}

// Span is the size of the Run in bytes, trailer included.
func (r Run) Span() int64 {
	n := int64(r.Trailer)
	for _, m := range r.Members {
		n += m.Span()
	}
	return n
}

// BlobName is the name of the member with the given well-formed digest.
func BlobName(digest string) string {
	return "blobs/" + strings.Replace(digest, ":", "/", 1)
}

func digestOf(content []byte) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256(content))
}
