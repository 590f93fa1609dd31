// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import "git.arvados.org/arvados.git/sdk/go/arvados"

// FoundIn is a collection that was asked for with its manifest and properties.
func FoundIn(coll arvados.Collection) Found {
	return Found{
		UUID:         coll.UUID,
		OwnerUUID:    coll.OwnerUUID,
		PDH:          coll.PortableDataHash,
		CreatedAt:    coll.CreatedAt,
		ManifestText: coll.ManifestText,
		Properties:   ParseProperties(coll.Properties),
	}
}

// Hash is the image's hash, "sha256:<64 hex>", by the name of its file, which all
// programs write. The error, a clause about the collection, is that of Check.
func (f Found) Hash() (string, error) {
	_, hash, err := f.image()
	return hash, err
}
