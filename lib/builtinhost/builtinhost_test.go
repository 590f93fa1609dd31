// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinhost

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
	"git.arvados.org/arvados.git/sdk/go/keepclient"
	"git.arvados.org/arvados.git/services/localcluster"
	"github.com/sirupsen/logrus"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var _ = check.Suite(&suite{})

type attrs = map[string]interface{}

// suite is an embedded cluster without a dispatcher: the test is the crunch-run of
// its containers.
type suite struct {
	*localcluster.Cluster
	ctx      context.Context
	root     *arvados.Client
	user     *arvados.Client
	registry *registrytest.Server

	mtx     sync.Mutex
	fail    string   // part of "METHOD path" of requests that are to fail
	classes []string // storage classes that Keep was asked for, a block each
}

func (s *suite) SetUpTest(c *check.C) {
	arvadosclient.RetryDelay = 10 * time.Millisecond
	s.ctx = context.Background()
	s.fail, s.classes = "", nil
	s.registry = registrytest.New()
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	var err error
	s.Cluster, err = localcluster.Start(s.ctx, localcluster.Options{Dir: filepath.Join(c.MkDir(), "data"), Log: quiet, Wrap: s.wrap})
	c.Assert(err, check.IsNil)
	s.root, s.user = s.Client(s.SystemRootToken), s.UserClient(localcluster.User)
}

func (s *suite) wrap(server string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mtx.Lock()
		fail := s.fail != "" && strings.Contains(r.Method+" "+r.URL.Path, s.fail)
		if server == "keep" && r.Method == http.MethodPut {
			s.classes = append(s.classes, r.Header.Get(keepclient.XKeepStorageClasses))
		}
		s.mtx.Unlock()
		if fail {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"errors":["made to fail"]}`)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (s *suite) TearDownTest(c *check.C) {
	s.registry.Close()
	c.Check(s.Stop(), check.IsNil)
}

// running is a container that runs, and a client with its token.
func (s *suite) running(c *check.C, ram int64, command ...string) (request arvados.ContainerRequest, client *arvados.Client) {
	return s.runningWith(c, []string{"default"}, ram, command...)
}

// runningWith is running for an output of the given storage classes.
func (s *suite) runningWith(c *check.C, classes []string, ram int64, command ...string) (request arvados.ContainerRequest, client *arvados.Client) {
	c.Assert(s.user.RequestAndDecode(&request, "POST", "arvados/v1/container_requests", nil, attrs{"container_request": attrs{
		"container_image":        "arvados/builtin",
		"command":                command,
		"mounts":                 attrs{"/out": attrs{"kind": "tmp", "capacity": 1 << 20}},
		"output_path":            "/out",
		"output_storage_classes": classes,
		"runtime_constraints":    attrs{"vcpus": 1, "ram": ram, "API": true},
		"state":                  "Committed",
		"priority":               1,
		"use_existing":           false,
	}}), check.IsNil)
	path := "arvados/v1/containers/" + request.ContainerUUID
	var auth arvados.APIClientAuthorization
	c.Assert(s.root.RequestAndDecode(nil, "POST", path+"/lock", nil, nil), check.IsNil)
	c.Assert(s.root.RequestAndDecode(&auth, "GET", path+"/auth", nil, nil), check.IsNil)
	c.Assert(s.root.RequestAndDecode(nil, "PUT", path, nil, attrs{"container": attrs{"state": "Running"}}), check.IsNil)
	client = s.Client(auth.TokenV2() + "/" + request.ContainerUUID)
	client.Timeout = time.Second
	return request, client
}

// end is what crunch-run does last: it keeps an output that the program has set.
func (s *suite) end(c *check.C, request *arvados.ContainerRequest, code int) (ctr arvados.Container) {
	path := "arvados/v1/containers/" + request.ContainerUUID
	c.Assert(s.root.RequestAndDecode(&ctr, "PUT", path, nil, attrs{"container": attrs{"state": "Complete", "exit_code": code}}), check.IsNil)
	c.Assert(s.user.RequestAndDecode(request, "GET", "arvados/v1/container_requests/"+request.UUID, nil, nil), check.IsNil)
	return ctr
}

// run is a Host at work.
func (s *suite) run(client *arvados.Client, files fs.FS, args ...string) (code int, ours bool, out, err string) {
	if files == nil {
		files = fstest.MapFS{}
	}
	var stdout, stderr bytes.Buffer
	h := &Host{API: client, Files: files, Stdout: &stdout, Stderr: &stderr}
	code, ours = h.Run(s.ctx, args)
	return code, ours, stdout.String(), stderr.String()
}

func (s *suite) TestPull(c *check.C) {
	digest := s.registry.Push("lab/tool:1", randomimage.New(1, 5<<20, 4096))
	name := s.registry.Host() + "/lab/tool:1"
	for _, program := range []string{"docker", "/bin/docker"} {
		request, client := s.running(c, 512<<20, program, "pull", name)
		code, ours, out, stderr := s.run(client, nil, "pull", name)
		c.Assert(code, check.Equals, 0, check.Commentf("%s", stderr))
		c.Check(ours, check.Equals, true)
		c.Check(out, check.Matches, `(?s).*: pulling linux/amd64\nDigest: `+digest+`\n.*Status: in Keep as .*`)
		s.end(c, &request, code)
		c.Check(string(request.State), check.Equals, "Final")
		var output arvados.Collection
		c.Assert(s.user.RequestAndDecode(&output, "GET", "arvados/v1/collections/"+request.OutputUUID, nil, nil), check.IsNil)
		c.Check(output.IsTrashed, check.Equals, false)
		c.Check(output.FileCount, check.Equals, 1)
		c.Check(output.Properties["docker-image-repo-tag"], check.Equals, name)
		c.Check(output.Properties["arv:docker-image-pdh"], check.Equals, output.PortableDataHash)
		c.Check(output.Properties["type"], check.Equals, "output")
	}
	// The collections that the program made were in the trash from the start.
	var left arvados.CollectionList
	c.Assert(s.user.RequestAndDecode(&left, "GET", "arvados/v1/collections", nil, attrs{"filters": [][]string{{"name", "like", "output for %"}}}), check.IsNil)
	c.Check(left.Items, check.HasLen, 0)
}

// Blocks are written with the storage classes of the request, or else of the cluster.
func (s *suite) TestStorageClasses(c *check.C) {
	s.registry.Push("lab/tool:1", randomimage.New(1, 4096))
	name := s.registry.Host() + "/lab/tool:1"
	for _, trial := range []struct {
		wanted []string
		asked  string
	}{
		{[]string{"fast", "archive"}, "archive, fast"},
		{[]string{}, "default"},
	} {
		_, client := s.runningWith(c, trial.wanted, 512<<20, "docker", "pull", name)
		s.mtx.Lock()
		s.classes = nil
		s.mtx.Unlock()
		code, _, _, stderr := s.run(client, nil, "pull", name)
		c.Check(code, check.Equals, 0, check.Commentf("%s", stderr))
		s.mtx.Lock()
		c.Check(s.classes, check.DeepEquals, []string{trial.asked})
		s.mtx.Unlock()
	}
}

// Images are named by what the image of the program was set up for.
func (s *suite) TestNamedAsTheSiteWants(c *check.C) {
	img := randomimage.New(1, 4096)
	digest := s.registry.Push("lab/tool:1", img)
	name := s.registry.Host() + "/lab/tool:1"
	for variable, hash := range map[string]string{"1": fmt.Sprintf("sha256:%x", sha256.Sum256(img.Config)), "manifest": digest} {
		request, client := s.running(c, 512<<20, "docker", "pull", name)
		var stderr bytes.Buffer
		h := &Host{API: client, Image: variable, Files: fstest.MapFS{}, Stdout: io.Discard, Stderr: &stderr}
		code, _ := h.Run(s.ctx, []string{"pull", name})
		c.Assert(code, check.Equals, 0, check.Commentf("%s", stderr.String()))
		s.end(c, &request, code)
		var output arvados.Collection
		c.Assert(s.user.RequestAndDecode(&output, "GET", "arvados/v1/collections/"+request.OutputUUID, nil, nil), check.IsNil)
		c.Check(output.Properties["docker-image-hash"], check.Equals, hash)
	}
}

// What the user asked for wrongly, and what failed, ends with a message in the log
// and in the record.
func (s *suite) TestTrouble(c *check.C) {
	s.registry.Push("lab/tool:1", randomimage.New(1, 4096))
	name := s.registry.Host() + "/lab/tool:1"
	for _, trial := range []struct {
		ram       int64
		fail      string
		files     fs.FS
		words     []string
		code      int
		complaint string
	}{
		{ram: 512 << 20, words: []string{"docker", "build", "-t", "x:1", "."}, code: 2,
			complaint: `request: run docker build: this container is run by a crunch-run without builtin commands, .*install the crunch-run with builtin commands \(doc/install.md\).*`},
		{ram: 128 << 20, words: []string{"docker", "pull", name}, code: 2,
			complaint: `request: check runtime_constraints.ram: 128 MiB is too little for a pull \(set it to 144 MiB \(150994944\) or more .*`},
		{ram: 512 << 20, words: []string{"docker", "pull"}, code: 2, complaint: `request: check command: no image name .*`},
		{ram: 512 << 20, words: []string{"docker", "pull", name + "-none"}, code: 1, complaint: `registry: .*`},
		{ram: 512 << 20, words: []string{"docker", "pull", name}, code: 1, fail: "POST /arvados/v1/collections",
			complaint: `api: POST collections: .*made to fail.*`},
		{ram: 512 << 20, words: []string{"docker", "pull", name}, code: 1, fail: "GET /arvados/v1/users/current",
			complaint: `api: GET users/current: .*made to fail.*`},
		{ram: 512 << 20, words: []string{"docker", "pull", name}, code: 2,
			files:     fstest.MapFS{"root/.docker/config.json": {Data: []byte("no JSON, a-secret")}},
			complaint: `request: read registry credentials /root/.docker/config.json: .*`},
		{ram: 512 << 20, words: []string{"docker", "pull", name}, code: 2,
			files:     fstest.MapFS{"root/.docker/config.json/x": {}},
			complaint: `request: read /root/.docker/config.json: .*mount it as a file.*`},
	} {
		request, client := s.running(c, trial.ram, trial.words...)
		s.mtx.Lock()
		s.fail = trial.fail
		s.mtx.Unlock()
		code, ours, _, stderr := s.run(client, trial.files, trial.words[1:]...)
		s.mtx.Lock()
		s.fail = ""
		s.mtx.Unlock()
		c.Check(code, check.Equals, trial.code, check.Commentf("%q", trial))
		c.Check(ours, check.Equals, true)
		c.Check(stderr, check.Matches, `(?s).*`+trial.complaint+"\n")
		c.Check(stderr, check.Not(check.Matches), "(?s).*(a-secret|"+client.AuthToken[30:]+").*")
		ctr := s.end(c, &request, code)
		c.Check(fmt.Sprint(ctr.RuntimeStatus["error"]), check.Matches, trial.complaint)
		c.Check(ctr.Output, check.Equals, "")
	}
}

// Whatever is not the work of this very container is left to others, without a
// request where there is no container.
func (s *suite) TestNotOurs(c *check.C) {
	_, inside := s.running(c, 512<<20, "sh", "-c", "docker pull x:1")
	nobody := &arvados.Client{}
	for _, trial := range []struct {
		client *arvados.Client
		args   []string
	}{
		{inside, []string{"pull", "x:1"}},
		{inside, []string{"images"}},
		{inside, nil},
		{s.user, []string{"pull", "x:1"}},
		{nobody, []string{"pull", "x:1"}},
		{nobody, []string{"build", "."}},
	} {
		code, ours, out, stderr := s.run(trial.client, nil, trial.args...)
		c.Check(ours, check.Equals, false, check.Commentf("%q", trial.args))
		c.Check(fmt.Sprint(code, out, stderr), check.Equals, "0")
	}
}

func (s *suite) TestWithoutAPI(c *check.C) {
	var stderr bytes.Buffer
	h := &Host{API: &arvados.Client{}, Image: "1", Files: fstest.MapFS{}, Stdout: io.Discard, Stderr: &stderr}
	code, ours := h.Run(s.ctx, []string{"pull", "x:1"})
	c.Check(code, check.Equals, 2)
	c.Check(ours, check.Equals, true)
	c.Check(stderr.String(), check.Matches, `request: check runtime_constraints.API: it must be true, .*arv:APIRequirement in CWL.*\n`)
}

// A container that was cancelled meanwhile has a token of no use.
func (s *suite) TestCancelled(c *check.C) {
	request, client := s.running(c, 512<<20, "docker", "pull", "x:1")
	c.Assert(s.user.RequestAndDecode(nil, "PUT", "arvados/v1/container_requests/"+request.UUID, nil, attrs{"container_request": attrs{"priority": 0}}), check.IsNil)
	c.Assert(s.root.RequestAndDecode(nil, "PUT", "arvados/v1/containers/"+request.ContainerUUID, nil, attrs{"container": attrs{"state": "Cancelled"}}), check.IsNil)
	code, ours, _, stderr := s.run(client, nil, "pull", "x:1")
	c.Check(code, check.Equals, 1)
	c.Check(ours, check.Equals, true)
	c.Check(stderr, check.Matches, `api: GET containers/current: .*\n`)
}
