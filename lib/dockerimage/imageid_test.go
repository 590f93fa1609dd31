// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	check "gopkg.in/check.v1"
)

type imageIDSuite struct{ fixture }

var _ = check.Suite(&imageIDSuite{})

func (s *imageIDSuite) saveAs(c *check.C, id ImageID, img imagetar.Image) *Saved {
	saver := s.cl.saver(4)
	saver.Owner, saver.ImageID = alice, id
	saved, err := saver.Save(s.ctx, img)
	c.Assert(err, check.IsNil)
	return saved
}

// The name of the file and what is said of it differ, and not a byte of the file.
func (s *imageIDSuite) TestNamedByManifest(c *check.C) {
	img := randomimage.New(1, 5*MiB, 3000)
	layout := layoutOf(c, img)
	c.Check(layout.ManifestDigest, check.Equals, img.Digests[0]) // the registry's
	byConfig, byManifest := s.saveAs(c, "", img), s.saveAs(c, ByManifest, img)
	c.Check(byConfig.Hash, check.Equals, layout.ConfigDigest)
	c.Check(byManifest.Hash, check.Equals, layout.ManifestDigest)
	swap := strings.NewReplacer(strings.TrimPrefix(byConfig.Hash, "sha256:"), strings.TrimPrefix(byManifest.Hash, "sha256:"))
	c.Check(s.cl.keep.Sign(byManifest.ManifestText, ""), check.Equals, swap.Replace(s.cl.keep.Sign(byConfig.ManifestText, "")))

	props := byManifest.Properties([]string{"app:1"}, time.Time{})
	c.Check(props.Hash, check.Equals, layout.ManifestDigest)
	c.Check(props.Digests, check.DeepEquals, []string{layout.ManifestDigest, layout.ConfigDigest})
	c.Check(props.ImageID(), check.Equals, ByManifest)
	c.Check(byConfig.Properties(nil, time.Time{}).ImageID(), check.Equals, ByConfig)
	s.cl.valid(c, byManifest)
	found := Found{ManifestText: byManifest.ManifestText, PDH: byManifest.PDH} // as if somebody else had stored it
	described, err := Describe(s.ctx, s.cl.keep.As("alices-token"), found, 1<<30)
	c.Assert(err, check.IsNil)
	c.Check(described.Digests, check.DeepEquals, props.Digests)

	img.Digests = nil // an image that no registry knows
	c.Check(s.saveAs(c, ByManifest, img).Properties(nil, time.Time{}).Digests, check.DeepEquals, props.Digests)

	uuid := s.cl.addImage(alice, byManifest)
	for _, name := range []string{layout.ManifestDigest, layout.ConfigDigest, strings.TrimPrefix(layout.ConfigDigest, "sha256:")[:12], "app@" + layout.ManifestDigest} {
		found, err := Resolve(s.ctx, s.cl, name, Policy{})
		c.Assert(err, check.IsNil, check.Commentf("%s", name))
		c.Check(found.UUID, check.Equals, uuid)
	}
}

// A whole image is taken from Keep only under the name that is wanted now; its
// blocks always are.
func (s *imageIDSuite) TestTheOtherNameIsAnotherCollection(c *check.C) {
	for _, compression := range []imagetar.Compression{imagetar.Gzip, imagetar.Zstd} {
		s.SetUpTest(c)
		img := randomimage.Of(randomimage.Layer(1, 5*MiB, compression))
		uuids := map[ImageID]string{}
		for _, id := range []ImageID{ByConfig, ByManifest, ByConfig, ByManifest} {
			saved := s.saveAs(c, id, img)
			if uuids[id] == "" {
				c.Check(saved.Hash == saved.ConfigDigest, check.Equals, id == ByConfig)
				uuids[id] = s.cl.addImage(alice, saved)
				continue
			}
			c.Assert(saved.Reused, check.HasLen, 1)
			c.Check(saved.Reused[0].Collection, check.Equals, uuids[id])
			c.Check(saved.Written, check.Equals, int64(0))
		}
	}
}

func (s *imageIDSuite) TestFlag(c *check.C) {
	var id ImageID
	c.Check(id.String(), check.Equals, "")
	for _, text := range []string{"manifest", "config"} {
		c.Check(id.Set(text), check.IsNil)
		c.Check(id.String(), check.Equals, text)
	}
	c.Check(id.Set("index"), check.ErrorMatches, `"index" is neither config nor manifest`)
	c.Check(id, check.Equals, ByConfig)
}
