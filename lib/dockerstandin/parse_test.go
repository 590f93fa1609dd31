// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerstandin

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var _ = check.Suite(&parseSuite{})

type parseSuite struct{}

const digits = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func (*parseSuite) TestUnderstood(c *check.C) {
	for _, trial := range []struct {
		line string
		want call
	}{
		// What arvados-cwl-runner, cwltool and arv-keepdocker call, word by word.
		{"images --no-trunc --all", call{name: "images", whole: true, args: []string{}}},
		{"images --no-trunc", call{name: "images", whole: true, args: []string{}}},
		{"inspect lab/tool", call{name: "inspect", args: []string{"lab/tool"}}},
		{"build --tag=lab/tool:1 /tmp/x", call{name: "build", words: []string{"build", always, "--tag=lab/tool:1", "/tmp/x"}}},
		{"pull lab/tool:1", call{name: "pull", words: []string{"pull", always, "lab/tool:1"}}},
		{"load", call{name: "load", words: []string{"load", always, "--", "-"}}},
		{"inspect lab/tool:1", call{name: "inspect", args: []string{"lab/tool:1"}}},
		{"inspect --format={{.Id}} " + digits, call{name: "inspect", format: "{{.Id}}", args: []string{digits}}},
		{"save " + digits, call{name: "save", words: []string{"save", digits}}},
		{"images -q busybox", call{name: "images", quiet: true, args: []string{"busybox"}}},
		// What people write.
		{"images -aq", call{name: "images", quiet: true, args: []string{}}},
		{"inspect --type image -f {{.Size}} a b", call{name: "inspect", format: "{{.Size}}", args: []string{"a", "b"}}},
		{"build -t a:1 -f D --build-arg X=1 --no-cache .", call{name: "build", words: []string{"build", always, "-t", "a:1", "-f", "D", "--build-arg", "X=1", "--no-cache", "."}}},
		{"pull --platform linux/arm64 a", call{name: "pull", words: []string{"pull", always, "--platform", "linux/arm64", "a"}}},
		{"load -q -i -x.tar", call{name: "load", words: []string{"load", always, "--quiet", "--", "-x.tar"}}},
		{"save -o x.tar a", call{name: "save", words: []string{"save", "-o", "x.tar", "a"}}},
		{"tag a b:1", call{name: "tag", words: []string{"tag", always, "a", "b:1"}}},
		{"", call{name: "help"}},
		{"--help", call{name: "help"}},
		{"--version", call{name: "--version"}},
		{"-v", call{name: "--version"}},
		{"version", call{name: "version"}},
		{"info", call{name: "info"}},
	} {
		got, err := parse(strings.Fields(trial.line))
		c.Check(err, check.IsNil, check.Commentf("%s", trial.line))
		c.Check(got, check.DeepEquals, trial.want, check.Commentf("%s", trial.line))
	}
}

func (*parseSuite) TestRefused(c *check.C) {
	for _, trial := range []struct {
		line string
		code int
		text string
	}{
		{"run --attach=STDIN --interactive --rm docker.io/node:alpine node --eval 1", 125, `run: no container runs here\. .*install Node\.js`},
		{"images -q docker.io/node:alpine", 1, `images: node:alpine is of no use .*install Node\.js`},
		{"images -q node:alpine", 1, `images: node:alpine is of no use .*`},
		{"import http://example.com/x.tar lab/x", 1, `import is not supported .*docker load.*`},
		{"exec x sh", 125, `exec: no container runs here.*`},
		{"rmi x", 125, `"rmi" is not answered by arv-docker, .*it answers build, images, info, inspect, load, pull, save, tag and version`},
		{"buildx build .", 125, `"buildx" is not answered .*`},
		{"--context x images", 125, `"--context" is not answered .*`},
		{"inspect", 1, `"inspect" requires at least 1 argument`},
		{"inspect --type container x", 125, `inspect: --type "container": there are only images`},
		{"inspect --size x", 125, `inspect: unknown flag: --size`},
		{"images --filter x", 125, `images: unknown flag: --filter`},
		{"images a b", 1, `"images" takes at most 1 argument`},
		{"images --help", 125, `images: arv-docker, which stands in for docker, answers:\n(?s).*--no-trunc.*`},
		{"load x", 1, `"load" takes at most 0 argument`},
	} {
		_, err := parse(strings.Fields(trial.line))
		c.Check(err, check.ErrorMatches, trial.text, check.Commentf("%s", trial.line))
		var no *refusal
		c.Assert(errors.As(err, &no), check.Equals, true)
		c.Check(no.code, check.Equals, trial.code, check.Commentf("%s", trial.line))
	}
}

// Whatever is written is understood as one thing or refused, and what is handed
// on keeps its words in their order.
func FuzzParse(f *testing.F) {
	for _, line := range []string{
		"images --no-trunc --all", "images -q node:alpine", "inspect --format={{.Id}} x", "build --tag=a b", "pull a", "load -i x", "save x",
		"import a b", "run x", "--version", "tag a b", "inspect -- -x", "images -a=maybe", "\x00", "load --input=",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		c, err := parse(args)
		if err != nil {
			var no *refusal
			if !errors.As(err, &no) || no.text == "" || no.code == 0 || c.name != "" {
				t.Errorf("%q: %#v and %v", line, c, err)
			}
			return
		}
		switch {
		case c.name == "":
			t.Errorf("%q is nothing", line)
		case c.words != nil && c.args != nil:
			t.Errorf("%q is two things", line)
		case c.words != nil && c.words[0] != args[0]:
			t.Errorf("%q becomes %q", line, c.words)
		case c.name == "pull" && !slices.Equal(c.words[2:], args[1:]):
			t.Errorf("%q becomes %q", line, c.words)
		}
		if _, err := parseFormat(c.format); err != nil && err.Error() == "" {
			t.Errorf("%q: no reason", c.format)
		}
	})
}
