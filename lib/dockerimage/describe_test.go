// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"context"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/lib/keepfile/keeptest"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"go.uber.org/goleak"
	check "gopkg.in/check.v1"
)

// What a Saver has stored is described as it did itself.
func (s *storedSuite) TestDescribeSaved(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	twice := randomimage.Layer(7, 5*MiB, imagetar.Gzip)
	for _, img := range []imagetar.Image{
		randomimage.Of(),
		randomimage.New(1, 3000, 5*MiB, 4*MiB-1, 4*MiB, 66*MiB),
		randomimage.Of(twice, randomimage.Layer(2, 66*MiB, imagetar.Plain), twice),
	} {
		saved := s.save(c, 4, img)
		want := saved.Properties(nil, time.Time{})
		want.Hash, want.Timestamp = "", time.Time{} // are told by name and links
		got, err := Describe(s.ctx, s.cl.client(), Found{UUID: "u", PDH: saved.PDH, ManifestText: saved.ManifestText}, 1<<30)
		c.Assert(err, check.IsNil)
		c.Check(got, check.DeepEquals, want)
	}
}

// Layers of what others have stored have no blocks of their own.
func (s *storedSuite) TestDescribeOthers(c *check.C) {
	img := randomimage.Of(randomimage.Layer(1, 5*MiB, imagetar.Plain), randomimage.Layer(2, 3072, imagetar.Plain))
	found := s.put(c, img, oldDockerSave(c, img))
	found.PDH = arvados.PortableDataHash(found.ManifestText)
	got, err := Describe(s.ctx, s.cl.client(), found, 1<<30)
	c.Assert(err, check.IsNil)
	c.Check(got, check.DeepEquals, Properties{Platform: got.Platform, Size: 5*MiB + 3072, PDH: found.PDH})
	c.Check(got.Platform, check.Matches, "linux/.*")
}

// No more is read than is allowed: first the size is left out, then it is refused.
func (s *storedSuite) TestDescribeIsBounded(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	saved := s.save(c, 4, randomimage.New(1, 66*MiB, 5*MiB))
	found := Found{UUID: "u", PDH: saved.PDH, ManifestText: saved.ManifestText}
	for _, most := range []int64{MiB, 3 * MiB} {
		before := s.cl.keep.Stats().BytesRead
		got, err := Describe(s.ctx, s.cl.client(), found, most)
		c.Assert(err, check.IsNil)
		c.Check(got.Size, check.Equals, int64(0))
		c.Check(got.Layers, check.HasLen, 2)
		read := s.cl.keep.Stats().BytesRead - before
		c.Check(read <= most+MiB, check.Equals, true, check.Commentf("%d bytes", read))
	}
	_, err := Describe(s.ctx, s.cl.client(), found, 100)
	c.Check(err, check.ErrorMatches, ".*more of it would have to be read than is allowed.*")
	c.Check(fault.Transient(err), check.Equals, false)
}

func (s *storedSuite) TestDescribeFails(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	saved := s.save(c, 4, randomimage.New(1, 5*MiB))
	found := Found{UUID: "u", PDH: saved.PDH, ManifestText: saved.ManifestText}
	reads := 0
	s.cl.keep.Script = func(context.Context, *keeptest.Op) error {
		if reads++; reads > 1 {
			return keeptest.Error{Status: 404, Message: "failed"}
		}
		return nil
	}
	_, err := Describe(s.ctx, s.cl.client(), found, 1<<30)
	c.Check(err, check.ErrorMatches, `keep: read image in collection u: .*404 failed`)
	s.cl.keep.Script = nil
	_, err = Describe(s.ctx, s.cl.client(), Found{UUID: "u", ManifestText: s.store(c, "x.tar", nil)}, 1<<30)
	c.Check(err, check.ErrorMatches, `request: read image in collection u: .*`)
}
