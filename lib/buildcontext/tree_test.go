// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"errors"
	"io/fs"
	"slices"

	check "gopkg.in/check.v1"
)

type treeSuite struct{ fixture }

var _ = check.Suite(&treeSuite{})

// treeOf is a tree of entries; a path with "/" at its end is a folder.
func treeOf(c *check.C, entries ...Entry) *Tree {
	b := newBuilder()
	for _, e := range entries {
		c.Assert(b.add(e), check.IsNil)
	}
	return b.tree()
}

func plain(path string) Entry { return fileInMemory(path, plainMode, []byte("content of "+path)) }

func paths(t *Tree) []string {
	names := []string{}
	for e := range t.Entries() {
		names = append(names, e.Path)
	}
	return names
}

func (s *treeSuite) TestOrder(c *check.C) {
	want := []string{"-", "a.b", "b", "z", "a", "a/x", "a/y", "a/b", "a/b/c", "a-b", "a-b/x", "aa", "aa/x", "c"}
	b := newBuilder()
	for _, name := range []string{"a/b/c", "z", "a-b/x", "b", "-", "aa/x", "a.b", "a/y", "a/x"} {
		c.Assert(b.add(plain(name)), check.IsNil)
	}
	c.Assert(b.add(folder("c")), check.IsNil)
	c.Assert(b.add(folder("a")), check.IsNil)
	t := b.tree()
	c.Check(paths(t), check.DeepEquals, want)
	for _, x := range t.entries {
		for _, y := range t.entries {
			c.Check(compare(x, y) < 0, check.Equals, slices.Index(want, x.Path) < slices.Index(want, y.Path))
			c.Check(compare(x, y) == 0, check.Equals, x.Path == y.Path)
		}
	}
	n, size := t.Size()
	c.Check(n, check.Equals, len(want))
	c.Check(size, check.Equals, int64(9*len("content of ")+len("a/b/cza-b/xb-aa/xa.ba/ya/x")))
}

func (s *treeSuite) TestNames(c *check.C) {
	for _, name := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/..", "./a", "a\x00b"} {
		c.Check(newBuilder().add(plain(name)), check.ErrorMatches, `.* is no proper name for a file`)
		_, err := FromFiles(map[string][]byte{name: nil})
		checkRefused(c, err, "no proper name")
	}
	c.Check(newBuilder().add(symlink("a", "b\x00")), check.ErrorMatches, `.*NUL.*`)
	b := newBuilder()
	c.Assert(b.add(plain("a")), check.IsNil)
	c.Check(b.add(plain("a")), check.ErrorMatches, `"a" is there twice`)
	c.Check(b.add(folder("a")), check.ErrorMatches, `"a" is there twice`)
	c.Check(b.add(plain("a/b/c")), check.ErrorMatches, `"a" is no folder`)
	for _, name := range []string{"...", "..a", "a..", " ", "\n", "\\", "\xff"} {
		c.Check(newBuilder().add(plain(name)), check.IsNil)
	}
}

func (s *treeSuite) TestLookup(c *check.C) {
	t := treeOf(c, plain("a"), plain("d/b"), plain("d/e/c"), plain(".hidden/x"),
		symlink("to-a", "a"), symlink("d/up", "../a"), symlink("d/e/to-d", ".."), symlink("far", "d/e/to-d/up"),
		symlink("out", "../a"), symlink("d/out", "../../a"), symlink("abs", "/a"), symlink("loop", "pool"), symlink("pool", "./loop"), symlink("dead", "nowhere"))
	for _, trial := range []struct{ name, path, err string }{
		{"", "", ""},
		{"/", "", ""},
		{".", "", ""},
		{"a", "a", ""},
		{"/a", "a", ""},
		{"./d//b", "d/b", ""},
		{"d/", "d", ""},
		{"d/../a", "a", ""},
		{"d/..", "", ""},
		{".hidden/x", ".hidden/x", ""},
		{".hidden/..", "", ""},
		{"to-a", "a", ""},
		{"d/up", "a", ""},
		{"far", "a", ""},
		{"d/e/to-d/e/to-d/b", "d/b", ""},
		{"x", "", "file does not exist"},
		{"a/b", "", "file does not exist"},
		{"a/", "", "file does not exist"},
		{"a/..", "", "file does not exist"},
		{"dead", "", "file does not exist"},
		{"x/../a", "", "file does not exist"},
		{"..", "", "leads out of the build context"},
		{"d/../../a", "", "leads out of the build context"},
		{"out", "", "leads out of the build context"},
		{"d/out", "", "leads out of the build context"},
		{"abs", "", `the link "abs" leads out of the build context`},
		{"loop", "", "too many symbolic links"},
	} {
		e, err := t.Lookup(trial.name)
		if trial.err == "" {
			c.Check(err, check.IsNil, check.Commentf("%q", trial.name))
			c.Check(e.Path, check.Equals, trial.path, check.Commentf("%q", trial.name))
			continue
		}
		checkRefused(c, err, trial.err)
		c.Check(errors.Is(err, fs.ErrNotExist), check.Equals, trial.err == "file does not exist")
	}
}

func (s *treeSuite) TestSub(c *check.C) {
	t := treeOf(c, plain("a"), plain("d/b"), plain("d/e/c"), plain("de/x"), symlink("l", "d/e"))
	for _, trial := range []struct {
		name string
		want []string
	}{
		{"/", paths(t)},
		{"d", []string{"b", "e", "e/c"}},
		{"/d/e/", []string{"c"}},
		{"l", []string{"c"}},
	} {
		sub, err := t.Sub(trial.name)
		c.Assert(err, check.IsNil)
		c.Check(paths(sub), check.DeepEquals, trial.want)
		for _, name := range trial.want {
			_, err := sub.Lookup(name)
			c.Check(err, check.IsNil)
		}
	}
	_, err := t.Sub("a")
	checkRefused(c, err, `"a": it is a file`)
	_, err = t.Sub("b")
	checkRefused(c, err, `"b": file does not exist`)
}

func (s *treeSuite) TestReadFile(c *check.C) {
	t := treeOf(c, plain("a"), symlink("l", "a"), folder("d"))
	content, err := t.ReadFile(s.ctx, "l", 12)
	c.Check(err, check.IsNil)
	c.Check(string(content), check.Equals, "content of a")
	_, err = t.ReadFile(s.ctx, "l", 11)
	checkRefused(c, err, `"l": it has 12 bytes; at most 11 are allowed`)
	_, err = t.ReadFile(s.ctx, "d", 1)
	checkRefused(c, err, `"d": it is no file`)
}
