// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"net/url"
	"testing"

	. "gopkg.in/check.v1"
)

type LocatorSuite struct{}

var _ = Suite(&LocatorSuite{})

func (*LocatorSuite) TestLocators(c *C) {
	for text, want := range map[string]Locator{
		fooHash:                       {Hash: fooHash, Size: -1, Hints: []string{}},
		foo:                           {Hash: fooHash, Size: 3, Hints: []string{"3"}},
		emptyHash + "+0":              {Hash: emptyHash, Size: 0, Hints: []string{"0"}},
		foo + "+Aab@12+K@zzzzz+R":     {Hash: fooHash, Size: 3, Hints: []string{"3", "Aab@12", "K@zzzzz", "R"}},
		fooHash + "+Rzzzzz-ab@12_":    {Hash: fooHash, Size: -1, Hints: []string{"Rzzzzz-ab@12_"}},
		fooHash + "+67108864":         {Hash: fooHash, Size: BLOCKSIZE, Hints: []string{"67108864"}},
		fooHash + "+2147483647":       {Hash: fooHash, Size: 1<<31 - 1, Hints: []string{"2147483647"}},
		fooHash + "+0000000000000003": {Hash: fooHash, Size: 3, Hints: []string{"0000000000000003"}},
	} {
		loc, err := MakeLocator(text)
		c.Assert(err, IsNil, Commentf(text))
		c.Check(*loc, DeepEquals, want)
		c.Check(loc.String(), Equals, text)
	}
	for _, text := range []string{
		"", "+", "foo", fooHash[1:], fooHash + "0", "ACBD18DB4CC2F85CEDEF654FCCC4A4D8+3",
		foo + "+", fooHash + "+-3", fooHash + "++3", fooHash + "+2147483648", fooHash + "+3.5", foo + "+3",
		foo + "+a", foo + "+A b", foo + "+A/..", foo + "+A?x", foo + "+A#", foo + "+A%20", foo + "\n", " " + foo,
	} {
		_, err := MakeLocator(text)
		c.Check(err, Equals, InvalidLocatorError, Commentf("%q", text))
	}
}

func (*LocatorSuite) TestLocatorsForMessages(c *C) {
	for text, want := range map[string]string{foo + "+Aab@12": foo, fooHash + "+Aab@12": fooHash} {
		loc, err := MakeLocator(text)
		c.Assert(err, IsNil)
		c.Check(loc.bare(), Equals, want)
	}
}

// Every locator stays what it is, and is one path element of a URL.
func FuzzMakeLocator(f *testing.F) {
	for _, seed := range []string{fooHash, foo, foo + "+Aab@12+K@zzzzz", foo + "+R-_@", "", "+", foo + "+../.."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		loc, err := MakeLocator(text)
		if err != nil {
			if loc != nil {
				t.Fatalf("%q is no locator and yet %v", text, loc)
			}
			return
		}
		if loc.String() != text {
			t.Fatalf("%q became %q", text, loc)
		}
		if loc.Size < -1 || len(loc.Hash) != 32 {
			t.Fatalf("%q has hash %q, size %d", text, loc.Hash, loc.Size)
		}
		if u, err := url.Parse("http://host/" + text); err != nil || u.Path != "/"+text || u.Host != "host" {
			t.Fatalf("%q leads to %v, %v", text, u, err)
		}
	})
}

// An answer's header is read or ignored, never misread.
func FuzzConfirmedClasses(f *testing.F) {
	for _, seed := range []string{"", "a=1", "a=1, b=2", "a=0", "=1", "a", "a=1,,", "a=b=1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		for name, n := range confirmedClasses(header) {
			if name == "" || n < 1 {
				t.Fatalf("%q confirms %d in %q", header, n, name)
			}
		}
	})
}
