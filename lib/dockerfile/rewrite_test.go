// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerfile_test

import (
	"strings"

	"git.arvados.org/arvados.git/lib/dockerfile"
	"git.arvados.org/arvados.git/lib/fault"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&rewriteSuite{})

type rewriteSuite struct{}

func mustParse(c *check.C, text string) *dockerfile.Recipe {
	recipe, err := dockerfile.Parse([]byte(text), dockerfile.Options{})
	c.Assert(err, check.IsNil, check.Commentf("%s", text))
	return recipe
}

func (*rewriteSuite) TestSameNamesChangeNothing(c *check.C) {
	const text = "# c\r\n\n FROM  alpine:3 \t AS x  \nCOPY\t--from=\"busybox\" a b"
	got, err := mustParse(c, text).Rewrite(func(u dockerfile.Use) string { return u.Name })
	c.Assert(err, check.IsNil)
	c.Check(string(got), check.Equals, text)
}

func (*rewriteSuite) TestNamesThatWouldMeanSomethingElse(c *check.C) {
	const text = "FROM alpine AS base\nFROM busybox\nCOPY --from=base / /\nCOPY --from=golang / /\nRUN true"
	for _, name := range []string{"base", "BASE", "scratch", "", "a b", "busybox AS y", "$X", "a\nb", "busybox\\", "-", "x,target=/y", "Upper"} {
		for _, replaced := range []string{"alpine", "busybox", "golang"} {
			_, err := mustParse(c, text).Rewrite(func(u dockerfile.Use) string {
				if u.Name == replaced {
					return name
				}
				return u.Name
			})
			if replaced == "alpine" && name == "base" {
				// A stage's name means nothing in its own FROM.
				c.Check(err, check.IsNil)
				continue
			}
			c.Check(err, check.ErrorMatches, `(?s)request: write image names into Dockerfile: .*`, check.Commentf("%q for %s", name, replaced))
			c.Check(fault.SideOf(err), check.Equals, fault.Request)
		}
	}
}

func (*rewriteSuite) TestNoNewlineAtTheEnd(c *check.C) {
	for text, want := range map[string]string{
		"FROM alpine":                          "FROM x",
		"\xef\xbb\xbfFROM alpine":              "\xef\xbb\xbfFROM x",
		"FROM al\\\npine":                      "FROM \\\nx",
		"FROM alpine \\\n":                     "FROM x \\\n",
		"FROM alpine\nCOPY a --from=b c --d":   "FROM x\nCOPY a --from=b c --d",
		"FROM alpine\nRUN --mount=from=b true": "FROM x\nRUN --mount=from=x true",
	} {
		got, err := mustParse(c, text).Rewrite(func(dockerfile.Use) string { return "x" })
		c.Assert(err, check.IsNil)
		c.Check(string(got), check.Equals, want)
	}
}

func (*rewriteSuite) TestEachUseHasItsOwnName(c *check.C) {
	recipe := mustParse(c, "FROM --platform=linux/arm64 alpine AS a\nFROM alpine\nCOPY --from=alpine / /\nCOPY --from=a / /\n")
	got, err := recipe.Rewrite(func(u dockerfile.Use) string { return "new" + strings.ReplaceAll(u.Platform, "/", "-") })
	c.Assert(err, check.IsNil)
	c.Check(string(got), check.Equals, "FROM --platform=linux/arm64 newlinux-arm64 AS a\nFROM new\nCOPY --from=new / /\nCOPY --from=a / /\n")
}

func (*rewriteSuite) TestCanonical(c *check.C) {
	const text = "ARG V=1\nFROM a AS unused\nFROM b:$V AS x\nRUN one two\nFROM x\nCOPY <<E /\n # kept\nE\n"
	canonical := func(text string) string { return string(mustParse(c, text).Canonical()) }
	same := []string{
		"# comment\n\n" + text,
		strings.ReplaceAll(text, "\n#", "\n# other"),
		strings.Replace(text, "RUN one two", "RUN one \\\n# comment\n\ntwo", 1),
		strings.Replace(text, "FROM a AS unused", "FROM c AS unused\nRUN true", 1),
		strings.Replace(text, "FROM b", "  FROM b", 1),
		"# escape=\\\n" + text,
		"\xef\xbb\xbf" + text,
	}
	for _, other := range same {
		c.Check(canonical(other), check.Equals, canonical(text), check.Commentf("%s", other))
	}
	different := []string{
		strings.Replace(text, "V=1", "V=2", 1),
		strings.Replace(text, "one two", "one  two", 1),
		strings.Replace(text, "# kept", "# changed", 1),
		strings.Replace(text, " # kept\n", "", 1),
		strings.Replace(text, "FROM a AS unused\n", "", 1), // changes the numbers of stages
		"# escape=`\n" + text,
		"# check=error=true\n" + text,
		text + "USER 1\n",
		strings.Replace(text, "/\n #", "/ \n #", 1),
	}
	seen := map[string]bool{canonical(text): true}
	for _, other := range different {
		c.Check(seen[canonical(other)], check.Equals, false, check.Commentf("%s", other))
		seen[canonical(other)] = true
	}
	two := "FROM a AS one\nFROM b AS two\n"
	one, err := dockerfile.Parse([]byte(two), dockerfile.Options{Target: "one"})
	c.Assert(err, check.IsNil)
	c.Check(string(one.Canonical()), check.Not(check.Equals), canonical(two))
}

func (*rewriteSuite) TestManyStagesAreFast(c *check.C) {
	var text strings.Builder
	text.WriteString("FROM alpine AS s\n")
	for range 2000 {
		text.WriteString("FROM s AS s\nENV A=$A$B\nCOPY --from=busybox / /\n")
	}
	c.Check(mustParse(c, text.String()).Images[1].Places, check.HasLen, 2000)
}
