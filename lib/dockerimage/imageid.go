// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"fmt"

	"git.arvados.org/arvados.git/lib/imagetar"
)

// ImageID says which of its digests the file of an image is named by. Arvados's
// crunch-run loads the file and starts the container from the image of that name,
// so it has to be what the engines of a cluster's nodes call a loaded image. It is
// a flag's value.
type ImageID string

const (
	// ByConfig names an image by its config, as engines do that have an image
	// store of their own (overlay2). The zero value means the same.
	ByConfig ImageID = "config"
	// ByManifest names an image by the manifest in the archive, as engines do
	// that have images in containerd's store (the default of new
	// installations since Docker 29). For an image from a registry it is the
	// registry's digest, unless a layer had to be decompressed.
	ByManifest ImageID = "manifest"
)

// Set takes "config" or "manifest".
func (id *ImageID) Set(text string) error {
	switch given := ImageID(text); given {
	case ByConfig, ByManifest:
		*id = given
		return nil
	}
	return fmt.Errorf("%q is neither %s nor %s", text, ByConfig, ByManifest)
}

// String is what Set takes, or "" for the zero value.
func (id ImageID) String() string { return string(id) }

// Type is what a flag's help says of its value.
func (id ImageID) Type() string { return "DIGEST" }

// Of is the digest by which an image with that archive is named.
func (id ImageID) Of(layout imagetar.Layout) string {
	if id == ByManifest {
		return layout.ManifestDigest
	}
	return layout.ConfigDigest
}
