// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	check "gopkg.in/check.v1"
)

type wholeSuite struct {
	fixture
	img   imagetar.Image
	saved *Saved
}

var _ = check.Suite(&wholeSuite{})

func (s *wholeSuite) SetUpTest(c *check.C) {
	s.fixture.SetUpTest(c)
	s.img = randomimage.New(1, 5*MiB, 3000)
	s.saved = s.save(c, 4, s.img)
}

// again saves s.img for alice.
func (s *wholeSuite) again(c *check.C) *Saved {
	saver := s.cl.saver(4)
	saver.Owner = alice
	saved, err := saver.Save(s.ctx, s.img)
	c.Assert(err, check.IsNil)
	return saved
}

func (s *wholeSuite) TestOwnImage(c *check.C) {
	uuid := s.cl.addImage(alice, s.saved)
	before := s.cl.keep.Stats()
	s.img = forbid(s.img, 0, 1)
	s.img.Digests = append([]string{"sha256:of-an-index"}, s.img.Digests...)
	saved := s.again(c)
	c.Check(s.cl.keep.Stats(), check.Equals, before) // nothing read, nothing written
	c.Check(saved.Reused, check.DeepEquals, []Reuse{{Collection: uuid, Owner: alice, Bytes: 5*MiB + 3000}})
	c.Check(saved.Digests, check.DeepEquals, s.img.Digests)
	c.Check(saved.Downloaded, check.Equals, int64(0))
	s.cl.valid(c, saved) // its locators are alice's

	want, got := *s.saved, *saved
	want.ManifestText, want.Digests, want.Reused, want.Written, want.Downloaded = "", nil, nil, 0, 0
	got.ManifestText, got.Digests, got.Reused = "", nil, nil
	c.Check(got, check.DeepEquals, want)
}

func (s *wholeSuite) TestZstdImage(c *check.C) {
	s.img = randomimage.Of(randomimage.Layer(1, 5*MiB, imagetar.Zstd))
	uuid := s.cl.addImage(alice, s.save(c, 2, s.img))
	s.img = forbid(s.img, 0)
	c.Check(s.again(c).Reused[0].Collection, check.Equals, uuid)
}

// What is not sure to be the image, untouched, is not taken as a whole.
func (s *wholeSuite) TestNotTaken(c *check.C) {
	props := func(change func(p *Properties)) map[string]interface{} {
		p := s.saved.Properties(nil, s.saved.Created)
		change(&p)
		return p.Map()
	}
	other := s.save(c, 4, randomimage.New(2, 5*MiB, 3000)).ManifestText
	manifest := s.saved.ManifestText
	two := manifest + "./sub" + strings.TrimPrefix(manifest, ".")
	for label, add := range map[string]func(){
		"somebody else's":  func() { s.cl.addImage(bob, s.saved) },
		"PDH not recorded": func() { s.cl.add(alice, manifest, props(func(p *Properties) { p.PDH = "" })) },
		"changed":          func() { s.cl.add(alice, two, props(func(*Properties) {})) },
		"second file":      func() { s.cl.add(alice, two, props(func(p *Properties) { p.PDH = pdhOf(s.cl, two) })) },
		"another image":    func() { s.cl.add(alice, other, props(func(p *Properties) { p.PDH = pdhOf(s.cl, other); p.Hash = "" })) },
		"hash disagrees":   func() { s.cl.add(alice, manifest, props(func(p *Properties) { p.Hash = p.Digests[0] })) },
		"another manifest": func() { s.cl.add(alice, manifest, props(func(p *Properties) { p.Digests = []string{"sha256:other"} })) },
		"file in pieces": func() {
			m := inPieces(manifest)
			s.cl.add(alice, m, props(func(p *Properties) { p.PDH = pdhOf(s.cl, m) }))
		},
		"other blocks": func() {
			m := otherBlocks(manifest)
			s.cl.add(alice, m, props(func(p *Properties) { p.PDH = pdhOf(s.cl, m) }))
		},
		"manifest not its own": func() { s.cl.addImage(alice, s.saved); s.cl.collections[0].ManifestText = two },
	} {
		s.cl.collections = nil
		add()
		saved := s.again(c)
		for _, r := range saved.Reused {
			c.Check(r.Layer, check.Not(check.Equals), "", check.Commentf(label))
		}
		c.Check(saved.PDH, check.Equals, s.saved.PDH)
		s.cl.valid(c, saved)
	}
}

func pdhOf(cl *cluster, manifest string) string {
	return arvados.PortableDataHash(cl.keep.Sign(manifest, ""))
}

// inPieces names the file by two tokens.
func inPieces(manifest string) string {
	before, token, _ := strings.Cut(manifest, " 0:")
	size, name, _ := strings.Cut(token, ":")
	n, _ := strconv.Atoi(size)
	return fmt.Sprintf("%s 0:512:%s 512:%d:%s", before, strings.TrimSpace(name), n-512, name)
}

// otherBlocks has the layer's block twice.
func otherBlocks(manifest string) string {
	parts := strings.SplitN(manifest, " ", 3)
	return parts[0] + " " + parts[1] + " " + parts[1] + " " + parts[2]
}

func (s *wholeSuite) TestNoOwner(c *check.C) {
	s.cl.addImage(alice, s.saved)
	saved, err := s.cl.saver(4).Save(context.Background(), s.img)
	c.Assert(err, check.IsNil)
	c.Check(saved.Reused[0].Layer, check.Equals, s.img.Layers[0].Digest)
}
