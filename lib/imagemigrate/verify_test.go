// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"gopkg.in/check.v1"
)

type verifySuite struct{ ctx context.Context }

var _ = check.Suite(&verifySuite{ctx: context.Background()})

// verify are the counts and the differences.
func (t *verifySuite) verify(c *check.C, s *server) (map[Reason]int, []Difference) {
	var all []Difference
	v := &Verification{API: &view{server: s}, Report: func(d Difference) error {
		all = append(all, d)
		return nil
	}}
	counts, err := v.Run(t.ctx)
	c.Assert(err, check.IsNil)
	return counts, all
}

// Before a migration names are not found; after it, what links mean is.
func (t *verifySuite) TestBeforeAndAfter(c *check.C) {
	s := &server{}
	old, new := s.image(alice, 1, nil), s.image(alice, 2, nil)
	for n := range 120 { // of which some are read with others
		s.link(alice, className, fmt.Sprintf("lab/app%03d:1", n), old, "2023-01-01T00:00:00Z")
		s.link(alice, className, fmt.Sprintf("lab/app%03d:1", n), new, "2023-01-02T00:00:00Z")
	}
	s.link(alice, className, "lab/app", new, made) // which nobody can ask for
	counts, all := t.verify(c, s)
	c.Check(counts, check.DeepEquals, map[Reason]int{Unexplained: 120})
	c.Check(all[7], check.DeepEquals, Difference{Name: "lab/app007:1", Reason: Unexplained, ByLinks: Answer{new, s.get(new).text("portable_data_hash")}})
	_, err := (&Migration{Store: ByAPI(&view{server: s}, 0), Rollback: rollbackFile(c)}).Run(t.ctx)
	c.Assert(err, check.IsNil)
	counts, all = t.verify(c, s)
	c.Check(counts, check.DeepEquals, map[Reason]int{Same: 120})
	c.Check(all, check.HasLen, 0)
}

// Every difference is one of those that are meant.
func (t *verifySuite) TestEverythingIsExplained(c *check.C) {
	rng := rand.New(rand.NewPCG(6, 4))
	total := map[Reason]int{}
	for range 300 {
		s := generate(rng)
		_, err := (&Migration{Store: ByAPI(&view{server: s}, 0), Rollback: rollbackFile(c)}).Run(t.ctx)
		c.Assert(err, check.IsNil)
		counts, all := t.verify(c, s)
		for _, d := range all {
			if d.Reason == Unexplained {
				c.Fatalf("%v\n%s\n%v", d, s.properties(c), s.links)
			}
		}
		for reason, n := range counts {
			total[reason] += n
		}
		// The old answers are those of the description.
		for _, d := range all {
			want := byLinksOfOld(s, nil, d.Name)
			if want != nil && d.ByLinks.Collection != "" {
				c.Check(d.ByLinks.PortableDataHash, check.Equals, want["portable_data_hash"], check.Commentf("%v", d))
			}
		}
	}
	for _, reason := range []Reason{Same, InvalidName, LeftOut, Unusable, Spelling, Undated, OldestLink} {
		c.Check(total[reason] > 0, check.Equals, true, check.Commentf("%s: %v", reason, total))
	}
}

// A name that means something else by properties, or nothing, is no matter of
// migrating, and does not keep others from being compared.
func (t *verifySuite) TestLeftOut(c *check.C) {
	s := &server{}
	image, other := s.image(alice, 1, nil), s.image(alice, 2, record{keyNames: "registry.example:5000/lab/both:latest"})
	names := map[string]Answer{
		"sha256:abc":                      {}, // too short for a hash
		"sha256:" + hexOf(2)[:20]:         {other, s.get(other).text("portable_data_hash")},
		"sha256:" + hexOf(3)[:20]:         {},
		"registry.example:5000/lab/app":   {},
		"registry.example:5000/lab/both":  {other, s.get(other).text("portable_data_hash")},
		"Lab/App@sha256:" + hexOf(1):      {}, // no name at all
		"sha256:" + hexOf(1)[:12]:         {image, s.get(image).text("portable_data_hash")},
		"registry.example:5000/lab/app:1": {image, s.get(image).text("portable_data_hash")},
	}
	for name := range names {
		s.link(alice, className, name, image, made)
	}
	_, err := (&Migration{Store: ByAPI(&view{server: s}, 0), Rollback: rollbackFile(c)}).Run(t.ctx)
	c.Assert(err, check.IsNil)
	counts, all := t.verify(c, s)
	c.Check(counts, check.DeepEquals, map[Reason]int{LeftOut: 5, InvalidName: 1, Same: 2})
	for _, d := range all {
		c.Check(d.ByLinks.Collection, check.Equals, image)
		c.Check(d.ByProperties, check.Equals, names[d.Name], check.Commentf(d.Name))
	}
	// An API server that does not answer says nothing of such a name.
	s.refuse = func(_, path string) error {
		if strings.HasSuffix(path, "collections") {
			return errStopped
		}
		return nil
	}
	v := &verification{Verification: &Verification{API: &view{server: s}}}
	_, err = v.one(t.ctx, group{key: "registry.example:5000/lab/app"})
	c.Check(err, check.ErrorMatches, "api: find image collections with .*: stopped")
}

// Of two collections with one image, made at one time, either may be meant.
func (t *verifySuite) TestSameImage(c *check.C) {
	s := &server{}
	first := s.image(alice, 1, nil)
	second := s.collection(alice, ". acbd18db4cc2f85cedef654fccc4a4d8+3 0:3:sha256\\072"+hexOf(1)+".tar\n", nil)
	for _, uuid := range []string{second, first} {
		s.link(alice, className, "lab/app:1", uuid, made)
	}
	_, err := (&Migration{Store: ByAPI(&view{server: s}, 0), Rollback: rollbackFile(c)}).Run(t.ctx)
	c.Assert(err, check.IsNil)
	_, all := t.verify(c, s)
	c.Assert(all, check.HasLen, 1)
	c.Check(all[0].Reason, check.Equals, SameImage)
	c.Check(all[0].ByLinks.Collection, check.Equals, first)
	c.Check(all[0].ByProperties.Collection, check.Equals, second)
}

// What was not migrated is seen.
func (t *verifySuite) TestLost(c *check.C) {
	s := &server{}
	s.link(alice, className, "lab/app:1", s.image(alice, 1, nil), made)
	m := &Migration{Store: ByAPI(&view{server: s}, 0), Rollback: rollbackFile(c)}
	_, err := m.Run(t.ctx)
	c.Assert(err, check.IsNil)
	s.collections[0]["properties"].(record)[keyNames] = "lab/app:2"
	counts, _ := t.verify(c, s)
	c.Check(counts, check.DeepEquals, map[Reason]int{Unexplained: 1})
	// Also where another image has the name.
	s.image(alice, 2, record{keyNames: "lab/app:1"})
	counts, _ = t.verify(c, s)
	c.Check(counts, check.DeepEquals, map[Reason]int{Unexplained: 1})
	s.links[0]["owner_uuid"] = bob
	counts, _ = t.verify(c, s)
	c.Check(counts, check.DeepEquals, map[Reason]int{Unexplained: 1})
	// Rules that leave the name out explain it.
	counts, err = (&Verification{API: &view{server: s}, Rules: Rules{OwnNamesOnly: true}}).Run(t.ctx)
	c.Assert(err, check.IsNil)
	c.Check(counts, check.DeepEquals, map[Reason]int{NotOwn: 1})
	s.refuse = func(_, path string) error {
		if strings.HasSuffix(path, "links") {
			return nil
		}
		return errStopped
	}
	_, err = (&Verification{API: &view{server: s}}).Run(t.ctx)
	c.Check(err, check.ErrorMatches, "api: list collections: stopped")
}
