// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&badInputSuite{})

// badInputSuite is about what users do wrong.
type badInputSuite struct{ fixture }

func (s *badInputSuite) TestServers(c *check.C) {
	page := func(status int) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte("<html>hello</html>"))
		}))
	}
	web, missing := page(200), page(404)
	defer web.Close()
	defer missing.Close()
	host := func(server *httptest.Server) string { return strings.TrimPrefix(server.URL, "http://") }
	expired := s.Client("v2/zzzzz-gj3su-000000000000000/0123456789abcdefghijklmnopqrstuvwxyzabcdefghijklmn")
	for _, trial := range []struct {
		api  *arvados.Client
		want string
	}{
		{&arvados.Client{}, `arv-docker: request: check ARVADOS_API_HOST: it is not set \(set it in the environment or in ~/\.config/arvados/settings\.conf; .*\)\n`},
		{&arvados.Client{APIHost: s.APIAddress}, `arv-docker: request: check ARVADOS_API_TOKEN: it is not set .*\n`},
		{expired, `arv-docker: api: GET users/current of .*: .*401.* \(the token is wrong or has expired: get a new ARVADOS_API_TOKEN from Workbench\)\n`},
		{&arvados.Client{APIHost: "127.0.0.1:1", AuthToken: "x", Timeout: 100 * time.Millisecond},
			`arv-docker: api: reach the API server 127\.0\.0\.1:1: .*connection refused \(check ARVADOS_API_HOST and the network\)\n`},
		{&arvados.Client{APIHost: "no-such-host.invalid", AuthToken: "x", Timeout: 100 * time.Millisecond},
			`arv-docker: api: reach the API server no-such-host\.invalid: .*\n`},
		{&arvados.Client{Scheme: "http", APIHost: host(web), AuthToken: "x"},
			`arv-docker: api: talk to 127.*: its answer is not JSON \(ARVADOS_API_HOST names a server that does not answer as an Arvados API server does\)\n`},
		{&arvados.Client{Scheme: "http", APIHost: host(missing), AuthToken: "x"}, `arv-docker: api: talk to 127.*: 404 Not Found \(ARVADOS_API_HOST names a server .*\)\n`},
	} {
		a := s.callWith(c, call{api: trial.api}, "images")
		c.Check(a.code, check.Equals, 1)
		c.Check(a.out, check.Equals, "")
		c.Check(a.err, check.Matches, trial.want)
	}
}

func (s *badInputSuite) TestArguments(c *check.C) {
	dir := c.MkDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		c.Assert(os.MkdirAll(filepath.Dir(path), 0777), check.IsNil)
		c.Assert(os.WriteFile(path, []byte(content), 0600), check.IsNil)
		return path
	}
	file("ok/Dockerfile", "FROM scratch\n")
	ok := filepath.Join(dir, "ok")
	file("bare/x", "")
	file("cycle/Dockerfile", "FROM scratch\n")
	c.Assert(os.Symlink("b", filepath.Join(dir, "cycle/a")), check.IsNil)
	c.Assert(os.Symlink("a", filepath.Join(dir, "cycle/b")), check.IsNil)
	file("out/Dockerfile", "FROM scratch\n")
	c.Assert(os.Symlink("/etc/passwd", filepath.Join(dir, "out/link")), check.IsNil)
	file("pattern/Dockerfile", "FROM scratch\n")
	file("pattern/.dockerignore", "[a\n")
	notText := file("binary", "\xff\xfe"+secretWord)
	c.Assert(os.MkdirAll(filepath.Join(dir, "names"), 0777), check.IsNil)
	file("names/Dockerfile", "FROM scratch\n")
	file("names/\xff", "")
	var me arvados.User
	c.Assert(s.user.RequestAndDecode(&me, "GET", "arvados/v1/users/current", nil, nil), check.IsNil)
	unknown := s.ClusterID + "-j7d0g-000000000000abc"
	for _, trial := range []struct {
		args string // separated by |
		code int
		want string
	}{
		{"pull", 1, `.*accepts 1 arg.*`},
		{"pull|a|b", 1, `.*accepts 1 arg.*`},
		{"bogus", 1, `.*unknown command "bogus".*`},
		{"pull|--bogus|x", 125, `arv-docker: unknown flag: --bogus\nSee 'arv-docker pull --help'\.\n`},
		{"pull|--cores|x|y", 125, `(?s).*invalid argument "x" for "--cores".*`},
		{"pull|Upper", 1, `.*lower case.*`},
		{"pull|a b", 1, `.*white space.*`},
		{"pull|http://x/y", 1, `.*starts with a scheme.*`},
		{"pull|--links|perhaps|x", 1, `.*check --links: "perhaps" is not allowed \(write auto, always or never\)\n`},
		{"pull|--project|home|x", 1, `.*check --project: "home" is not the UUID of a project.*`},
		{"pull|--project|" + me.UUID + "|x", 1, `.*is not the UUID of a project.*`},
		{"pull|--project|" + unknown + "|x", 1, `.*check --project: there is no project ` + unknown + ` that you can read.*`},
		{"pull|--dry-run|--ram|much|127.0.0.1:1/x", 1, `(?s).*check --ram: "much" is not a size \(write one as in 2GiB\)\n`},
		{"pull|--dry-run|--cores|-1|127.0.0.1:1/x", 1, `(?s).*check --cores: -1 is too few.*`},
		{"pull|--credentials|" + dir + "/none|x", 1, `.*check --credentials: .*none.*`},
		{"pull|--credentials|" + notText + "|x", 1, `.*it is not JSON.*`},
		{"pull|--platform|vax|" + s.registry.Host() + "/x", 1, `.*platform.*`},
		{"build", 1, `.*accepts 1 arg.*`},
		{"build|-", 1, `.*check context: it cannot come from standard input.*`},
		{"build|" + dir + "/none", 1, `.*check context: ".*none": no such file or directory.*`},
		{"build|" + notText, 1, `.*check context: ".*binary": not a directory.*`},
		{"build|" + dir + "/bare", 1, `.*check --file: ".*bare/Dockerfile": no such file or directory.*`},
		{"build|-f|" + notText + "|" + ok, 1, `.*check --file: ".*binary" is not UTF-8.*`},
		{"build|" + dir + "/cycle", 1, `.*the symbolic link "a" cannot be stored in Keep: .*too many symbolic links.*`},
		{"build|" + dir + "/out", 1, `.*the symbolic link "link" cannot be stored in Keep: .*leads out of the build context.*exclude it in \.dockerignore\)\n`},
		{"build|" + dir + "/pattern", 1, `.*pattern "\[a".*`},
		{"build|" + dir + "/names", 1, `.*the name "\\xff" is not UTF-8.*`},
		{"build|-t|x@sha256:" + strings.Repeat("0", 64) + "|" + ok, 1, `.*has a digest.*`},
		{"build|--build-arg|=x|" + ok, 1, `.*check --build-arg: "=x" has no name.*`},
		{"build|--secret|id=x|" + ok, 1, `.*check --secret: it needs both id and src.*`},
		{"build|--secret|id=x,src=/none|" + ok, 1, `.*check --secret: id "x": .*no such file.*`},
		{"build|--secret|id=a/b,src=/none|" + ok, 1, `.*id "a/b" has characters.*`},
		{"build|--secret|id=x,src=" + notText + "|" + ok, 1, `.*the file is no text.*base64.*`},
		{"build|--secret|id=x,env=Y|" + ok, 1, `.*key "env" is unknown.*`},
		{"images|a|b", 1, `.*at most 1 arg.*`},
		{"images|a@sha256:" + strings.Repeat("0", 64), 1, `.*has a digest.*`},
		{"inspect", 1, `.*at least 1 arg.*`},
		{"inspect|none:such", 1, `.*find image "none:such": there is no such image in Arvados.*`},
		{"inspect|" + me.UUID, 1, `.*portable data hash, not by its UUID.*`},
		{"tag|none:such|new:1", 1, `.*there is no such image.*`},
		{"tag|none:such|NEW", 1, `.*lower case.*`},
		{"load|" + dir + "/none", 1, `.*check FILE: .*none.*`},
		{"load|" + notText, 1, `.*archive.*`},
		{"load|--tag|A|-", 1, `.*lower case.*`},
		{"save|none:such", 1, `.*there is no such image.*`},
		{"verify|d41d8cd98f00b204e9800998ecf8427e+9", 1, `.*there is no such image.*`},
	} {
		a := s.callWith(c, call{}, strings.Split(trial.args, "|")...)
		c.Check(a.code, check.Equals, trial.code, check.Commentf("%s: %s", trial.args, a.err))
		c.Check(a.err, check.Matches, "(?s)"+trial.want, check.Commentf("%s", trial.args))
	}
}

// A project that others have frozen, or that the user may not write to.
func (s *badInputSuite) TestProjects(c *check.C) {
	admin := s.UserClient("admin")
	var project arvados.Group
	c.Assert(admin.RequestAndDecode(&project, "POST", "arvados/v1/groups", nil, attrs{
		"group": attrs{"name": "of the admin", "group_class": "project"},
	}), check.IsNil)
	a := s.callWith(c, call{}, "pull", "--project", project.UUID, "127.0.0.1:1/x")
	c.Check(a.code, check.Equals, 1)
	c.Check(a.err, check.Matches, `(?s).*there is no project .* that you can read.*\n`)

	s.refuse = func(r *http.Request) int {
		if r.Method == http.MethodPost {
			return http.StatusForbidden
		}
		return 0
	}
	a = s.callWith(c, call{}, "pull", "127.0.0.1:1/x")
	c.Check(a.code, check.Equals, 1)
	c.Check(a.err, check.Matches, `(?s).*container_requests.*403 Forbidden.*you may not do this with this token, or not in this project\)\n`)
}
