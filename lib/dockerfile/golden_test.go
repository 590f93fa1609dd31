// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerfile_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"git.arvados.org/arvados.git/lib/dockerfile"
	"git.arvados.org/arvados.git/lib/fault"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var update = flag.Bool("update", false, "write the golden files anew")

var _ = check.Suite(&goldenSuite{})

type goldenSuite struct{}

// separator ends the Dockerfile in a file of testdata. On its line stand the
// options, below it what the recipe says.
const separator = "----------"

func (*goldenSuite) TestRecipes(c *check.C) {
	files, err := filepath.Glob("testdata/*.golden")
	c.Assert(err, check.IsNil)
	c.Assert(len(files) >= 40, check.Equals, true)
	for _, name := range files {
		text, options, want := load(c, name)
		got := describe(c, text, options)
		if *update {
			c.Assert(os.WriteFile(name, []byte(string(text)+strings.TrimRight(separator+" "+options, " ")+"\n"+got), 0666), check.IsNil)
			continue
		}
		c.Check(got, check.Equals, want, check.Commentf("%s differs", name))
	}
}

func load(c *check.C, name string) (text []byte, options, want string) {
	content, err := os.ReadFile(name)
	c.Assert(err, check.IsNil)
	text, rest, ok := bytes.Cut(content, []byte(separator))
	c.Assert(ok, check.Equals, true, check.Commentf("%s has no separator", name))
	options, want, _ = strings.Cut(string(rest), "\n")
	return text, strings.TrimSpace(options), want
}

func parseOptions(c *check.C, words string) dockerfile.Options {
	opts := dockerfile.Options{BuildPlatform: "linux/amd64", Args: map[string]string{}}
	for _, word := range strings.Fields(words) {
		key, v, _ := strings.Cut(word, "=")
		switch {
		case key == "target":
			opts.Target = v
		case key == "platform":
			opts.TargetPlatform = v
		case key == "name":
			opts.Name = v
		case key == "network":
			opts.NetworkNone = true
		case strings.HasPrefix(key, "arg:"):
			opts.Args[key[len("arg:"):]] = v
		default:
			c.Fatalf("unknown option %q", word)
		}
	}
	return opts
}

// pin is the new name of an image in a rewritten file.
func pin(u dockerfile.Use) string {
	return "pin.test/" + strings.ReplaceAll(u.Ref.Path, "/", "-") + "@sha256:" + strings.Repeat("a", 64)
}

// describe is the recipe as text: the form of the golden files.
func describe(c *check.C, text []byte, options string) string {
	recipe, err := dockerfile.Parse(text, parseOptions(c, options))
	if err != nil {
		c.Check(fault.SideOf(err), check.Equals, fault.Request)
		return err.Error() + "\n"
	}
	rewritten, err := recipe.Rewrite(pin)
	c.Assert(err, check.IsNil, check.Commentf("%s", text))
	return describeRecipe(recipe) + changes(text, rewritten)
}

func describeRecipe(recipe *dockerfile.Recipe) string {
	var out strings.Builder
	if recipe.Syntax != "" {
		fmt.Fprintf(&out, "syntax %s line %d\n", recipe.Syntax, recipe.SyntaxLine)
	}
	if recipe.RecentSyntax > 0 {
		fmt.Fprintf(&out, "recent syntax line %d\n", recipe.RecentSyntax)
	}
	for _, u := range recipe.Images {
		fmt.Fprintf(&out, "image %s = %s", u.Name, u.Ref)
		if u.Platform != "" {
			fmt.Fprintf(&out, " for %s", u.Platform)
		}
		for _, p := range u.Places {
			fmt.Fprintf(&out, ", line %d %s", p.Line, p.Instruction)
			if p.Base != "" {
				fmt.Fprintf(&out, " of %s", p.Base)
			}
		}
		out.WriteByte('\n')
	}
	for _, u := range recipe.RemoteURLs {
		fmt.Fprintf(&out, "url %s host %q line %d unknown %v\n", u.URL, u.Host, u.Line, u.Unknown)
	}
	for _, s := range recipe.Secrets {
		fmt.Fprintf(&out, "secret %s line %d required %v\n", s.ID, s.Line, s.Required)
	}
	if len(recipe.DeclaredArgs) > 0 {
		fmt.Fprintf(&out, "args %s\n", strings.Join(recipe.DeclaredArgs, " "))
	}
	if len(recipe.ContextPaths) > 0 {
		fmt.Fprintf(&out, "context %q\n", recipe.ContextPaths)
	}
	for _, w := range recipe.Warnings {
		fmt.Fprintf(&out, "warning line %d %s\n", w.Line, w.Text)
	}
	return out.String()
}

// changes are the lines that differ, as they are after.
func changes(before, after []byte) string {
	var out strings.Builder
	old, lines := strings.Split(string(before), "\n"), strings.Split(string(after), "\n")
	for i, line := range lines {
		if i >= len(old) || line != old[i] {
			fmt.Fprintf(&out, "rewritten %d %s\n", i+1, strings.ReplaceAll(line, strings.Repeat("a", 64), "aa"))
		}
	}
	return out.String()
}
