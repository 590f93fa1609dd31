// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&buildSuite{})

// buildSuite builds images by container requests, on the node's Docker Engine.
type buildSuite struct {
	*stage
	registry *registrytest.Server
	site     builtin.Site
	caches   cacheWatch
}

func (s *buildSuite) SetUpSuite(c *check.C) {
	arvadosclient.RetryDelay = 10 * time.Millisecond
}

func (s *buildSuite) SetUpTest(c *check.C) {
	s.stage = newStage(c)
	s.registry = registrytest.New()
	s.caches = cacheWatch{}
	s.setSite(c, "")
}

func (s *buildSuite) TearDownTest(c *check.C) {
	s.registry.Close()
	s.close(c)
	s.caches.end(c)
}

func (s *buildSuite) setSite(c *check.C, build string) {
	s.setEngine(c, "", build)
}

func (s *buildSuite) setEngine(c *check.C, host, build string) {
	var err error
	s.site, err = builtin.ParseSite([]byte(`{build: {` + build + `}}`))
	c.Assert(err, check.IsNil)
	s.site.Pull.Registries = []string{"127.0.0.1:*"}
	if host != "" {
		s.site.Engine.Host = host
	}
	if host == "" || host == secondEngine {
		s.caches.begin(c, host)
	}
}

// secondEngine has the other image store, and a newer builder; see
// build/need-second-engine.
const secondEngine = "unix:///run/arvados-engine2/docker.sock"

// store makes a collection of files.
func (s *stage) store(c *check.C, files map[string]string) (pdh string) {
	pack := keepfile.NewPacker(context.Background(), keepfile.NewWriter(s.keep(c), 1, arvados.BlockWriteOptions{}))
	for name, content := range files {
		c.Assert(pack.Add(name, strings.NewReader(content)), check.IsNil)
	}
	packed, err := pack.Close()
	c.Assert(err, check.IsNil)
	var coll arvados.Collection
	c.Assert(s.user.RequestAndDecode(&coll, "POST", "arvados/v1/collections", nil, attrs{
		"collection": attrs{"manifest_text": keepfile.FormatManifest(packed), "properties": attrs{"type": "log"}}, // not an image
	}), check.IsNil)
	return coll.PortableDataHash
}

func collection(pdh string) attrs { return attrs{"kind": "collection", "portable_data_hash": pdh} }
func text(content string) attrs   { return attrs{"kind": "text", "content": content} }

// build submits a request for a build and runs it.
func (s *buildSuite) build(c *check.C, words []string, mounts attrs, changes attrs) ending {
	mounts["/out"] = attrs{"kind": "tmp"}
	all := attrs{"mounts": mounts}
	for key, value := range changes {
		all[key] = value
	}
	return s.run(context.Background(), c, s.submit(c, append([]string{"docker", "build"}, words...), all), s.site)
}

// docker is what the docker program prints about the engine, line by line.
func (s *buildSuite) docker(c *check.C, words ...string) []string {
	out, err := exec.Command("docker", words...).Output()
	c.Assert(err, check.IsNil)
	return strings.Fields(string(out))
}

// shellProgram is busybox, different for each cluster: an ELF file may have a tail. A
// builder finds what it has copied before again by its content, also what another
// test has left.
func (s *buildSuite) shellProgram(c *check.C) string {
	program, err := os.ReadFile("/bin/busybox")
	c.Assert(err, check.IsNil)
	return string(program) + s.ClusterID
}

// busybox is a recipe for an image with a shell, and its context.
func (s *buildSuite) busybox(c *check.C) attrs {
	return attrs{
		"/src":            collection(s.store(c, map[string]string{"busybox": s.shellProgram(c)})),
		"/src/Dockerfile": text("FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\nENV PATH=/bin\n"),
	}
}

func (s *buildSuite) ok(c *check.C, e ending) dockerimage.Properties {
	about := check.Commentf("%s", e.why())
	c.Assert(e.runError, check.IsNil, about)
	c.Assert(e.ctr.State, check.Equals, arvados.ContainerStateComplete, about)
	c.Assert(e.exit, check.Equals, 0.0, about)
	c.Assert(e.output, check.NotNil, about)
	props := dockerimage.ParseProperties(e.output.Properties)
	report, err := dockerimage.Validate(context.Background(), s.keep(c), e.output.ManifestText, props)
	c.Assert(err, check.IsNil)
	c.Check(report.Problems, check.HasLen, 0)
	return props
}

// An image is built from mounts, another one upon it, and the same recipe is
// not built again.
func (s *buildSuite) TestBuildUponABuild(c *check.C) {
	for _, host := range []string{"", secondEngine} {
		s.TearDownTest(c)
		s.SetUpTest(c)
		s.setEngine(c, host, "")
		s.buildUponABuild(c)
	}
}

func (s *buildSuite) buildUponABuild(c *check.C) {
	base := s.ok(c, s.build(c, []string{"-t", "local/busybox:1", "/src"}, s.busybox(c), nil))
	c.Check(base.RepoTags, check.DeepEquals, []string{"local/busybox:1"})
	c.Check(base.Key, check.HasLen, 64)
	c.Check(base.Bases, check.HasLen, 0)

	mounts := func() attrs {
		return attrs{"/Dockerfile": text("FROM local/busybox:1\nARG GREETING\nRUN echo $GREETING > /greeting; cat /greeting\n")}
	}
	args := []string{"-t", "local/tool:1", "--build-arg", "GREETING=hello-there"}
	e := s.build(c, args, mounts(), nil)
	tool := s.ok(c, e)
	c.Check(tool.Bases, check.DeepEquals, []dockerimage.Base{{Name: "local/busybox:1", Hash: base.Hash, PDH: base.PDH}})
	c.Check(e.logs["stdout.txt"], check.Matches, `(?s).*local/busybox:1: from Keep, sha256:.*RUN echo hello-there.*hello-there.*`)

	again := s.build(c, args, mounts(), nil)
	c.Check(s.ok(c, again).PDH, check.Equals, tool.PDH)
	c.Check(again.logs["stdout.txt"], check.Matches, `(?s).*the same recipe was built before.*`)
	edited := s.ok(c, s.build(c, []string{"--build-arg", "GREETING=good-bye"}, mounts(), nil))
	c.Check(edited.Key, check.Not(check.Equals), tool.Key)
	c.Check(edited.PDH, check.Not(check.Equals), tool.PDH)
}

// A failed step: exit code 1, with the instruction, its line and what it
// printed.
func (s *buildSuite) TestAStepFails(c *check.C) {
	mounts := s.busybox(c)
	mounts["/src/Dockerfile"] = text("FROM scratch\nCOPY busybox /bin/sh\nRUN echo one\nRUN echo two\nRUN echo the-reason; exit 7\n")
	e := s.build(c, []string{"/src"}, mounts, nil)
	c.Check(e.exit, check.Equals, 1.0)
	c.Check(e.problem, check.Matches, `(?s)build: Dockerfile line 5: RUN echo the-reason; exit 7: exit code 7.*the-reason.*`)
	c.Check(e.logs["stderr.txt"], check.Matches, `(?s).*the-reason.*`)
	c.Check(e.logs["stdout.txt"], check.Matches, `(?s).*one.*two.*the-reason.*`)
	c.Check(s.visible(c), check.HasLen, 0)
}

// A secret reaches the step, and nothing else.
func (s *buildSuite) TestSecret(c *check.C) {
	mounts := s.busybox(c)
	mounts["/src/Dockerfile"] = text(`FROM scratch
COPY busybox /bin/busybox
COPY busybox /bin/sh
RUN --mount=type=secret,id=key,required busybox cat /run/secrets/key && busybox md5sum /run/secrets/key > /tested
`)
	e := s.build(c, []string{"--secret", "id=key,src=/secret/key", "/src"}, mounts,
		attrs{"secret_mounts": attrs{"/secret/key": attrs{"kind": "text", "content": secretWord + "\n"}}})
	s.ok(c, e)
	c.Check(e.logs["stdout.txt"], check.Matches, `(?s).*\[secret\].*`)
	c.Check(bytes.Contains([]byte(e.logs["stdout.txt"]), []byte(secretWord)), check.Equals, false)
}

// With a builder that can, the same recipe gives the same bytes on two engines
// that have seen nothing before.
func (s *buildSuite) TestReproducible(c *check.C) {
	s.setEngine(c, secondEngine, "builder: private")
	var hashes []string
	for range 2 {
		e := s.build(c, []string{"--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1767225600", "/src"}, s.steps(c, "RUN echo one > /one\n"), nil)
		props := s.ok(c, e)
		c.Check(props.Timestamp, check.Equals, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		hashes = append(hashes, props.PDH)
		time.Sleep(time.Second) // or the clock would not show in the files
	}
	c.Check(hashes[1], check.Equals, hashes[0])
}
