// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepdocker

import (
	"strings"
	"testing"

	"git.arvados.org/arvados.git/lib/imageref"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&wantedSuite{})

type wantedSuite struct{}

var hex64 = strings.Repeat("edd10abc", 8)

// What the Python tool makes of the arguments, and what we look for.
func (*wantedSuite) TestParse(c *check.C) {
	for _, trial := range []struct {
		args    string
		written string // "" for an error
		lookup  string // "" if it is the same
		repoTag string
		hash    string
	}{
		{args: "alpine", written: "alpine:latest", repoTag: "alpine:latest"},
		{args: "alpine 3.22", written: "alpine:3.22", repoTag: "alpine:3.22"},
		{args: "alpine:3.22", written: "alpine:3.22", repoTag: "alpine:3.22"},
		{args: "reg:5000/foo", written: "reg:5000/foo:latest", repoTag: "reg:5000/foo:latest"},
		{args: "reg:5000/foo:1", written: "reg:5000/foo:1", repoTag: "reg:5000/foo:1"},
		{args: "reg:5000/foo 1", written: "reg:5000/foo:1", repoTag: "reg:5000/foo:1"},
		{args: "[::1]:8888/r/i:t", written: "[::1]:8888/r/i:t", repoTag: "[::1]:8888/r/i:t"},
		{args: "reg.example:443/foo", written: "reg.example/foo:latest", repoTag: "reg.example/foo:latest"},
		{args: "localhost:443/foo:1", written: "localhost/foo:1", repoTag: "localhost/foo:1"},
		{args: "reg:443/foo:1", written: "reg:443/foo:1", repoTag: "reg:443/foo:1"}, // reg/foo is somebody on Docker Hub
		{args: "docker.io/library/alpine:3", written: "docker.io/library/alpine:3", repoTag: "alpine:3"},
		{args: "library/alpine:3", written: "library/alpine:3", repoTag: "alpine:3"},
		{args: "foo:" + strings.Repeat("t", 128), written: "foo:" + strings.Repeat("t", 128), repoTag: "foo:" + strings.Repeat("t", 128)},
		{args: "foo@sha256:" + hex64, written: "foo@sha256:" + hex64},
		{args: hex64, written: hex64 + ":latest", lookup: hex64, hash: hex64},
		{args: "sha256:" + hex64, written: "sha256:" + hex64, hash: hex64},
		{args: "sha256 " + hex64, written: "sha256:" + hex64, hash: hex64},
		{args: hex64[:12], written: hex64[:12] + ":latest", lookup: hex64[:12], repoTag: hex64[:12] + ":latest", hash: hex64[:12]},
		{args: "sha256:" + hex64[:12], written: "sha256:" + hex64[:12], repoTag: "sha256:" + hex64[:12], hash: hex64[:12]},
		{args: hex64[:12] + " 1", written: hex64[:12] + ":1", repoTag: hex64[:12] + ":1"},
		{args: "sha:1", written: "sha:1", repoTag: "sha:1"},

		{args: "alpine:3.22 3.22"}, // two tags
		{args: "alpine 3/22"},
		{args: "alpine:"},
		{args: "Alpine"},
		{args: "foo:" + strings.Repeat("t", 129)},
		{args: "one:two:three"},
		{args: "https://reg.example/foo"},
		{args: "foo@sha256:" + hex64[:12]},
		{args: "foo@md5:" + hex64},
		{args: ":latest"},
		{args: "-x"},
	} {
		w, err := parseWanted(strings.Split(trial.args, " "))
		if trial.written == "" {
			c.Check(err, check.NotNil, check.Commentf("%s", trial.args))
			continue
		}
		if !c.Check(err, check.IsNil, check.Commentf("%s", trial.args)) {
			continue
		}
		if trial.lookup == "" {
			trial.lookup = trial.written
		}
		c.Check([]string{w.written, w.lookup, w.repoTag, w.hash}, check.DeepEquals,
			[]string{trial.written, trial.lookup, trial.repoTag, trial.hash}, check.Commentf("%s", trial.args))
	}
	for _, args := range [][]string{{""}, {"", ""}, {"alpine", ""}, {"al pine"}} {
		_, err := parseWanted(args)
		c.Check(err, check.NotNil, check.Commentf("%q", args))
	}
}

// What an image is to be called.
func (*wantedSuite) TestNames(c *check.C) {
	id := "sha256:" + hex64
	for _, trial := range []struct {
		args  string
		has   []string
		title string // "" for no names
		tags  []string
	}{
		{"alpine", nil, "alpine:latest", []string{"alpine:latest"}},
		{"docker.io/alpine", nil, "docker.io/alpine:latest", []string{"alpine:latest"}},
		{hex64, nil, "", nil},
		{id, nil, "", nil},
		{hex64[:12], nil, "", nil},
		{hex64[:12], []string{"alpine:latest"}, "", nil},
		{hex64[:12], []string{hex64[:12] + ":latest"}, hex64[:12] + ":latest", []string{hex64[:12] + ":latest"}},
		{"fade", nil, "fade:latest", []string{"fade:latest"}}, // hexadecimal, but not this one
		{"ed 1", nil, "ed:1", []string{"ed:1"}},
		{"foo@" + id, nil, "foo@" + id, nil},
		{"s", nil, "s:latest", []string{"s:latest"}},
	} {
		w, err := parseWanted(strings.Split(trial.args, " "))
		c.Assert(err, check.IsNil)
		n := w.names(id, trial.has)
		c.Check(n.title, check.Equals, trial.title, check.Commentf("%s", trial.args))
		c.Check(n.repoTags, check.DeepEquals, trial.tags, check.Commentf("%s", trial.args))
		if trial.title != "" {
			c.Check(n.links, check.DeepEquals, []string{trial.title})
		}
	}
}

func (*wantedSuite) TestCollectionName(c *check.C) {
	c.Check(names{title: "reg.example/a/b:1"}.collectionName("sha256:"+hex64), check.Equals, "Docker image reg.example a b:1 sha256:edd10")
	c.Check(names{}.collectionName("sha256:"+hex64), check.Equals, "Docker image sha256:edd10")
}

func FuzzParseWanted(f *testing.F) {
	for _, seed := range []string{"alpine", "alpine|3", "reg:5000/foo:1", "foo@sha256:" + hex64, "sha256:" + hex64, hex64[:12], "a:443/b", "[::1]:443/a|b", "|"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		args := strings.SplitN(text, "|", 2)
		w, err := parseWanted(args)
		if err != nil {
			return
		}
		if w.lookup != w.written && w.lookup+":latest" != w.written {
			t.Errorf("%q: %q is looked up for %q", args, w.lookup, w.written)
		}
		if w.repoTag == "" && w.hash == "" && w.ref.Digest == "" {
			t.Errorf("%q is neither a name nor a hash", args)
		}
		if w.repoTag != "" {
			again, err := imageref.Parse(w.repoTag)
			if err != nil || again.String() != w.ref.String() {
				t.Errorf("%q: %q is another name", args, w.repoTag)
			}
		}
		if n := w.names("sha256:"+hex64, nil); strings.Contains(n.collectionName("sha256:"+hex64), "/") {
			t.Errorf("%q: a collection cannot be called %q", args, n.collectionName("sha256:"+hex64))
		}
	})
}
