// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepdocker

import (
	"fmt"
	"strings"

	"gopkg.in/check.v1"
)

var _ = check.Suite(&differentialSuite{})

// differentialSuite runs the Python tool and this one with the same arguments, on
// clusters of their own and one engine. What comes of it must be the same but for
// named differences, which testdata/differential.golden shows.
type differentialSuite struct {
	python, ours *cluster
	replace      []string
}

func (s *differentialSuite) SetUpTest(c *check.C) {
	s.python, s.ours = startCluster(c), startCluster(c)
	s.replace = nil
}

func (s *differentialSuite) TearDownTest(c *check.C) {
	removeImages(c, firstEngine)
	c.Check(s.python.Stop(), check.IsNil)
	c.Check(s.ours.Stop(), check.IsNil)
}

// image makes an image, and has its id shown as a word.
func (s *differentialSuite) image(c *check.C, name string) string {
	_, id := makeImage(c, firstEngine, name)
	word := strings.ToUpper(strings.NewReplacer(":", "-", "/", "-").Replace(name))
	s.replace = append(s.replace, id, "<ID OF "+word+">", id[7:], "<HEX OF "+word+">", id[:12], "<SHORT OF "+word+">")
	return id
}

// both gives the same call to both tools, and returns what came of it.
func (s *differentialSuite) both(c *check.C, engine string, args ...string) (python, ours string) {
	with := func(cl *cluster) []string {
		mine := make([]string, len(args))
		for i, arg := range args {
			mine[i] = strings.ReplaceAll(arg, "PROJECT", cl.project)
		}
		return mine
	}
	r := strings.NewReplacer(s.replace...)
	python = s.python.state(c, s.python.python(c, engine, with(s.python)...), r)
	a := s.ours.callWith(c, call{engine: engine}, with(s.ours)...)
	c.Logf("%q: %s", args, a.err)
	return python, s.ours.state(c, a, r)
}

func (s *differentialSuite) TestSame(c *check.C) {
	one := s.image(c, "one:1")
	s.image(c, "one:latest")
	for _, args := range [][]string{
		{repository + "one:1"},                                       // stored
		{repository + "one:1"},                                       // already there
		{"--project-uuid", "PROJECT", repository + "one:1"},          // copied
		{"--project-uuid=PROJECT", repository + "one", "1"},          // already copied
		{"--no-resume", "--no-cache", "--batch", repository + "one"}, // another image
		{"sha256", strings.TrimPrefix(one, "sha256:")},               // before there are several, of which the Python tool takes any
		{"-f", repository + "one:1"},                                 // stored again
		{"--name", "my image", "--force", repository + "one:1"},
		{"--proj", "PROJECT", "--no-progress", "--silent", repository + "one", "latest"}, // abbreviated
		{repository + "one:1", "2"},
		{repository + "none:1"},
		{"one:two:three"},
		{"a", "b", "c"},
		{"--unknown"},
		{"--pull", "--no-pull", repository + "one:1"},
		{"--progress", "--batch-progress", repository + "one:1"},
		{"--retries", "many", repository + "one:1"},
		{"--name"},
	} {
		if !c.Check(s.same(c, firstEngine, args...), check.Equals, true, check.Commentf("%q", args)) {
			return
		}
	}
}

func (s *differentialSuite) same(c *check.C, engine string, args ...string) bool {
	python, ours := s.both(c, engine, args...)
	return c.Check(ours, check.Equals, python)
}

// Without an image on the engine, what Arvados has is taken. The docker program is
// there, or the Python tool could not do it.
func (s *differentialSuite) TestFromArvados(c *check.C) {
	s.image(c, "kept:1")
	s.same(c, firstEngine, repository+"kept:1")
	removeImages(c, firstEngine)
	s.same(c, firstEngine, repository+"kept:1")
	s.same(c, firstEngine, "--project-uuid", "PROJECT", repository+"kept:1")
	s.same(c, noEngine, "--project-uuid", "PROJECT", repository+"kept:1")
	s.same(c, noEngine, repository+"other")
}

// differences are bugs of the Python tool that this one does not have.
var differences = []struct {
	name  string
	first []string // what both do before, if anything
	args  []string // ID, HEX and SHORT stand for those of the image
}{
	{name: "A full hash is an image", args: []string{"HEX"}},
	{name: "The short hash that docker shows is an image", args: []string{"SHORT"}},
	{name: "sha256:… in one argument is an image", args: []string{"ID"}},
	{name: "No name is no property, and not a null", args: []string{"sha256", "HEX"}},
	{name: "A name that an id begins with is a name", args: []string{"sha", "1"}},
	{name: "--name may be the tag", args: []string{"--name", "1", repository + "diff:1"}},
	{name: "The port that every registry has may be written", args: []string{"reg.example:443/diff:1"}},
	{name: "--pull looks for the tag, too, and what cannot be pulled is taken as the engine has it",
		args: []string{"--pull", repository + "diff", "1"}},
	{name: "A further name gets into the property", first: []string{repository + "diff:1"}, args: []string{"sha:1"}},
	{name: "A copy keeps the names that the image has", first: []string{repository + "diff:1"}, args: []string{"--project-uuid", "PROJECT", "sha:1"}},
	{name: "docker.io/ before a name makes no other name of it", args: []string{"docker.io/" + repository + "diff:1"}},
	{name: "There need be no docker program", first: []string{repository + "diff:1"}, args: []string{"--project-uuid", "PROJECT", repository + "diff:1"}},
}

func (s *differentialSuite) TestDifferences(c *check.C) {
	id := s.image(c, "diff:1")
	for _, name := range []string{"sha:1", "reg.example/diff:1"} {
		docker(c, firstEngine, nil, "tag", id, name)
		defer docker(c, firstEngine, nil, "rmi", name)
	}
	stands := strings.NewReplacer("ID", id, "HEX", id[7:], "SHORT", id[7:19])
	var text strings.Builder
	for _, d := range differences {
		fresh := &differentialSuite{python: startCluster(c), ours: startCluster(c), replace: s.replace}
		if d.first != nil {
			fresh.both(c, firstEngine, d.first...)
		}
		fresh.python.noPrograms = strings.HasSuffix(d.name, "no docker program")
		args := strings.Split(stands.Replace(strings.Join(d.args, "|")), "|")
		python, ours := fresh.both(c, firstEngine, args...)
		c.Check(ours, check.Not(check.Equals), python, check.Commentf("%s", d.name))
		fmt.Fprintf(&text, "# %s\n$ arv-keepdocker %s\n## Python\n%s## Go\n%s\n", d.name, strings.Join(d.args, " "), python, ours)
		c.Check(fresh.python.Stop(), check.IsNil)
		c.Check(fresh.ours.Stop(), check.IsNil)
	}
	golden(c, "differential", text.String())
}

// Each tool lists what the other one has stored, in the same lines.
func (s *differentialSuite) TestList(c *check.C) {
	s.image(c, "listed:1")
	s.image(c, "listed:two")
	for _, name := range []string{"listed:1", "listed:two"} {
		c.Assert(s.python.python(c, firstEngine, repository+name).code, check.Equals, 0)
	}
	s.python.store(c, call{}, "--project-uuid", s.python.project, repository+"listed:1")
	s.python.store(c, call{}, "--tag-existing", repository+"listed:two", repository+"renamed:"+strings.Repeat("x", 20))
	for _, args := range [][]string{nil, {"images"}, {"images", "whatever"}} {
		python := s.python.python(c, firstEngine, args...)
		ours := s.python.callWith(c, call{}, args...)
		c.Check(ours.out, check.Equals, python.out)
		c.Check(ours.code, check.Equals, python.code)
		c.Check(strings.Count(ours.out, "\n"), check.Equals, 5)
	}
}
