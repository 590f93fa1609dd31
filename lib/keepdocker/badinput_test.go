// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepdocker

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&badInputSuite{})

// badInputSuite is about what users do wrong.
type badInputSuite struct{ *cluster }

func (s *badInputSuite) SetUpTest(c *check.C)    { s.cluster = startCluster(c) }
func (s *badInputSuite) TearDownTest(c *check.C) { c.Check(s.Stop(), check.IsNil) }

func (s *badInputSuite) TestArguments(c *check.C) {
	for _, trial := range []struct {
		args string // separated by |
		code int
		want string
	}{
		{"a|b|c", 2, `.*too many arguments: \["c"\].*`},
		{"--bogus", 2, `.*unknown flag: --bogus.*`},
		{"--no|x", 2, `.*unknown flag: --no\n.*`}, // more than one begins so
		{"--retries|many|x", 2, `.*invalid argument "many" for "--retries".*`},
		{"--pull|--no-pull|x", 2, `.*pull.*`},
		{"--progress|--no-progress|x", 2, `.*progress.*`},
		{"--resume|--no-resume|x", 2, `.*resume.*`},
		{"--cache|--no-cache|x", 2, `.*cache.*`},
		{"--tar||x", 2, `.*--tar needs the name of a file.*`},
		{"--tar|x|--pull", 2, `.*pull.*`},
		{"--tag-existing|x", 2, `.*--tag-existing needs an image, and then the name.*`},
		{"--name", 2, `.*flag needs an argument: --name.*`},
		{"a:1|2", 1, `arv-keepdocker: request: check TAG: image "a:1" has a tag already, so "2" cannot be its tag \(leave one of them out\)\n`},
		{"A", 1, `.*must be lower case.*`},
		{"--project-uuid|home|x", 1, `.*check --project-uuid: "home" is not the UUID of a project.*`},
		{"--project-uuid|zzzzz-4zz18-000000000000000|x", 1, `.*is not the UUID of a project.*`},
		{"--project-uuid|" + s.ClusterID + "-j7d0g-000000000000abc|x", 1, `.*there is no project .* that you can read.*`},
		{"x", 1, `.*engine: .*/nonexistent/docker.sock.*\(start the engine or set DOCKER_HOST; without one, use --tar FILE, or arv-docker pull\)\n`},
		{"--pull|x", 1, `.*start the engine or set DOCKER_HOST.*`},
		{strings.Repeat("a", 11), 1, `.*start the engine.*`},
		{"sha256:" + strings.Repeat("a", 11), 1, `.*start the engine.*too short a part.*`},
	} {
		a := s.callWith(c, call{engine: noEngine}, strings.Split(trial.args, "|")...)
		c.Check(a.code, check.Equals, trial.code, check.Commentf("%s: %s", trial.args, a.err))
		c.Check(a.out, check.Equals, "")
		c.Check(a.err, check.Matches, "(?s)"+trial.want, check.Commentf("%s", trial.args))
	}
	for _, host := range []string{"ssh://me@example", "nonsense", "tcp://127.0.0.1:1"} {
		a := s.callWith(c, call{engine: host}, "x")
		c.Check(a.code, check.Equals, 1)
		c.Check(a.err, check.Matches, `(?s).*start the engine or set DOCKER_HOST.*`, check.Commentf("%s", host))
	}
}

func (s *badInputSuite) TestHelpAndVersion(c *check.C) {
	c.Check(s.callWith(c, call{}, "--version").out, check.Matches, `arv-keepdocker \S+\n`)
	a := s.callWith(c, call{}, "-h")
	c.Check(a.code, check.Equals, 0)
	c.Check(a.out, check.Matches, `(?s).*arv-keepdocker \[OPTIONS\] \[IMAGE \[TAG\]\].*--project-uuid.*--tag-existing image.*`)
	c.Check(a.err, check.Equals, "")
}

func (s *badInputSuite) TestServers(c *check.C) {
	page := func(status int, text string) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(text))
		}))
	}
	host := func(server *httptest.Server) string { return strings.TrimPrefix(server.URL, "http://") }
	web, missing, other := page(200, "<html>"), page(404, "<html>"), page(200, "{}")
	defer web.Close()
	defer missing.Close()
	defer other.Close()
	for _, trial := range []struct {
		api  *arvados.Client
		want string
	}{
		{&arvados.Client{}, `.*check ARVADOS_API_HOST: it is not set.*`},
		{&arvados.Client{APIHost: s.APIAddress}, `.*check ARVADOS_API_TOKEN: it is not set.*`},
		{s.Client("v2/zzzzz-gj3su-000000000000000/abc"), `.*401.*the token is wrong or has expired.*`},
		{&arvados.Client{APIHost: "127.0.0.1:1", AuthToken: "x"}, `.*reach the API server 127\.0\.0\.1:1: .*check ARVADOS_API_HOST and the network.*`},
		{&arvados.Client{Scheme: "http", APIHost: host(web), AuthToken: "x"}, `.*talk to 127.* names a server that does not answer as an Arvados API server does.*`},
		{&arvados.Client{Scheme: "http", APIHost: host(missing), AuthToken: "x"}, `.*talk to 127.* names a server that does not answer as an Arvados API server does.*`},
		{&arvados.Client{Scheme: "http", APIHost: host(other), AuthToken: "x"}, `.*does not say who the user is.*`},
	} {
		a := s.callWith(c, call{api: trial.api}, "--retries=0")
		c.Check(a.code, check.Equals, 1)
		c.Check(a.out, check.Equals, "")
		c.Check(a.err, check.Matches, trial.want+"\n")
	}
}

func (s *badInputSuite) TestFrozenProject(c *check.C) {
	var me arvados.User
	c.Assert(s.user.RequestAndDecode(&me, "GET", "arvados/v1/users/current", nil, nil), check.IsNil)
	s.change = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, s.project) {
			return false
		}
		_, _ = w.Write([]byte(`{"uuid":"` + s.project + `","name":"done","frozen_by_uuid":"` + me.UUID + `"}`))
		return true
	}
	a := s.callWith(c, call{engine: noEngine}, "--project-uuid", s.project, "x")
	c.Check(a.code, check.Equals, 1)
	c.Check(a.err, check.Matches, `.*project .* \(done\) is frozen \(name another project, or have it unfrozen\)\n`)
	// A user's home may be given as well.
	a = s.callWith(c, call{engine: noEngine}, "--project-uuid", me.UUID, "x")
	c.Check(a.err, check.Matches, `(?s).*start the engine.*`)
}

func (*badInputSuite) TestLockDir(c *check.C) {
	for _, trial := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"HOME": "/home/me"}, "/home/me/.cache/arvados/docker"},
		{map[string]string{"HOME": "/home/me", "XDG_CACHE_HOME": "/cache"}, "/cache/arvados/docker"},
		{map[string]string{"HOME": "/home/me", "XDG_CACHE_HOME": "relative"}, "/home/me/.cache/arvados/docker"},
		{map[string]string{"HOME": "/home/me", "CACHE_DIRECTORY": "/one:/two"}, "/one/docker"},
		{nil, ""},
	} {
		c.Check(LockDir(func(name string) string { return trial.env[name] }), check.Equals, trial.want)
	}
}

// Where no lock can be made, the folder is named.
func (s *badInputSuite) TestNoLock(c *check.C) {
	name, _ := makeImage(c, firstEngine, "lock:1")
	defer removeImages(c, firstEngine)
	file := filepath.Join(c.MkDir(), "file")
	c.Assert(os.WriteFile(file, nil, 0600), check.IsNil)
	for dir, want := range map[string]string{"": `.*HOME is not set.*`, file + "/docker": `.*lock .*/docker: .*not a directory.*`} {
		var out, stderr bytes.Buffer
		p := &Program{API: s.user, Stdout: &out, Stderr: &stderr, LockDir: dir}
		c.Check(p.Run(context.Background(), []string{name}), check.Equals, 1)
		c.Check(stderr.String(), check.Matches, want+"\n")
	}
}
