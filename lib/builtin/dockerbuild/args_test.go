// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerbuild

import (
	"testing"

	"git.arvados.org/arvados.git/lib/fault"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var _ = check.Suite(&argsSuite{})

type argsSuite struct{}

var noArgs = map[string]string{}

func (*argsSuite) TestAccepted(c *check.C) {
	env := map[string]string{"VERSION": "1.2", "EMPTY": ""}
	for _, trial := range []struct {
		words []string
		want  request
	}{
		{nil, request{}},
		{[]string{"."}, request{context: "."}},
		{[]string{"-t", "a/tool:1", "--tag=tool", "-t", "a/tool:1", "/src"}, request{context: "/src", tags: []string{"a/tool:1", "tool:latest"}}},
		{[]string{"-f", "sub/My.Dockerfile", "keep:x"}, request{context: "keep:x", file: "sub/My.Dockerfile"}},
		{[]string{"--build-arg", "A=b=c", "--build-arg", "VERSION", "--build-arg", "EMPTY", "--build-arg", "UNSET"},
			request{args: map[string]string{"A": "b=c", "VERSION": "1.2", "EMPTY": ""}}},
		{[]string{"--label", "k=v", "--label", "bare"}, request{labels: map[string]string{"k": "v", "bare": ""}}},
		{[]string{"--target", "run", "--platform", "linux/arm/v7", "--no-cache", "--pull"},
			request{target: "run", platform: "linux/arm/v7", noCache: true, pull: true}},
		{[]string{"--network", "none"}, request{network: "none"}},
		{[]string{"--network=default"}, request{}},
		{[]string{"--secret", "id=key,src=/secret/key", "--secret", "source=/b,type=file,id=b"},
			request{secrets: map[string]string{"key": "/secret/key", "b": "/b"}}},
		{[]string{"/src", "-t", "tool"}, request{context: "/src", tags: []string{"tool:latest"}}},
	} {
		got, err := parseArgs(trial.words, env)
		c.Assert(err, check.IsNil, check.Commentf("%q", trial.words))
		for _, m := range []*map[string]string{&trial.want.args, &trial.want.labels, &trial.want.secrets} {
			if *m == nil {
				*m = noArgs
			}
		}
		c.Check(got, check.DeepEquals, trial.want, check.Commentf("%q", trial.words))
	}
}

func (*argsSuite) TestRefused(c *check.C) {
	for _, trial := range []struct {
		words     []string
		complaint string
	}{
		{[]string{"a", "b"}, `request: check command: more than one context: \["a" "b"\] .*`},
		{[]string{"--squash"}, `request: check command: unknown flag: --squash \(docker build takes --file, .*`},
		{[]string{"--cache-from", "x"}, `request: check command: unknown flag: --cache-from .*`},
		{[]string{"--ssh", "default"}, `request: check command: unknown flag: --ssh .*`},
		{[]string{"-t"}, `request: check command: flag needs an argument.*`},
		{[]string{"-t", "Tool"}, `request: .*lower.*`},
		{[]string{"-t", "tool@sha256:" + digits}, `request: check --tag: .* has a digest, .*`},
		{[]string{"--build-arg", "=x"}, `request: check --build-arg: "=x" has no name .*`},
		{[]string{"--label", "=x"}, `request: check --label: "=x" has no name .*`},
		{[]string{"--network", "host"}, `request: check --network: "host" is not allowed .*`},
		{[]string{"--platform", "arm64"}, `request: check --platform: "arm64" is no platform .*`},
		{[]string{"--platform", "linux/amd64,linux/arm64"}, `request: check --platform: .*write one as.*`},
		{[]string{"--secret", "id=a"}, `request: check --secret: it needs both id and src .*`},
		{[]string{"--secret", "id=a,env=B"}, `request: check --secret: key "env" is unknown .*`},
		{[]string{"--secret", "id=a,src=b,type=env"}, `request: check --secret: type "env" cannot be had here .*`},
		{[]string{"--secret", "id=a,src=b", "--secret", "id=a,src=c"}, `request: check --secret: id "a" is there twice .*`},
		{[]string{"--secret", `"`}, `request: check --secret: it cannot be read .*`},
	} {
		_, err := parseArgs(trial.words, nil)
		c.Check(err, check.ErrorMatches, trial.complaint, check.Commentf("%q", trial.words))
		c.Check(fault.SideOf(err), check.Equals, fault.Request)
	}
}

const digits = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func FuzzParseArgs(f *testing.F) {
	f.Add("--secret", "id=a,src=b", "-t")
	f.Add("--build-arg", "A", ".")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		req, err := parseArgs([]string{a, b, c}, nil)
		if err != nil && fault.SideOf(err) != fault.Request {
			t.Errorf("%q: %v", []string{a, b, c}, err)
		}
		for id, source := range req.secrets {
			if id == "" || source == "" {
				t.Errorf("secret %q from %q", id, source)
			}
		}
	})
}

func (*argsSuite) TestPlatforms(c *check.C) {
	for _, trial := range []struct {
		wanted, has string
		fits        bool
	}{
		{"linux/amd64", "linux/amd64", true},
		{"linux/amd64", "linux/arm64", false},
		{"linux/arm64", "linux/arm64/v8", true},
		{"linux/arm/v7", "linux/arm", true},
		{"linux/arm/v7", "linux/arm/v6", false},
		{"linux/amd64", "windows/amd64", false},
		{"linux/amd64", "", true}, // the config says nothing
	} {
		c.Check(fits(trial.wanted, trial.has), check.Equals, trial.fits, check.Commentf("%+v", trial))
	}
	c.Check(platformOf([]byte(`{"os":"linux","architecture":"arm","variant":"v7"}`)), check.Equals, "linux/arm/v7")
	c.Check(platformOf([]byte(`{"os":"linux","architecture":"amd64"}`)), check.Equals, "linux/amd64")
	c.Check(platformOf([]byte(`{}`)), check.Equals, "")
}
