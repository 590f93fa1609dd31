// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun_test

import (
	"strings"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

// buildTrial is one row of the table of what users get when a request for a
// build is wrong. IMAGE in a recipe stands for an image of the registry.
type buildTrial struct {
	what   string
	words  []string // after "docker build"
	recipe string   // of /Dockerfile; "" for the one that works
	mounts attrs    // beside it
	site   string   // of the site file, below build
	state  arvados.ContainerState
	exit   int // -1 for none
	error  string
}

const works = "FROM scratch\nCOPY Dockerfile /\n"

var buildTrials = []buildTrial{
	{what: "nothing is wrong"},
	// The command.
	{what: "unknown flag", words: []string{"--squash"}, exit: 2, error: `request: check command: unknown flag: --squash .*`},
	{what: "two contexts", words: []string{"/a", "/b"}, exit: 2, error: `request: check command: more than one context.*`},
	{what: "host network", words: []string{"--network", "host"}, exit: 2, error: `request: check --network: "host" is not allowed.*`},
	{what: "several platforms", words: []string{"--platform", "linux/amd64,linux/arm64"}, exit: 2, error: `request: check --platform: .*`},
	{what: "BUILDKIT_SYNTAX as a build arg", words: []string{"--build-arg", "BUILDKIT_SYNTAX=evil/frontend"}, exit: 2, error: `request: .*BUILDKIT_SYNTAX.*`},
	{what: "tag in upper case", words: []string{"-t", "Tool:1"}, exit: 2, error: `request: .*lower.*`},
	{what: "secret that is not mounted", words: []string{"--secret", "id=a,src=/a"}, exit: 2, error: `request: check --secret: id "a": there is no secret mount at "/a" .*lost its secrets: arv-docker build --secret id=a,src=FILE .*`},
	{what: "epoch that is none", words: []string{"--build-arg", "SOURCE_DATE_EPOCH=yesterday"}, exit: 2, error: `request: check build arg SOURCE_DATE_EPOCH: "yesterday" is no time .*`},
	// The context.
	{what: "nothing is mounted there", words: []string{"/src"}, exit: 2, error: `request: check context: nothing is mounted at "/src" .*`},
	{what: "no Dockerfile", words: []string{"-f", "Other"}, exit: 2, error: `request: check --file: there is no Dockerfile at "Other" .*`},
	{what: "collection that is not there", words: []string{"keep:d41d8cd98f00b204e9800998ecf84200+0"}, exit: 2, error: `request: .*d41d8cd98f00b204e9800998ecf84200\+0.*`},
	{what: "git over http", words: []string{"http://example.com/x.git"}, exit: 2, error: `request: read git URL .*https.*`},
	{what: "git URL with a password", words: []string{"https://alice:pass-word@example.com/x.git"}, exit: 2, error: `request: read git URL https://example.com/x.git: it has a user name or a password .*`},
	{what: "git on a metadata address", words: []string{"https://169.254.169.254/x.git"}, exit: 2, error: `request: .*169.254.169.254.*never contacted.*`},
	{what: "mount that cannot be a context", mounts: attrs{"/git": attrs{"kind": "keep"}, "/x": attrs{"kind": "json", "content": attrs{"a": 1}}}},
	// The recipe.
	{what: "empty", recipe: "# nothing\n", exit: 2, error: `request: check Dockerfile.*`},
	{what: "unknown instruction", recipe: "FROM scratch\nCOPPY a /\n", exit: 2, error: `request: check Dockerfile line 2: .*COPPY.*`},
	{what: "unknown target", words: []string{"--target", "nosuch"}, exit: 2, error: `request: check .*nosuch.*`},
	{what: "other frontend", recipe: "# syntax=evil/frontend\n" + works, exit: 2, error: `request: check Dockerfile line 1: .*evil/frontend.*`},
	{what: "the usual frontend", recipe: "# syntax=docker/dockerfile:1\n" + works},
	{what: "ONBUILD loop", recipe: works + "ONBUILD ONBUILD RUN x\n", exit: 2, error: `request: check Dockerfile line 3: .*`},
	{what: "insecure step", recipe: works + "RUN --security=insecure x\n", exit: 2, error: `request: check Dockerfile line 3: .*insecure.*`},
	{what: "ADD of a URL without a network", words: []string{"--network", "none"}, recipe: works + "ADD https://example.com/a /\n", exit: 2, error: `request: check Dockerfile line 3: .*`},
	{what: "no files", recipe: "FROM scratch\nLABEL a=b\n", exit: 2, error: `request: save image .*its recipe needs a COPY.*`},
	{what: "signal that is none", recipe: works + "STOPSIGNAL nosuch\n", exit: 2, error: `request: .*nosuch.*`},
	{what: "variables that double", recipe: works + "ENV A=0123456789abcdef" + strings.Repeat("\nENV A=$A$A", 20) + "\n", exit: 2, error: `request: check Dockerfile line 17: a value has more than 131072 bytes.*`},
	{what: "secret that is required", recipe: "FROM scratch\nRUN --mount=type=secret,id=key,required x\n", exit: 2, error: `request: check Dockerfile line 2: the step needs a secret "key", which is not given .*`},
	{what: "COPY of what is not there", recipe: "FROM scratch\nCOPY nosuch /\n", exit: 1, error: `(?s)build: Dockerfile line 2: COPY nosuch /.*`},
	// What it builds upon.
	{what: "image on a metadata address", recipe: "FROM 169.254.169.254/x:1\n", exit: 2, error: `Dockerfile line 1, image 169.254.169.254/x:1: request: .*`},
	{what: "image with zstd layers", recipe: "FROM IMAGE-zstd\nCOPY Dockerfile /\n"},
	{what: "image larger than may be pulled", recipe: "FROM IMAGE\n", site: "}, pull: {max_size: 1MiB", exit: 2, error: `Dockerfile line 1, image .*: request: build upon .*pull.max_size.*`},
	{what: "image nowhere", recipe: "FROM IMAGE-nosuch\n", exit: 1, error: `Dockerfile line 1, image .*: registry: .*nosuch.*`},
	{what: "image not in Keep", recipe: "FROM IMAGE\n", site: "from: keep-only", exit: 2, error: `Dockerfile line 1, image .*: request: find image .*app:1.*`},
	{what: "image without the platform", recipe: "FROM --platform=linux/s390x IMAGE\n", exit: 2, error: `Dockerfile line 1, image .*: .*linux/s390x.*`},
	// The site.
	{what: "builds switched off", site: "enabled: false", exit: 2, error: `request: check command: this site does not allow docker build .*build.enabled.*`},
	{what: "context too large", mounts: attrs{"/big": text(strings.Repeat("x", 2000))}, site: "limits: {context: 1KB}", exit: 2, error: `request: check build context: it has .*build.limits.context.*`},
	{what: "image too large", site: "limits: {size: 1KB}", exit: 1, error: `build: .*more than .*build.limits.size.*`},
	{what: "too many layers", recipe: works + "COPY Dockerfile /again\n", site: "limits: {layers: 1}", exit: 1, error: `build: .*2 layers.*build.limits.layers.*`},
	{what: "too long", site: "limits: {time: 1ns}", exit: 1, error: `build: it was not done after 1ns .*build.limits.time.*`},
	{what: "limits that the engine cannot hold", site: "limits: {resources: refuse}", state: "Cancelled", exit: -1, error: `engine: limit RUN steps on .*build.limits.resources.*`},
}

// zstd is an image that engines of today's Debian cannot unpack.
var zstd = randomimage.Of(randomimage.Layer(7, 5*mib, imagetar.Zstd), randomimage.Layer(8, mib, imagetar.Zstd))

func (s *buildSuite) TestTrouble(c *check.C) {
	for _, t := range buildTrials {
		c.Log(t.what)
		s.TearDownTest(c)
		s.SetUpTest(c)
		s.registry.Push("app:1", app)
		s.registry.Push("app:1-zstd", zstd)
		s.setSite(c, t.site)
		recipe := t.recipe
		if recipe == "" {
			recipe = works
		}
		mounts := attrs{"/Dockerfile": text(strings.ReplaceAll(recipe, "IMAGE", s.registry.Host()+"/app:1"))}
		for path, mount := range t.mounts {
			mounts[path] = mount
		}
		e := s.build(c, t.words, mounts, nil)
		s.checkEnding(c, trial{what: t.what, state: t.state, exit: t.exit, error: t.error}, e)
		c.Check(s.onEngine(c), check.HasLen, 0, check.Commentf("%s: left on the engine", t.what))
	}
}

// onEngine are names on the engine that a build has left.
func (s *buildSuite) onEngine(c *check.C) (names []string) {
	for _, name := range s.docker(c, "images", "--format", "{{.Repository}}:{{.Tag}}") {
		if strings.HasPrefix(name, "arvados-builtin/"+s.ClusterID+"-") {
			names = append(names, name)
		}
	}
	return names
}
