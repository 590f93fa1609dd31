// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	_ "git.arvados.org/arvados.git/lib/builtin/dockerbuild"
	_ "git.arvados.org/arvados.git/lib/builtin/dockerpull"
	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

const mib = 1 << 20

// app is an image of a large and a small layer.
var app = randomimage.New(1, 6*mib, mib)

// dockerConfig are credentials as a docker config.json.
func dockerConfig(host, user, password string) string {
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	text, _ := json.Marshal(attrs{"auths": attrs{host: attrs{"auth": auth}}})
	return string(text)
}

// trial is one row of the table. NAME in words stands for the registry.
type trial struct {
	what    string
	words   []string // of the command, after "docker pull"; default NAME/app:1
	changes attrs    // of the request
	setUp   func(s *lifeSuite, host string)
	// What comes of it: the state, "" for Complete; exit code, -1 for none;
	// and runtime_status.error, "" for none.
	state arvados.ContainerState
	exit  int
	error string
}

var trials = []trial{
	{what: "nothing is wrong"},
	// The request.
	{what: "no name", words: []string{}, exit: 2, error: `request: check command: no image name .*`},
	{what: "empty name", words: []string{""}, exit: 2, error: `request: .*empty.*`},
	{what: "upper case", words: []string{"NAME/App:1"}, exit: 2, error: `request: .*lower.*`},
	{what: "extra words", words: []string{"NAME/app:1", "NAME/app:2"}, exit: 2, error: `request: check command: more than one image name.*`},
	{what: "unknown flag", words: []string{"--all-tags", "NAME/app"}, exit: 2, error: `request: check command: unknown flag: --all-tags.*`},
	{what: "platform that is none", words: []string{"--platform", "arm64", "NAME/app:1"}, exit: 2, error: `request: check --platform: "arm64" is no platform.*`},
	{what: "other command", changes: attrs{"command": []string{"docker", "push", "x"}}, exit: 2,
		error: `request: run command \["docker" "push" "x"\]: not a builtin command .*must begin with docker build or docker pull\)`},
	{what: "API false", changes: attrs{"runtime_constraints": attrs{"vcpus": 1, "ram": 1 << 28, "API": false}}, exit: 2,
		error: `request: check runtime_constraints.API: is false \(set it to true.*`},
	{what: "a mount with data", changes: attrs{"mounts": attrs{"/out": attrs{"kind": "tmp"}, "/src": attrs{"kind": "text", "content": "FROM x"}}}, exit: 2,
		error: `request: check mounts\["/src"\]: docker pull reads no text mount \(remove it from the request\)`},
	{what: "a CWL step's request", changes: attrs{
		"mounts": attrs{"/tmp": attrs{"kind": "tmp", "capacity": 1}, "/var/spool/cwl": attrs{"kind": "tmp", "capacity": 1},
			"stdout": attrs{"kind": "file", "path": "/var/spool/cwl/out.txt"}},
		"output_path": "/var/spool/cwl", "cwd": "/var/spool/cwl", "environment": attrs{"HOME": "/var/spool/cwl", "TMPDIR": "/tmp"}}},
	{what: "output path / without mounts", changes: attrs{"mounts": attrs{}, "output_path": "/"}},
	{what: "image arvados/none", changes: attrs{"container_image": "arvados/none"}},
	{what: "registry that the site does not list", words: []string{"registry.invalid/app:1"}, exit: 2,
		error: `request: .*registry.invalid.*site does not allow.*`},
	{what: "larger than the site allows", setUp: func(s *lifeSuite, _ string) { s.site.Pull.MaxSize = mib }, exit: 2,
		error: `request: pull .*the image has 7.0 MiB \(this site allows 1.0 MiB \(pull.max_size\)\)`},
	// The registry.
	{what: "no such image", words: []string{"NAME/nosuch:1"}, exit: 1, error: `registry: .*nosuch.*`},
	{what: "no such tag", words: []string{"NAME/app:nosuch"}, exit: 1, error: `registry: .*app:nosuch.*`},
	{what: "no such platform", words: []string{"--platform", "linux/s390x", "NAME/app:1"}, exit: 2, error: `.*linux/s390x.*linux/amd64.*`},
	{what: "credentials missing, or lost in a copy", setUp: func(s *lifeSuite, _ string) { s.registry.RequireBasic("alice", secretWord) }, exit: 2,
		error: `request: check secret_mounts: registry: .*wants credentials.*secret_mounts /root/.docker/config.json\) \(.*lost them, and arv-docker pull --credentials FILE \S+ sends it with credentials\)`},
	{what: "credentials wrong", setUp: func(s *lifeSuite, _ string) { s.registry.RequireBasic("alice", "another-password") },
		changes: attrs{"secret_mounts": attrs{"/root/.docker/config.json": attrs{"kind": "text", "content": "CREDENTIALS"}}}, exit: 1,
		error: `registry: .*refuses the credentials.*`},
	{what: "credentials right, as text", setUp: func(s *lifeSuite, _ string) { s.registry.RequireBasic("alice", secretWord) },
		changes: attrs{"secret_mounts": attrs{"/root/.docker/config.json": attrs{"kind": "text", "content": "CREDENTIALS"}}}},
	{what: "credentials right, bearer", setUp: func(s *lifeSuite, _ string) { s.registry.RequireBearer("alice", secretWord) },
		changes: attrs{"secret_mounts": attrs{"/root/.docker/config.json": attrs{"kind": "text", "content": "CREDENTIALS"}}}},
	{what: "429, then fine", setUp: func(s *lifeSuite, _ string) {
		s.registry.Script("/manifests/", registrytest.Status(429, "Retry-After: 1"))
	}},
	{what: "503 on a layer, then fine", setUp: func(s *lifeSuite, _ string) {
		s.registry.Script(app.Layers[0].Digest, registrytest.Status(503))
	}},
	{what: "connection reset in a layer, then fine", setUp: func(s *lifeSuite, _ string) {
		s.registry.Script(app.Layers[0].Digest, registrytest.Reset(3*mib))
	}},
	{what: "503 for ever", setUp: func(s *lifeSuite, _ string) { s.registry.Always("/manifests/", registrytest.Status(503)) },
		state: "Cancelled", exit: -1, error: `registry: .*503.*`},
	{what: "layer with wrong bytes", setUp: func(s *lifeSuite, _ string) {
		s.registry.ReplaceBlob(app.Layers[0].Digest, bytes.Repeat([]byte{1}, 6*mib))
	}, exit: 1, error: `registry: .*` + app.Layers[0].Digest + `.*`},
	{what: "truncated layer", setUp: func(s *lifeSuite, _ string) {
		s.registry.ReplaceBlob(app.Layers[0].Digest, make([]byte, 5*mib))
	}, exit: 1, error: `registry: .*` + app.Layers[0].Digest + `.*`},
	{what: "layer missing", setUp: func(s *lifeSuite, _ string) { s.registry.RemoveBlob(app.Layers[1].Digest) }, exit: 1,
		error: `registry: .*` + app.Layers[1].Digest + `.*`},
	{what: "manifest of 5 MB", setUp: func(s *lifeSuite, _ string) {
		s.registry.PutManifest("app:1", app.ManifestMediaType, bytes.Replace(app.Manifest, []byte("{"), append([]byte("{"), bytes.Repeat([]byte(" "), 5_000_000)...), 1))
	}, exit: 1, error: `registry: read manifest .* bytes are more than the 4194304 that a manifest may have .*`},
	{what: "200 layers", words: []string{"NAME/many:1"}},
	{what: "registry unreachable", words: []string{"127.0.0.1:9/app:1"}, state: "Cancelled", exit: -1, error: `registry: .*127.0.0.1:9.*connection refused.*`},
	// Keep.
	{what: "Keep answers 503, then fine", setUp: func(s *lifeSuite, _ string) { s.failLargeBlocks(1, status(503)) }},
	{what: "Keep answers 503 for a while, then fine", setUp: func(s *lifeSuite, _ string) { s.failLargeBlocks(10, status(503)) }},
	{what: "Keep answers 503 for ever", setUp: func(s *lifeSuite, _ string) { s.failLargeBlocks(-1, status(503)) },
		state: "Cancelled", exit: -1, error: `keep: write block .*503.*`},
	{what: "Keep is full", setUp: func(s *lifeSuite, _ string) { s.failLargeBlocks(-1, status(507)) },
		state: "Cancelled", exit: -1, error: `keep: write block .*507.*`},
	{what: "Keep stores fewer copies than wanted", setUp: func(s *lifeSuite, _ string) {
		s.failLargeBlocks(-1, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("X-Keep-Replicas-Stored", "0")
			w.Header().Set("X-Keep-Storage-Classes-Confirmed", "default=0")
			fmt.Fprintln(w, "d41d8cd98f00b204e9800998ecf8427e+0")
		})
	}, state: "Cancelled", exit: -1, error: `keep: write block .*could not write 1 replicas, only 0.*`},
}

// manyLayers is an image of 200 layers.
func manyLayers() imagetar.Image {
	var layers []imagetar.Layer
	for i := range 200 {
		layers = append(layers, randomimage.Layer(int64(1000+i), randomimage.MinLayer, imagetar.Gzip))
	}
	return randomimage.Of(layers...)
}

// The table of what users get when something is wrong: with their request, the
// registry, Keep or the API server.
func (s *lifeSuite) TestTrouble(c *check.C) {
	many := manyLayers()
	s.atOnce(c, len(trials), func(i int, s *lifeSuite) {
		t := trials[i]
		c.Log(t.what)
		s.registry.Push("many:1", many)
		host := s.registry.Host()
		words := t.words
		if words == nil {
			words = []string{"NAME/app:1"}
		}
		command := []string{"docker", "pull"}
		for _, word := range words {
			command = append(command, strings.ReplaceAll(word, "NAME", host))
		}
		if mounts, ok := t.changes["secret_mounts"].(attrs); ok {
			mounts["/root/.docker/config.json"].(attrs)["content"] = dockerConfig(host, "alice", secretWord)
		}
		cr := s.submit(c, command, t.changes)
		if t.setUp != nil {
			t.setUp(s, host)
		}
		e := s.run(context.Background(), c, cr, s.site)
		s.checkEnding(c, t, e)
	})
}

// checkEnding holds an ending to its row: state, exit code, message where
// users look for it, and nothing left behind.
func (s *stage) checkEnding(c *check.C, t trial, e ending) {
	about := check.Commentf("%s: %+v\n%s", t.what, e.ctr.RuntimeStatus, e.logs["crunch-run.txt"])
	c.Check(e.runError, check.IsNil, about)
	state := t.state
	if state == "" {
		state = arvados.ContainerStateComplete
	}
	c.Check(e.ctr.State, check.Equals, state, about)
	c.Check(e.cr.State, check.Equals, arvados.ContainerRequestStateFinal, about)
	if t.exit < 0 {
		c.Check(e.exit, check.IsNil, about)
	} else {
		c.Check(e.exit, check.Equals, float64(t.exit), about)
	}
	c.Check(e.logs["crunch-run.txt"], check.Matches, `(?s).*Z `+string(state)+"\n", about)
	if t.error == "" {
		c.Check(e.problem, check.Equals, "", about)
		c.Assert(e.output, check.NotNil, about)
		c.Check(s.visible(c), check.DeepEquals, []string{e.output.Name}, about)
		return
	}
	c.Check(e.problem, check.Matches, t.error, about)
	if t.exit > 0 {
		c.Check(strings.Contains(e.logs["stderr.txt"], e.problem), check.Equals, true, about)
	}
	c.Check(e.output, check.IsNil, about)
	c.Check(e.ctr.Output, check.Equals, "", about)
	c.Check(s.visible(c), check.HasLen, 0, about)
}
