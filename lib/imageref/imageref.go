// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package imageref reads names of container images as users write them after
// "docker pull", and gives them back in their full and their familiar form. It
// follows the grammar and the defaults of docker (distribution/reference), and
// says what is wrong with a name that docker would merely call invalid. It
// never asks a registry and never decides which image a name means.
package imageref

import (
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

const (
	// defaultDomain stands for Docker Hub in full names.
	defaultDomain = "docker.io"
	// officialPrefix starts the path of Docker Hub's official images.
	officialPrefix = "library/"
	// defaultTag is meant when a name has neither tag nor digest.
	defaultTag = "latest"
)

// Ref is the full name of an image. At least one of Tag and Digest is there; a
// registry that is given both goes by the digest.
type Ref struct {
	Domain string // "docker.io", "registry.example:5000"
	Path   string // "library/alpine"
	Tag    string // "3.22", "" when only a digest was given
	Digest string // "sha256:<64 hex>" of a manifest or index, or ""
}

// Parse reads a name as docker does: the domain is docker.io if none is given,
// names of one word there are below library/, and the tag is latest if there is
// neither tag nor digest. Errors are *fault.Error of side Request, with a hint
// that tells the user how to mend the name.
func Parse(s string) (Ref, error) {
	if err := refused(s); err != nil {
		return Ref{}, err
	}
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return Ref{}, mistake(s, err)
	}
	ref := Ref{Domain: reference.Domain(named), Path: reference.Path(named)}
	if ref.Domain == "" {
		// The grammar takes what docker took for the host, but is none,
		// for a part of the path: "reg_x.y/foo".
		return Ref{}, mistake(s, nil)
	}
	if tagged, ok := named.(reference.Tagged); ok {
		ref.Tag = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		if digested.Digest().Algorithm() != digest.SHA256 {
			return Ref{}, badDigest(s)
		}
		ref.Digest = digested.Digest().String()
	}
	if ref.Tag == "" && ref.Digest == "" {
		ref.Tag = defaultTag
	}
	if identifier.MatchString(ref.Familiar()) {
		return Ref{}, ambiguous(s)
	}
	return ref, nil
}

// Name is the full name without tag and digest: "docker.io/library/alpine".
func (r Ref) Name() string { return r.Domain + "/" + r.Path }

// String is the full name, which Parse reads back as the same Ref:
// "docker.io/library/alpine:3.22@sha256:…".
func (r Ref) String() string { return r.Name() + r.suffix() }

// Familiar is the name as docker shows it: "alpine:3.22@sha256:…".
func (r Ref) Familiar() string { return r.familiarName() + r.suffix() }

// RepoTag is the familiar name and the tag, "alpine:3.22"; "" when there is no
// tag.
func (r Ref) RepoTag() string {
	if r.Tag == "" {
		return ""
	}
	return r.familiarName() + ":" + r.Tag
}

func (r Ref) suffix() string {
	var s string
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}

func (r Ref) familiarName() string {
	if r.Domain != defaultDomain {
		return r.Name()
	}
	// Only names of one word lose the prefix: docker writes
	// library/a/b in full, too.
	if word, ok := strings.CutPrefix(r.Path, officialPrefix); ok && !strings.Contains(word, "/") {
		return word
	}
	return r.Path
}
