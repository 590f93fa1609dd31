// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"git.arvados.org/arvados.git/lib/imagesource/engine"
	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/lib/keepfile/keepaccess"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localcluster"
	"github.com/sirupsen/logrus"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var _ = check.Suite(&containerSuite{})

// containerSuite is a cluster with the front and, as its stock crunch-run, one that
// runs containers on the Docker Engine.
type containerSuite struct {
	*localcluster.Cluster
	ctx      context.Context
	bin      string
	user     *arvados.Client
	registry *registrytest.Server
	image    string // portable data hash of arvados/builtin
	id       string // of the same on the engine
}

func (s *containerSuite) SetUpSuite(c *check.C) {
	s.ctx = context.Background()
	s.bin = c.MkDir()
	build := exec.Command("go", "build", "-o", s.bin+"/", ".", "../crunch-run", "../arvados-local")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	c.Assert(err, check.IsNil, check.Commentf("%s", out))
	stock := filepath.Join(s.bin, "stock", "crunch-run")
	c.Assert(os.Mkdir(filepath.Dir(stock), 0700), check.IsNil)
	c.Assert(os.Symlink("../arvados-local", stock), check.IsNil)
	site := filepath.Join(s.bin, "site.yml")
	c.Assert(os.WriteFile(site, []byte("stock_crunch_run: "+stock+"\npull: {registries: ['127.0.0.1:*']}\n"), 0600), check.IsNil)
	s.registry = registrytest.New()
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	s.Cluster, err = localcluster.Start(s.ctx, localcluster.Options{
		Dir: filepath.Join(c.MkDir(), "data"), CrunchRun: filepath.Join(s.bin, "crunch-run"), CrunchRunArgs: []string{"-builtin-config=" + site}, Log: quiet,
	})
	c.Assert(err, check.IsNil)
	s.user = s.UserClient(localcluster.User)

	setup := exec.Command(filepath.Join(s.bin, "arv-docker"), "setup", "--json")
	setup.Env = s.env()
	out, err = setup.Output()
	c.Assert(err, check.IsNil)
	var result struct {
		Published []struct {
			PDH string `json:"portable_data_hash"`
		}
	}
	c.Assert(json.Unmarshal(out, &result), check.IsNil)
	s.image = result.Published[0].PDH
	var coll arvados.Collection
	c.Assert(s.user.RequestAndDecode(&coll, "GET", "arvados/v1/collections/"+s.image, nil, nil), check.IsNil)
	s.id, _ = coll.Properties["docker-image-hash"].(string)
}

func (s *containerSuite) TearDownSuite(c *check.C) {
	s.registry.Close()
	c.Check(s.Stop(), check.IsNil)
	eng, err := engine.New(engine.DefaultHost)
	c.Assert(err, check.IsNil)
	defer eng.Close()
	c.Check(eng.RemoveImage(s.ctx, s.id), check.IsNil)
}

func (s *containerSuite) env() []string {
	return append(os.Environ(), "ARVADOS_API_HOST="+s.APIAddress, "ARVADOS_API_TOKEN="+s.Tokens[localcluster.User], "ARVADOS_API_HOST_INSECURE=1")
}

// run runs a container of the image to its end.
func (s *containerSuite) run(c *check.C, api bool, command ...string) (request arvados.ContainerRequest, ctr arvados.Container, log map[string]string) {
	c.Assert(s.user.RequestAndDecode(&request, "POST", "arvados/v1/container_requests", nil, map[string]interface{}{"container_request": map[string]interface{}{
		"container_image":     s.image,
		"command":             command,
		"mounts":              map[string]interface{}{"/out": map[string]interface{}{"kind": "tmp", "capacity": 1 << 20}},
		"output_path":         "/out",
		"runtime_constraints": map[string]interface{}{"vcpus": 1, "ram": 256 << 20, "API": api},
		"state":               "Committed",
		"priority":            1,
		"use_existing":        false,
	}}), check.IsNil)
	for end := time.Now().Add(time.Minute); request.State != arvados.ContainerRequestStateFinal; time.Sleep(100 * time.Millisecond) {
		c.Assert(time.Now().Before(end), check.Equals, true, check.Commentf("%q does not end", command))
		c.Assert(s.user.RequestAndDecode(&request, "GET", "arvados/v1/container_requests/"+request.UUID, nil, nil), check.IsNil)
	}
	c.Assert(s.user.RequestAndDecode(&ctr, "GET", "arvados/v1/containers/"+request.ContainerUUID, nil, nil), check.IsNil)
	log = map[string]string{}
	kc, err := keepaccess.Open(s.ctx, s.user)
	c.Assert(err, check.IsNil)
	var coll arvados.Collection
	c.Assert(s.user.RequestAndDecode(&coll, "GET", "arvados/v1/collections/"+request.LogUUID, nil, nil), check.IsNil)
	files, err := keepfile.ParseManifest(coll.ManifestText)
	c.Assert(err, check.IsNil)
	for _, file := range files {
		text, err := io.ReadAll(keepfile.NewReader(s.ctx, kc, file))
		c.Assert(err, check.IsNil)
		log[filepath.Base(file.Path)] = string(text)
	}
	return request, ctr, log
}

// The front knows the image by its label; what it does not take for its own ("/bin/
// docker"), the program in the image does, with the same result.
func (s *containerSuite) TestPullInsideAndOutside(c *check.C) {
	s.registry.Push("lab/tool:1", randomimage.New(7, 5<<20, 4096))
	name := s.registry.Host() + "/lab/tool:1"
	var outputs []string
	for _, trial := range []struct {
		program string
		inside  bool
	}{{"docker", false}, {"/bin/docker", true}} {
		request, ctr, log := s.run(c, true, trial.program, "pull", name)
		c.Assert(ctr.ExitCode, check.Equals, 0, check.Commentf("%v", log))
		c.Check(strings.Contains(log["crunch-run.txt"], "running ["), check.Equals, trial.inside, check.Commentf("%s", log["crunch-run.txt"]))
		c.Check(log["stdout.txt"]+log["stderr.txt"], check.Matches, `(?s).*: pulling linux/amd64\n.*Status: in Keep as .*`)
		var output arvados.Collection
		c.Assert(s.user.RequestAndDecode(&output, "GET", "arvados/v1/collections/"+request.OutputUUID, nil, nil), check.IsNil)
		c.Check(output.Properties["docker-image-repo-tag"], check.Equals, name)
		outputs = append(outputs, output.PortableDataHash)
	}
	c.Check(outputs[1], check.Equals, outputs[0])
}

func (s *containerSuite) TestMessagesInside(c *check.C) {
	for _, trial := range []struct {
		api       bool
		command   []string
		complaint string
	}{
		{true, []string{"/bin/docker", "build", "-t", "x:1", "."}, `.*request: run docker build: .*a container cannot build images.*`},
		{false, []string{"/bin/docker", "pull", "x:1"}, `.*request: check runtime_constraints.API: it must be true.*`},
	} {
		_, ctr, log := s.run(c, trial.api, trial.command...)
		c.Check(string(ctr.State), check.Equals, "Complete")
		c.Check(ctr.ExitCode, check.Equals, 2)
		c.Check(log["stderr.txt"], check.Matches, `(?s)`+trial.complaint)
		if trial.api {
			c.Check(fmt.Sprint(ctr.RuntimeStatus["error"]), check.Matches, trial.complaint)
		}
	}
}

// The tool that setup has stored builds as a step of arvados-cwl-runner.
func (s *containerSuite) TestBuildAsStep(c *check.C) {
	cache, err := os.UserCacheDir()
	c.Assert(err, check.IsNil)
	runner := filepath.Join(cache, "arvados-builtin", "python", "bin", "arvados-cwl-runner")
	if _, err := os.Stat(runner); err != nil {
		c.Fatalf("arvados-cwl-runner is missing: run build/need-test-tools (%v)", err)
	}
	dir := c.MkDir()
	c.Assert(os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY hello /\n"), 0644), check.IsNil)
	c.Assert(os.WriteFile(filepath.Join(dir, "hello"), []byte("hi\n"), 0644), check.IsNil)
	var tools arvados.CollectionList
	c.Assert(s.user.RequestAndDecode(&tools, "GET", "arvados/v1/collections", nil, map[string]interface{}{
		"filters": [][]string{{"name", "like", "CWL tools %"}}}), check.IsNil)
	c.Assert(tools.Items, check.HasLen, 1)
	ctx, cancel := context.WithTimeout(s.ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, runner, "--local", "--disable-color", "keep:"+tools.Items[0].PortableDataHash+"/docker-build.cwl", "--tags", "lab/built:1", "--context", dir)
	cmd.Dir, cmd.Env = c.MkDir(), s.env()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	c.Assert(err, check.IsNil, check.Commentf("%s\n%s", out, &stderr))
	var built arvados.CollectionList
	c.Assert(s.user.RequestAndDecode(&built, "GET", "arvados/v1/collections", nil, map[string]interface{}{
		"filters": [][]string{{"properties.docker-image-repo-tag", "=", "lab/built:1"}}}), check.IsNil)
	c.Assert(built.Items, check.HasLen, 1)
	c.Check(string(out), check.Matches, `(?s).*"class": "Directory".*`)
}
