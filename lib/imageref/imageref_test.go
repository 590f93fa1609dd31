// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imageref

import (
	"strings"
	"testing"

	"git.arvados.org/arvados.git/lib/fault"
	"github.com/distribution/reference"
	"gopkg.in/check.v1"
	"pgregory.net/rapid"
)

func Test(t *testing.T) { check.TestingT(t) }

var _ = check.Suite(&suite{})

type suite struct{}

var (
	hex64     = strings.Repeat("0a", 32)
	digest256 = "sha256:" + hex64
	tag128    = strings.Repeat("t", 128)
)

// good are names that docker takes, each with what it means.
var good = []struct {
	name     string
	ref      Ref
	familiar string
	repoTag  string
}{
	// Docker Hub and its defaults.
	{"alpine", Ref{"docker.io", "library/alpine", "latest", ""}, "alpine:latest", "alpine:latest"},
	{"alpine:3.22", Ref{"docker.io", "library/alpine", "3.22", ""}, "alpine:3.22", "alpine:3.22"},
	{"library/alpine", Ref{"docker.io", "library/alpine", "latest", ""}, "alpine:latest", "alpine:latest"},
	{"docker.io/alpine", Ref{"docker.io", "library/alpine", "latest", ""}, "alpine:latest", "alpine:latest"},
	{"docker.io/library/alpine", Ref{"docker.io", "library/alpine", "latest", ""}, "alpine:latest", "alpine:latest"},
	{"index.docker.io/alpine", Ref{"docker.io", "library/alpine", "latest", ""}, "alpine:latest", "alpine:latest"},
	{"index.docker.io/arvados/jobs:3", Ref{"docker.io", "arvados/jobs", "3", ""}, "arvados/jobs:3", "arvados/jobs:3"},
	{"arvados/jobs", Ref{"docker.io", "arvados/jobs", "latest", ""}, "arvados/jobs:latest", "arvados/jobs:latest"},
	{"library/a/b", Ref{"docker.io", "library/a/b", "latest", ""}, "library/a/b:latest", "library/a/b:latest"},
	// One word is never a registry, not even with a dot or what looks like a port.
	{"alp.ine", Ref{"docker.io", "library/alp.ine", "latest", ""}, "alp.ine:latest", "alp.ine:latest"},
	{"registry.example:5000", Ref{"docker.io", "library/registry.example", "5000", ""}, "registry.example:5000", "registry.example:5000"},
	{"localhost", Ref{"docker.io", "library/localhost", "latest", ""}, "localhost:latest", "localhost:latest"},
	// Registries: a dot, a port, an upper-case letter, or localhost.
	{"ghcr.io/x", Ref{"ghcr.io", "x", "latest", ""}, "ghcr.io/x:latest", "ghcr.io/x:latest"},
	{"reg:5000/foo", Ref{"reg:5000", "foo", "latest", ""}, "reg:5000/foo:latest", "reg:5000/foo:latest"},
	{"reg:5000/foo:1", Ref{"reg:5000", "foo", "1", ""}, "reg:5000/foo:1", "reg:5000/foo:1"},
	{"reg.example:443/a/b/c:1", Ref{"reg.example:443", "a/b/c", "1", ""}, "reg.example:443/a/b/c:1", "reg.example:443/a/b/c:1"},
	{"REG.Example/foo", Ref{"REG.Example", "foo", "latest", ""}, "REG.Example/foo:latest", "REG.Example/foo:latest"},
	{"Host/foo", Ref{"Host", "foo", "latest", ""}, "Host/foo:latest", "Host/foo:latest"},
	{"localhost/x", Ref{"localhost", "x", "latest", ""}, "localhost/x:latest", "localhost/x:latest"},
	{"localhost:5000/x", Ref{"localhost:5000", "x", "latest", ""}, "localhost:5000/x:latest", "localhost:5000/x:latest"},
	{"127.0.0.1:5000/x", Ref{"127.0.0.1:5000", "x", "latest", ""}, "127.0.0.1:5000/x:latest", "127.0.0.1:5000/x:latest"},
	{"[::1]:5000/foo:1", Ref{"[::1]:5000", "foo", "1", ""}, "[::1]:5000/foo:1", "[::1]:5000/foo:1"},
	{"[2001:db8::1]/foo", Ref{"[2001:db8::1]", "foo", "latest", ""}, "[2001:db8::1]/foo:latest", "[2001:db8::1]/foo:latest"},
	// Digests: no tag is invented, and one that is given is kept.
	{"alpine@" + digest256, Ref{"docker.io", "library/alpine", "", digest256}, "alpine@" + digest256, ""},
	{"alpine:3.22@" + digest256, Ref{"docker.io", "library/alpine", "3.22", digest256}, "alpine:3.22@" + digest256, "alpine:3.22"},
	{"reg:5000/foo@" + digest256, Ref{"reg:5000", "foo", "", digest256}, "reg:5000/foo@" + digest256, ""},
	// Tags are more liberal than names.
	{"foo:" + tag128, Ref{"docker.io", "library/foo", tag128, ""}, "foo:" + tag128, "foo:" + tag128},
	{"foo:_A.b-c__", Ref{"docker.io", "library/foo", "_A.b-c__", ""}, "foo:_A.b-c__", "foo:_A.b-c__"},
	{"foo:LATEST", Ref{"docker.io", "library/foo", "LATEST", ""}, "foo:LATEST", "foo:LATEST"},
	{"a__b/c.d/e---f", Ref{"docker.io", "a__b/c.d/e---f", "latest", ""}, "a__b/c.d/e---f:latest", "a__b/c.d/e---f:latest"},
	// Hex as a part of a name is no identifier.
	{hex64 + ":1", Ref{"docker.io", "library/" + hex64, "1", ""}, hex64 + ":1", hex64 + ":1"},
	{"reg.example/" + hex64, Ref{"reg.example", hex64, "latest", ""}, "reg.example/" + hex64 + ":latest", "reg.example/" + hex64 + ":latest"},
}

func (s *suite) TestNamesThatDockerTakes(c *check.C) {
	for _, t := range good {
		comment := check.Commentf("%s", t.name)
		ref, err := Parse(t.name)
		c.Assert(err, check.IsNil, comment)
		c.Check(ref, check.Equals, t.ref, comment)
		c.Check(ref.Familiar(), check.Equals, t.familiar, comment)
		c.Check(ref.RepoTag(), check.Equals, t.repoTag, comment)
		c.Check(ref.Name(), check.Equals, t.ref.Domain+"/"+t.ref.Path, comment)
		checkForms(c, ref)
	}
}

// checkForms: both forms are read back as the same Ref, and the familiar one is
// docker's own.
func checkForms(t interface{ Fatalf(string, ...any) }, ref Ref) {
	for _, form := range []string{ref.String(), ref.Familiar()} {
		if again, err := Parse(form); err != nil || again != ref {
			t.Fatalf("%q is read as %+v (%v), not as %+v", form, again, err, ref)
		}
	}
	named, err := reference.ParseNormalizedNamed(ref.String())
	if err != nil {
		t.Fatalf("docker refuses %q: %v", ref.String(), err)
	}
	if familiar := reference.FamiliarString(named); familiar != ref.Familiar() {
		t.Fatalf("docker shows %q where we show %q", familiar, ref.Familiar())
	}
}

// bad are names that are refused, each with the message and a part of the hint.
var bad = []struct{ name, problem, hint string }{
	{"", "the name is empty", "name an image"},
	{" ", "white space", "remove"},
	{" alpine", "white space", "remove"},
	{"alpine ", "white space", "remove"},
	{"al pine", "white space", "remove"},
	{"alpine\n", "white space", "remove"},
	{"alpine\x00", "control characters", "remove"},
	{"/alpine", "an empty part", "extra slash"},
	{"alpine/", "an empty part", "extra slash"},
	{"a//b", "an empty part", "extra slash"},
	{"docker.io/", "an empty part", "extra slash"},
	{"foo:5000/", "an empty part", "extra slash"},
	{"foo::1", "more than one colon", "one colon"},
	{"foo:1:2", "more than one colon", "one colon"},
	{"reg:5000/foo:1:2", "more than one colon", "one colon"},
	{"foo:", "the tag is empty", "latest"},
	{"foo:" + tag128 + "t", "longer than 128", "check the tag"},
	{"foo:-1", "the tag is malformed", "starts with none of"},
	{"foo:.1", "the tag is malformed", "starts with none of"},
	{"foo:a+b", "the tag is malformed", "letters, digits"},
	{"Foo", "must be lower case", `write "foo"`},
	{"foo/Bar:1", "must be lower case", `write "bar"`},
	{"ghcr.io/Foo/bar", "must be lower case", `write "foo/bar"`},
	{"_foo", "the name is malformed", "write [registry/]"},
	{"foo_", "the name is malformed", "write [registry/]"},
	{"a___b", "the name is malformed", "write [registry/]"},
	{"a..b", "the name is malformed", "write [registry/]"},
	{"föö", "the name is malformed", "write [registry/]"},
	{"-", "the name is malformed", "write [registry/]"},
	{"../../etc/passwd", "the registry's host name is malformed", "host:port"},
	{"reg:port/foo", "the registry's host name is malformed", "host:port"},
	{"reg_x.y/foo", "the registry's host name is malformed", "host:port"},
	{"[fe80::1%25eth0]/foo", "the registry's host name is malformed", "host:port"},
	{"::1/foo", "IPv6 address must be in brackets", "[::1]:5000"},
	{"2001:db8::1/foo", "IPv6 address must be in brackets", "[::1]:5000"},
	{strings.Repeat("a", 256), "longer than 255", "check the name"},
	{"https://docker.io/alpine", "starts with a scheme", "drop https://"},
	{"docker://alpine", "starts with a scheme", "drop docker://"},
	{"foo@", "what follows the @ is not a digest", "name@sha256:"},
	{"foo@latest", "what follows the @ is not a digest", "name:tag"},
	{"foo@sha256:abc", "the digest is malformed", "64 lower case"},
	{"foo@sha256:" + strings.ToUpper(hex64), "the digest is malformed", "64 lower case"},
	{"foo@sha512:" + hex64 + hex64, "the digest is malformed", "sha256"},
	{"@" + digest256, "the name is malformed", "write [registry/]"},
	{hex64, "the id of an image", "write the repository"},
	{digest256, "the id of an image", "write the repository"},
	{"docker.io/" + digest256, "the id of an image", "write the repository"},
	{"d41d8cd98f00b204e9800998ecf8427e+0", "portable data hash", "in Arvados already"},
	{strings.Repeat("x/", 10000), "an empty part", "extra slash"},
}

func (s *suite) TestNamesThatAreRefused(c *check.C) {
	for _, t := range bad {
		comment := check.Commentf("%.300q", t.name)
		ref, err := Parse(t.name)
		c.Check(ref, check.Equals, Ref{}, comment)
		failure, ok := err.(*fault.Error)
		c.Assert(ok, check.Equals, true, comment)
		c.Check(failure.Side, check.Equals, fault.Request, comment)
		c.Check(failure.Transient, check.Equals, false, comment)
		c.Check(strings.Contains(failure.Err.Error(), t.problem), check.Equals, true, check.Commentf("%v", err))
		c.Check(strings.Contains(failure.Hint, t.hint), check.Equals, true, check.Commentf("%v", err))
		c.Check(len(err.Error()) < 2000, check.Equals, true, comment)
		c.Check(strings.ContainsAny(err.Error(), "\n\x00"), check.Equals, false, comment)
	}
}

func (s *suite) TestMessageNamesWhatWasWritten(c *check.C) {
	_, err := Parse("ghcr.io/Foo")
	c.Check(err, check.ErrorMatches, `request: read image name "ghcr.io/Foo": the repository name must be lower case \(write "foo"\)`)
}

func (s *suite) TestCredentialsInANameAreNotRepeated(c *check.C) {
	for _, name := range []string{
		"https://user:hunter2@reg.example/foo",
		"user:hunter2@reg.example/foo:1",
		"user:hunter2@reg.example:5000",
		"hunter2@reg.example",
		"user:hun/ter2@reg.example/Foo@bar",
		"user:hunter2 @x",
	} {
		_, err := Parse(name)
		c.Assert(err, check.NotNil)
		c.Check(strings.Contains(err.Error(), "hun"), check.Equals, false, check.Commentf("%v", err))
	}
}

func (s *suite) TestRefMadeByHandHasItsForms(c *check.C) {
	ref := Ref{Domain: "docker.io", Path: "library/alpine"}
	c.Check(ref.String(), check.Equals, "docker.io/library/alpine")
	c.Check(ref.Familiar(), check.Equals, "alpine")
	c.Check(ref.RepoTag(), check.Equals, "")
}

func TestFormsOfAnyNameAreDockers(t *testing.T) {
	word := `[a-z0-9]{1,8}`
	name := rapid.StringMatching(`((reg|Reg|localhost|docker\.io|index\.docker\.io|a\.b|\[::1\])(:[0-9]{1,5})?/)?` +
		`(library/)?(` + word + `/){0,2}` + word + `(:[\w][\w.-]{0,9})?(@sha256:[a-f0-9]{64})?`)
	rapid.Check(t, func(t *rapid.T) {
		s := name.Draw(t, "name")
		ref, err := Parse(s)
		if err == nil {
			checkForms(t, ref)
		} else if named, docker := reference.ParseNormalizedNamed(s); docker == nil && reference.Domain(named) != "" {
			t.Fatalf("docker takes %q, we do not: %v", s, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, t := range good {
		f.Add(t.name)
	}
	for _, t := range bad {
		if len(t.name) < 1000 {
			f.Add(t.name)
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := Parse(s)
		_, docker := reference.ParseNormalizedNamed(s)
		if err != nil {
			if fault.SideOf(err) != fault.Request || err.(*fault.Error).Hint == "" {
				t.Fatalf("%q: an error without side or hint: %v", s, err)
			}
			return
		}
		if docker != nil {
			t.Fatalf("docker refuses %q: %v", s, docker)
		}
		checkForms(t, ref)
	})
}
