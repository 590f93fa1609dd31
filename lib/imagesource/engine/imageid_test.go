// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"

	"git.arvados.org/arvados.git/lib/imagetar"
	check "gopkg.in/check.v1"
)

// What an engine calls an image that it has loaded is one of two digests of our
// archive, by its store, so that files can be named for either.
func (s *building) TestWhatLoadedImagesAreCalled(c *check.C) {
	for _, madeBy := range []string{"a registry", "an engine"} {
		img := s.base.image()
		if madeBy == "an engine" {
			img.Manifest = nil // of which the layout makes one
		}
		layout, err := imagetar.NewLayout(img)
		c.Assert(err, check.IsNil)
		want := layout.ConfigDigest
		if s.info.Store == StoreContainerd {
			want = layout.ManifestDigest
		}
		archive := layout.Reader(context.Background(), img.Layers)
		id, err := s.engine.Load(context.Background(), archive)
		archive.Close()
		c.Assert(err, check.IsNil)
		c.Check(id, check.Equals, want, check.Commentf("%s", madeBy))
		c.Check(s.engine.RemoveImage(context.Background(), id), check.IsNil)
	}
}
