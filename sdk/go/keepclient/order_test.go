// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"context"
	"fmt"
	"sort"
	"testing"
	"time"

	. "gopkg.in/check.v1"
	"pgregory.net/rapid"
)

type OrderSuite struct{}

var _ = Suite(&OrderSuite{})

func roots(uuids ...string) map[string]string {
	m := map[string]string{}
	for _, uuid := range uuids {
		m[uuid] = uuid
	}
	return m
}

// The orders were computed with Python's hashlib.
func (*OrderSuite) TestOrderOfAnIndependentImplementation(c *C) {
	var six []string
	for i := range 6 {
		six = append(six, fmt.Sprintf("aaaaa-bi6l4-%015d", i))
	}
	for _, trial := range []struct {
		hash  string
		roots map[string]string
		want  []string
	}{
		{fooHash, roots(six...), []string{six[3], six[0], six[5], six[4], six[2], six[1]}},
		{"37b51d194a7513e45b56f6524f2d51f2", roots(six...), []string{six[4], six[5], six[1], six[3], six[0], six[2]}},
		// A UUID of 28 characters, as API servers make them for
		// services of the configuration, counts in full.
		{fooHash, roots("short", "aaaaa-bi6l4-0123456789abcdef", six[1]), []string{"short", "aaaaa-bi6l4-0123456789abcdef", six[1]}},
		{fooHash, nil, nil},
	} {
		c.Check(NewRootSorter(trial.roots, trial.hash).GetSortedRoots(), DeepEquals, trial.want)
	}
}

// Services of one weight, here the same last 15 characters, do not change
// places from call to call.
func (*OrderSuite) TestEqualWeights(c *C) {
	equal := roots("bbbbb-bi6l4-000000000000000", "aaaaa-bi6l4-000000000000000")
	for range 20 {
		c.Check(NewRootSorter(equal, fooHash).GetSortedRoots(), DeepEquals,
			[]string{"aaaaa-bi6l4-000000000000000", "bbbbb-bi6l4-000000000000000"})
	}
}

// A service more or less moves no other: the order of the rest stays.
func TestOrderIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		uuids := rapid.SliceOfNDistinct(rapid.StringMatching(`zzzzz-bi6l4-[0-9a-z]{15}`), 1, 10, rapid.ID).Draw(t, "uuids")
		hash := rapid.StringMatching(`[0-9a-f]{32}`).Draw(t, "hash")
		all := NewRootSorter(roots(uuids...), hash).GetSortedRoots()
		fewer := NewRootSorter(roots(uuids[1:]...), hash).GetSortedRoots()
		var rest []string
		for _, uuid := range all {
			if uuid != uuids[0] {
				rest = append(rest, uuid)
			}
		}
		if fmt.Sprint(rest) != fmt.Sprint(fewer) {
			t.Fatalf("without %s: %v, not %v", uuids[0], fewer, rest)
		}
		sort.Strings(all)
		sort.Strings(uuids)
		if fmt.Sprint(all) != fmt.Sprint(uuids) {
			t.Fatalf("%v of %v", all, uuids)
		}
	})
}

func (*OrderSuite) TestServicesThatALocatorNames(c *C) {
	const gateway = "zzzzz-bi6l4-gateway00000000"
	known := services{local: roots("zzzzz-bi6l4-000000000000000"), gateway: map[string]string{gateway: "http://gateway"}}
	for hints, want := range map[string][]string{
		"":                               {"zzzzz-bi6l4-000000000000000"},
		"+K@abcde":                       {"https://keep.abcde.arvadosapi.com", "zzzzz-bi6l4-000000000000000"},
		"+K@" + gateway + "+K@abcde":     {"http://gateway", "https://keep.abcde.arvadosapi.com", "zzzzz-bi6l4-000000000000000"},
		"+K@zzzzz-bi6l4-000000000000009": {"zzzzz-bi6l4-000000000000000"},
		"+K+K@+Kx":                       {"zzzzz-bi6l4-000000000000000"},
	} {
		loc, err := MakeLocator(foo + hints)
		c.Assert(err, IsNil)
		c.Check(readOrder(known, loc), DeepEquals, want, Commentf(hints))
	}
}

func (*OrderSuite) TestPausesEndWithTheContext(c *C) {
	kc := &KeepClient{RetryDelay: time.Hour}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c.Check(kc.pauseAfter(ctx, 0), Equals, context.Canceled)
	kc.RetryDelay = time.Nanosecond
	for round := range 40 {
		c.Check(kc.pauseAfter(context.Background(), round), IsNil)
	}
}
