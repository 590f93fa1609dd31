// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"slices"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	check "gopkg.in/check.v1"
)

// An image that the engine is to keep: by name, by digest and by what it is called
// then.
func (s *conformance) TestFetchAndSaveLocalImage(c *check.C) {
	ctx := context.Background()
	name := s.registry.Host + "/app:1"
	img, err := s.engine.Image(ctx, name)
	c.Assert(err, check.IsNil)
	c.Check(img, check.IsNil)

	var lines []string
	c.Assert(s.engine.Fetch(ctx, s.ref, nil, func(line string) { lines = append(lines, line) }), check.IsNil)
	defer func() { c.Check(s.engine.RemoveImage(ctx, name), check.IsNil) }()
	c.Check(len(lines) > 0, check.Equals, true)
	img, err = s.engine.Image(ctx, name)
	c.Assert(err, check.IsNil)
	c.Check(img.Platform, check.Equals, "linux/amd64")
	c.Check(img.Names, check.DeepEquals, []string{name})
	c.Check(slices.Contains(img.Digests, s.registry.Host+"/app@"+s.digest), check.Equals, true)

	for _, other := range []string{img.ID, img.ID[7:], img.ID[7:19]} {
		again, err := s.engine.Image(ctx, other)
		c.Assert(err, check.IsNil, check.Commentf("%s", other))
		c.Check(again, check.DeepEquals, img)
	}
	stream, err := s.engine.Save(ctx, *img)
	c.Assert(err, check.IsNil)
	defer stream.Close()
	archive, err := imagetar.ScanArchive(stream, hashSink{})
	c.Assert(err, check.IsNil)
	c.Check(archive.Image.Config, check.DeepEquals, s.image.config)
	c.Check(archive.Image.Layers[0].DiffID, check.Equals, s.image.diffID)
}

func (s *conformance) TestFetchFails(c *check.C) {
	ctx := context.Background()
	err := s.engine.Fetch(ctx, s.parse(c, "none:such"), nil, func(string) {})
	c.Check(fault.SideOf(err), check.Equals, fault.Registry)
	err = s.engine.Fetch(ctx, s.ref, []byte("secret, and no JSON"), func(string) {})
	c.Check(fault.SideOf(err), check.Equals, fault.Request)
	c.Check(err, check.Not(check.ErrorMatches), ".*secret, and.*")

	gone, err := New("unix:///nonexistent/docker.sock")
	c.Assert(err, check.IsNil)
	defer gone.Close()
	_, err = gone.Image(ctx, "app")
	s.checkFault(c, err, fault.Engine, true, ".*look at image app.*")
	_, err = gone.Save(ctx, LocalImage{ID: "x"})
	s.checkFault(c, err, fault.Engine, true, ".*")
}
