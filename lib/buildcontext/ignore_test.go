// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"context"
	"fmt"
	"strings"

	check "gopkg.in/check.v1"
)

type ignoreSuite struct{ fixture }

var _ = check.Suite(&ignoreSuite{})

func (s *ignoreSuite) TestFilter(c *check.C) {
	t := treeOf(c, plain("Dockerfile"), plain(".dockerignore"), plain("a.txt"), plain("b.md"),
		plain("src/a.txt"), plain("src/keep/x.txt"), plain("src/keep/y.md"), plain("src/lib/z.txt"),
		plain(".git/config"), folder("void"), symlink("link", "src"), plain("odd [x]"), plain("b\xff.md"))
	all := strings.Join(paths(t), " ")
	without := func(gone ...string) string {
		kept := []string{}
		for _, name := range paths(t) {
			out := false
			for _, g := range gone {
				out = out || within(name, g)
			}
			if !out {
				kept = append(kept, name)
			}
		}
		return strings.Join(kept, " ")
	}
	for _, trial := range []struct{ ignore, want string }{
		{"", all},
		{"# only\n\n  \n#comments", all},
		{"a.txt", without("a.txt")},
		{"/a.txt", without("a.txt")},
		{"./a.txt/", without("a.txt")},
		{"  a.txt  \n", without("a.txt")},
		{"\xef\xbb\xbfa.txt", without("a.txt")},
		{"a.txt\r\nb.md\r\n", without("a.txt", "b.md")},
		{"*.txt", without("a.txt")},
		{"**/*.txt", without("a.txt", "src/a.txt", "src/keep/x.txt", "src/lib/z.txt")},
		{"*/*.txt", without("src/a.txt")},
		{"?.txt", without("a.txt")},
		{"[ab].*", without("a.txt", "b.md")},
		{"b*.md", without("b.md", "b\xff.md")},
		{`odd \[x\]`, without("odd [x]")},
		{"src", without("src")},
		{"src/", without("src")},
		{"src/**", without("src/a.txt", "src/keep", "src/lib")},
		{"src/*", without("src/a.txt", "src/keep", "src/lib")},
		{".*", without(".dockerignore", ".git")},
		{"Dockerfile\n.dockerignore", without("Dockerfile", ".dockerignore")},
		{"link", without("link")},
		{"link/a.txt", all}, // links are not followed
		{"void", without("void")},
		{"nowhere", all},
		// Later patterns decide.
		{"*.md\n!b.md", without("b\xff.md")},
		{"!b.md\n*.md", without("b.md", "b\xff.md")},
		{"*.md\n!b*\nb.md", without("b.md")},
		// What is taken back comes with its folders.
		{"src\n!src/keep", without("src/a.txt", "src/lib")},
		{"src\n!src/keep/x.txt", without("src/a.txt", "src/lib", "src/keep/y.md")},
		{"src\n!src/keep\nsrc/keep/*.md", without("src/a.txt", "src/lib", "src/keep/y.md")},
		{"*\n!src/lib/z.txt", "src src/lib src/lib/z.txt"},
		{"**\n!**/z.txt", "src src/lib src/lib/z.txt"},
		{"*\n!void", "void"},
		{"*", ""},
		{"src\n!src/keep/nothing", without("src")},
		{"src/keep\n!**/*.md", without("src/keep/x.txt")},
	} {
		ignore, err := ParseIgnore(".dockerignore", []byte(trial.ignore))
		c.Assert(err, check.IsNil)
		got, err := t.Filter(context.Background(), ignore)
		c.Assert(err, check.IsNil)
		c.Check(strings.Join(paths(got), " "), check.Equals, trial.want, check.Commentf("%q", trial.ignore))
	}
}

func (s *ignoreSuite) TestBadPatterns(c *check.C) {
	for _, trial := range []struct{ ignore, want string }{
		{"a\n[", `apply "x/.dockerignore": pattern "\[": syntax error in pattern .*\(correct the pattern\)`},
		{"!", `pattern "!": illegal exclusion`},
		{"[a-", `pattern "\[a-"`},
		{"a[]b", `pattern`},
		{"![z-a]", `pattern`},
		{strings.Repeat("x", 70_000), `read "x/.dockerignore": .*too long`},
	} {
		_, err := ParseIgnore("x/.dockerignore", []byte(trial.ignore))
		checkRefused(c, err, trial.want)
	}
	_, err := treeOf(c, plain("a")).Filter(context.Background(), Ignore{File: "f", Patterns: []string{"["}})
	checkRefused(c, err, `apply "f"`)
}

func (s *ignoreSuite) TestWhichFileCounts(c *check.C) {
	of := func(name, content string) Entry { return fileInMemory(name, plainMode, []byte(content)) }
	t := treeOf(c, of(".dockerignore", "top"), of("src/.dockerignore", "src"), of("src/My.dockerignore", "mine"),
		of("Dockerfile.dockerignore", "plain"), of("big/.dockerignore", strings.Repeat("#\n", 1<<20)), folder("none"), of("dir/.dockerignore/x", ""))
	for _, trial := range []struct{ folder, dockerfile, file, patterns string }{
		{"", "", ".dockerignore", "[top]"},
		{"/", "Dockerfile", "Dockerfile.dockerignore", "[plain]"},
		{"src", "Dockerfile", "Dockerfile.dockerignore", "[plain]"},
		{"src", "src/Dockerfile", "src/.dockerignore", "[src]"},
		{"src", "src/My", "src/My.dockerignore", "[mine]"},
		{"", "src/My", "src/My.dockerignore", "[mine]"},
		{"none", "none/Dockerfile", "", "[]"},
	} {
		ignore, err := t.ReadIgnore(s.ctx, trial.folder, trial.dockerfile)
		c.Check(err, check.IsNil)
		c.Check(ignore.File, check.Equals, trial.file)
		c.Check(fmt.Sprint(ignore.Patterns), check.Equals, trial.patterns)
	}
	_, err := t.ReadIgnore(s.ctx, "big", "")
	checkRefused(c, err, `"big/.dockerignore": it has 2097152 bytes`)
	_, err = t.ReadIgnore(s.ctx, "dir", "")
	checkRefused(c, err, `"dir/.dockerignore": it is no file`)
}
