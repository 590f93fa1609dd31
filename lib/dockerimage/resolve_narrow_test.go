// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"crypto/md5"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	check "gopkg.in/check.v1"
)

// narrowSuite is about names of very many images.
type narrowSuite struct{ fixture }

var _ = check.Suite(&narrowSuite{})

// addMany stores images named old:1 with UUIDs as API servers make them; each
// has a change of its properties.
func (s *narrowSuite) addMany(n int, change func(i int, properties map[string]interface{})) {
	for i := range n {
		s.cl.addNamed(alice, hexOf(i%100), named(time.Time{}, "old:1"))
		coll := &s.cl.collections[len(s.cl.collections)-1]
		coll.UUID = fmt.Sprintf("zzzzz-4zz18-%.15x", md5.Sum(fmt.Append(nil, i)))
		change(i, coll.Properties)
	}
}

// linkAll gives the name to all images by links as well, which tell that they
// were made at the given times.
func (s *narrowSuite) linkAll(made func(i int) time.Time) {
	for i, coll := range s.cl.collections {
		s.cl.links = append(s.cl.links, arvados.Link{
			LinkClass: LinkName, Name: "old:1", HeadUUID: coll.UUID, CreatedAt: coll.CreatedAt,
			Properties: map[string]interface{}{LinkTime: made(i).Format(time.RFC3339Nano)},
		})
	}
}

// best is the image that is meant, by the rule and without any haste.
func (s *narrowSuite) best(said map[string]time.Time) string {
	var all []Found
	for _, coll := range s.cl.collections {
		f := Found{UUID: coll.UUID, PDH: coll.PortableDataHash, CreatedAt: coll.CreatedAt, ManifestText: coll.ManifestText,
			Properties: ParseProperties(coll.Properties)}
		if f.Properties.Timestamp.IsZero() {
			f.Properties.Timestamp = said[f.UUID]
		}
		if f.Check() == nil {
			all = append(all, f)
		}
	}
	slices.SortFunc(all, newestFirst)
	if len(all) == 0 {
		return ""
	}
	return all[0].UUID
}

// Whatever images say of their times, the one that is meant is found.
func (s *narrowSuite) TestAnyTimes(c *check.C) {
	for seed := range uint64(24) {
		random := rand.New(rand.NewPCG(seed, 0))
		pick := func(n int) bool { return random.IntN(n) == 0 }
		s.cl = newCluster()
		span := []int{1, 48, 24 * 365 * 8}[random.IntN(3)] // hours
		made := func() time.Time {
			return time.Date(2018, 1, 1, 0, 0, random.IntN(3600*span), random.IntN(2)*random.IntN(1e9), time.FixedZone("", 3600*(random.IntN(27)-12)))
		}
		odd := []interface{}{nil, "", "yesterday", 17, "1970-01-01T00:00:00Z", "1980-01-01T00:00:00Z", "1981-01-01T01:00:00+02:00", "2999-01-01T00:00:00Z"}
		s.addMany(100+random.IntN(700), func(i int, p map[string]interface{}) {
			switch {
			case seed%2 == 0 || !pick(50):
				p[KeyTimestamp] = made().Format(time.RFC3339Nano)
			case pick(2):
				p[KeyTimestamp] = odd[random.IntN(len(odd))]
			}
			if seed%3 == 1 && !pick(20) { // a strict site, with some images from before
				if said, ok := p[KeyTimestamp]; ok {
					p[Twin+KeyTimestamp] = said
					delete(p, KeyTimestamp)
				}
				if pick(20) {
					p[KeyTimestamp] = odd[random.IntN(2)]
				}
			}
			if pick(20) || seed == 7 {
				p[KeyPDH] = "d41d8cd98f00b204e9800998ecf8427e+0"
			}
		})
		said := map[string]time.Time{}
		if seed%4 == 1 {
			s.linkAll(func(i int) time.Time {
				t := made()
				said[s.cl.collections[i].UUID] = t
				return t
			})
		}
		found, err := Resolve(s.ctx, s.cl, "old:1", Policy{Links: true})
		if seed != 7 {
			c.Check(err, check.IsNil)
		} else {
			c.Check(errors.Is(err, ErrNotFound), check.Equals, true)
		}
		c.Check(found.UUID, check.Equals, s.best(said), check.Commentf("seed %d", seed))
		for _, passed := range found.PassedOver {
			c.Check(passed.Reason, check.ErrorMatches, `it was changed since .*`)
		}
	}
}

// However an image says that it does not know its time, or that it is the newest,
// under either key, it is found among hundreds.
func (s *narrowSuite) TestOneOfMany(c *check.C) {
	const old, new = "1970-01-01T00:00:00Z", "2026-01-01T00:00:00Z"
	for _, key := range []string{KeyTimestamp, Twin + KeyTimestamp} {
		for _, odd := range []map[string]interface{}{
			{}, {KeyTimestamp: nil}, {KeyTimestamp: old}, {KeyTimestamp: ""}, {KeyTimestamp: new},
			{Twin + KeyTimestamp: nil}, {Twin + KeyTimestamp: old}, {Twin + KeyTimestamp: ""}, {Twin + KeyTimestamp: new},
			{KeyTimestamp: nil, Twin + KeyTimestamp: nil}, {KeyTimestamp: nil, Twin + KeyTimestamp: old}, {KeyTimestamp: nil, Twin + KeyTimestamp: new},
			{KeyTimestamp: old, Twin + KeyTimestamp: new}, {KeyTimestamp: new, Twin + KeyTimestamp: old},
		} {
			s.cl = newCluster()
			s.addMany(300, func(i int, p map[string]interface{}) {
				p[key] = "2018-01-01T00:00:00Z"
				if i == 50 {
					delete(p, key)
					maps.Copy(p, odd)
				}
			})
			found, err := Resolve(s.ctx, s.cl, "old:1", Policy{})
			c.Assert(err, check.IsNil)
			c.Check(found.UUID, check.Equals, s.cl.collections[50].UUID, check.Commentf("%s, %v", key, odd))
			c.Check(found.UUID, check.Equals, s.best(nil))
		}
	}
}

// What thousands of images cost, in requests and bytes, if they were brought in
// at once long after they were made.
func (s *narrowSuite) TestCost(c *check.C) {
	const n = 3000
	hours := func(i int) time.Time { return time.Date(2020, 1, 1, i, 0, 0, 0, time.UTC) }
	shuffled := rand.New(rand.NewPCG(1, 2)).Perm(n)
	for _, trial := range []struct {
		what     string
		made     func(i int) time.Time
		key      string // of times; "" if only links tell them
		links    bool
		requests int // at most
		bytes    int // likewise
	}{
		{"oldest first", hours, KeyTimestamp, false, 11, 700e3},
		{"newest first", func(i int) time.Time { return hours(n - i) }, KeyTimestamp, false, 11, 700e3},
		{"in any order", func(i int) time.Time { return hours(shuffled[i]) }, KeyTimestamp, false, 11, 700e3},
		{"on a strict site", func(i int) time.Time { return hours(shuffled[i]) }, Twin + KeyTimestamp, false, 11, 700e3},
		{"all at once", func(int) time.Time { return hours(0) }, KeyTimestamp, false, 20, 3e6},
		{"named by links, too", func(i int) time.Time { return hours(shuffled[i]) }, KeyTimestamp, true, 40, 2e6},
		{"by arv-keepdocker", func(i int) time.Time { return hours(shuffled[i]) }, "", true, 30, 3.5e6},
	} {
		s.cl = newCluster()
		s.addMany(n, func(i int, p map[string]interface{}) {
			if trial.key != "" {
				p[trial.key] = trial.made(i).Format(time.RFC3339Nano)
			}
		})
		said := map[string]time.Time{}
		if trial.links {
			s.linkAll(func(i int) time.Time {
				said[s.cl.collections[i].UUID] = trial.made(i)
				return trial.made(i)
			})
		}
		found, err := Resolve(s.ctx, s.cl, "old:1", Policy{Links: trial.links})
		c.Assert(err, check.IsNil)
		c.Check(found.UUID, check.Equals, s.best(said), check.Commentf("%s", trial.what))
		c.Check(found.ManifestText, check.Not(check.Equals), "")
		c.Check(s.cl.asked <= trial.requests, check.Equals, true, check.Commentf("%s: %d requests", trial.what, s.cl.asked))
		c.Check(s.cl.sent <= trial.bytes, check.Equals, true, check.Commentf("%s: %d bytes", trial.what, s.cl.sent))
	}
}
