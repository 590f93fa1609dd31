// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	check "gopkg.in/check.v1"
)

type resolveSuite struct{ fixture }

var _ = check.Suite(&resolveSuite{})

const (
	carol   = "zzzzz-tpzed-carol0000000000"
	project = "zzzzz-j7d0g-project00000000"
)

func (s *resolveSuite) resolve(c *check.C, name string, policy Policy) Resolved {
	found, err := Resolve(s.ctx, s.cl, name, policy)
	c.Assert(err, check.IsNil)
	return found
}

func named(made time.Time, names ...string) Properties {
	return Properties{RepoTags: names, Timestamp: made}
}

func (s *resolveSuite) TestTheNewestImageOfAName(c *check.C) {
	policy := Policy{Links: true}
	want := func(uuid string) {
		found := s.resolve(c, "app:1", policy)
		c.Check(found.UUID, check.Equals, uuid)
		c.Check(found.PassedOver, check.HasLen, 0)
		// However the records come.
		slices.Reverse(s.cl.collections)
		c.Check(s.resolve(c, "app:1", policy).UUID, check.Equals, uuid)
		slices.Reverse(s.cl.collections)
	}
	a := s.cl.addNamed(alice, hexOf(1), named(day(5), "app:1"))
	want(a)
	s.cl.addNamed(alice, hexOf(2), named(day(4), "app:1", "app:2")) // made before
	want(a)
	legacy := s.cl.addLegacy(alice, hexOf(3), day(6), "app:1")
	want(legacy)
	// Times of no use: the collection's own counts.
	for _, none := range []time.Time{{}, time.Unix(0, 0), time.Date(1980, 12, 31, 0, 0, 0, 0, time.UTC), time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		want(s.cl.addNamed(alice, hexOf(4), named(none, "app:1")))
	}
	last := s.cl.addNamed(alice, hexOf(4), named(time.Time{}, "app:1"))
	want(last)
	// Equal in all times: the UUID decides.
	twin := s.cl.addNamed(alice, hexOf(5), named(time.Time{}, "app:1"))
	s.cl.collections[len(s.cl.collections)-1].CreatedAt = s.cl.collections[len(s.cl.collections)-2].CreatedAt
	c.Check(twin > last, check.Equals, true)
	want(twin)
}

// Names: null, one, several.
func (s *resolveSuite) TestForms(c *check.C) {
	file := ". d41d8cd98f00b204e9800998ecf8427e+0 0:0:sha256\\072" + hexOf(1) + ".tar\n"
	s.cl.add(alice, file, map[string]interface{}{KeyRepoTag: nil})
	one := s.cl.add(alice, file, map[string]interface{}{KeyRepoTag: "one:1"})
	several := s.cl.add(alice, file, map[string]interface{}{KeyRepoTag: []interface{}{"two:1", "three:1"}})
	for name, uuid := range map[string]string{"one:1": one, "two:1": several, "three:1": several} {
		c.Check(s.resolve(c, name, Policy{}).UUID, check.Equals, uuid)
	}
}

func (s *resolveSuite) TestTrust(c *check.C) {
	uuids := map[string]string{}
	for i, owner := range []string{alice, project, carol, bob} { // the newer the less trusted
		uuids[owner] = s.cl.addNamed(owner, hexOf(i), named(day(i+1), "app:1"))
	}
	own := []string{alice, project}
	for _, trial := range []struct {
		policy Policy
		owner  string
	}{
		{Policy{}, bob},
		{Policy{Trust: TrustAny, Own: own}, bob},
		{Policy{Trust: TrustOwn, Own: own, Site: []string{carol}}, project},
		{Policy{Trust: TrustOwn, Own: own[:1]}, alice},
		{Policy{Trust: TrustSite, Own: own, Site: []string{carol}}, carol},
		{Policy{Trust: TrustSite, Own: own}, project},
	} {
		found := s.resolve(c, "app:1", trial.policy)
		c.Check(found.UUID, check.Equals, uuids[trial.owner])
		c.Check(found.OwnerUUID, check.Equals, trial.owner)
	}
	_, err := Resolve(s.ctx, s.cl, "app:1", Policy{Trust: TrustOwn})
	c.Check(err, check.ErrorMatches, `request: find image "app:1": there is no such image .* policy "own" does not trust do not count\)`)
	// What was named by its content needs no trust.
	pdh := s.cl.collections[3].PortableDataHash
	c.Check(s.resolve(c, pdh, Policy{Trust: TrustOwn, Own: own}).OwnerUUID, check.Equals, bob)
}

// A link can give any name to a collection that somebody trusted owns.
func (s *resolveSuite) TestTrustInLinks(c *check.C) {
	right := s.cl.addNamed(alice, hexOf(1), named(day(1), "app:1"))
	wrong := s.cl.addNamed(alice, hexOf(2), named(day(2), "other:1"))
	s.cl.addLinks(bob, named(day(3), "app:1"))
	policy := Policy{Links: true, Own: []string{alice}}
	c.Check(s.resolve(c, "app:1", policy).UUID, check.Equals, wrong)
	policy.Trust = TrustOwn
	c.Check(s.resolve(c, "app:1", policy).UUID, check.Equals, right)
}

func (s *resolveSuite) TestImagesThatAreNone(c *check.C) {
	good := s.cl.addNamed(alice, hexOf(1), named(day(1), "app:1"))
	changed := s.cl.addNamed(bob, hexOf(2), Properties{RepoTags: []string{"app:1"}, PDH: "d41d8cd98f00b204e9800998ecf8427e+0"})
	disagrees := s.cl.addNamed(alice, hexOf(3), Properties{RepoTags: []string{"app:1"}, Hash: "sha256:" + hexOf(4)})
	two := s.cl.add(alice, ". d41d8cd98f00b204e9800998ecf8427e+0 0:0:README 0:0:sha256\\072"+hexOf(1)+".tar\n", named(time.Time{}, "app:1").Map())
	found := s.resolve(c, "app:1", Policy{Links: true})
	c.Check(found.UUID, check.Equals, good)
	var passed []string
	for _, p := range found.PassedOver {
		passed = append(passed, p.Found.UUID)
		c.Check(p.Reason, check.ErrorMatches, `its file is .* but it claims to be .*|it was changed since .*|it has 2 files .*`)
	}
	c.Check(passed, check.DeepEquals, []string{two, disagrees, changed})

	s.cl.collections = s.cl.collections[1:]
	found, err := Resolve(s.ctx, s.cl, "app:1", Policy{Links: true})
	c.Check(errors.Is(err, ErrNotFound), check.Equals, true)
	c.Check(err, check.ErrorMatches, `request: find image "app:1": there is no such image .*; collection `+two+` has this name but cannot be used: it has 2 files .* \(store the image again\)`)
	c.Check(found.UUID, check.Equals, "")
	c.Check(found.PassedOver, check.HasLen, 3)

	// By its portable data hash, the content is all that counts.
	c.Check(s.resolve(c, s.cl.collections[0].PortableDataHash, Policy{}).UUID, check.Equals, changed)
	_, err = Resolve(s.ctx, s.cl, s.cl.collections[2].PortableDataHash, Policy{})
	c.Check(errors.Is(err, ErrNotFound), check.Equals, true)
}

// Links whose heads are gone, cannot be read, or are no collections.
func (s *resolveSuite) TestDeadLinks(c *check.C) {
	for _, head := range []string{"zzzzz-4zz18-gone00000000000", "d41d8cd98f00b204e9800998ecf8427e+0", "zzzzz-tpzed-000000000000000", ""} {
		s.cl.links = append(s.cl.links, arvados.Link{LinkClass: LinkName, Name: "app:1", HeadUUID: head, OwnerUUID: alice})
	}
	_, err := Resolve(s.ctx, s.cl, "app:1", Policy{Links: true})
	c.Check(errors.Is(err, ErrNotFound), check.Equals, true)
	uuid := s.cl.addNamed(alice, hexOf(1), named(day(1), "app:1"))
	c.Check(s.resolve(c, "app:1", Policy{Links: true}).UUID, check.Equals, uuid)
}

func (s *resolveSuite) requests(c *check.C, name string, policy Policy) int {
	before := s.cl.asked
	s.resolve(c, name, policy)
	return s.cl.asked - before
}

func (s *resolveSuite) TestRequests(c *check.C) {
	p := Properties{Hash: "sha256:" + hexOf(1), RepoTags: []string{"app:1"}, Timestamp: day(1), Digests: []string{"sha256:" + hexOf(51)}}
	s.cl.addNamed(alice, hexOf(1), p)
	s.cl.addLinks(alice, p)
	pdh := s.cl.collections[0].PortableDataHash
	for _, trial := range []struct {
		name               string
		without, withLinks int
	}{
		{"app:1", 1, 2},
		{pdh, 1, 1},
		{"sha256:" + hexOf(1), 1, 2},
		{hexOf(1)[:12], 1, 2},
		{"app@sha256:" + hexOf(51), 1, 1},
		{"sha256:" + hexOf(51), 2, 3},
		{hexOf(51)[:12], 2, 3},
	} {
		c.Check(s.requests(c, trial.name, Policy{}), check.Equals, trial.without, check.Commentf(trial.name))
		c.Check(s.requests(c, trial.name, Policy{Links: true}), check.Equals, trial.withLinks, check.Commentf(trial.name))
	}
	// A name that only a link knows.
	s.cl.addLinks(alice, named(day(1), "app:2"))
	c.Check(s.requests(c, "app:2", Policy{Links: true}), check.Equals, 3)
}

// Hundreds of images under one name are not all read if their order is that of
// their making.
func (s *resolveSuite) TestManyImages(c *check.C) {
	for i := range 450 {
		s.cl.addNamed(alice, hexOf(1), named(time.Date(2026, 5, 1, 0, 0, i, 0, time.UTC), "old:1"))
	}
	newest := s.cl.addNamed(alice, hexOf(1), named(time.Time{}, "old:1"))
	c.Check(s.requests(c, "old:1", Policy{}), check.Equals, 1)
	c.Check(s.resolve(c, "old:1", Policy{}).UUID, check.Equals, newest)

	// The same by links alone.
	for _, coll := range s.cl.collections {
		s.cl.links = append(s.cl.links, arvados.Link{LinkClass: LinkName, Name: "linked:1", HeadUUID: coll.UUID, CreatedAt: coll.CreatedAt})
	}
	c.Check(s.requests(c, "linked:1", Policy{Links: true}), check.Equals, 3)
	c.Check(s.resolve(c, "linked:1", Policy{Links: true}).UUID, check.Equals, newest)
}

func (s *resolveSuite) TestAPIFails(c *check.C) {
	for status, transient := range map[int]bool{401: false, 503: true} {
		s.cl.fail = &arvados.TransactionError{StatusCode: status}
		for _, links := range []bool{false, true} {
			_, err := Resolve(s.ctx, s.cl, "app:1", Policy{Links: links})
			c.Check(err, check.ErrorMatches, `api: find (image collections with|links of image) app:1: .*`)
			c.Check(fault.SideOf(err), check.Equals, fault.API)
			c.Check(fault.Transient(err), check.Equals, transient)
			c.Check(errors.Is(err, ErrNotFound), check.Equals, false)
		}
	}
	s.cl.fail = io.ErrUnexpectedEOF
	_, err := Resolve(s.ctx, s.cl, fmt.Sprintf("sha256:%s", hexOf(1)), Policy{})
	c.Check(fault.Transient(err), check.Equals, true)
}
