// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localcluster"
	"gopkg.in/check.v1"
)

// refused checks that a call fails with that message, and leaves nothing: no
// collection, request or link more than there was.
func (s *badInputSuite) refused(c *check.C, what string, with call, want string, args ...string) {
	before := s.records(c)
	a := s.callWith(c, with, args...)
	about := check.Commentf("%s: %q", what, args)
	c.Check(a.code, check.Equals, 1, about)
	c.Check(strings.Trim(a.out, "[]\n"), check.Equals, "", about) // inspect prints an empty list, as docker does
	lines := strings.Split(strings.TrimSuffix(a.err, "\n"), "\n")
	c.Check(lines[len(lines)-1], check.Matches, "arv-docker: "+want, about)
	c.Check(s.records(c), check.DeepEquals, before, about)
	c.Logf("%-34s %s", what, lines[len(lines)-1])
}

// records counts what there is in the cluster, whoever has it.
func (s *badInputSuite) records(c *check.C) map[string]int {
	root := s.Client(s.SystemRootToken)
	counts := map[string]int{}
	for _, kind := range []string{"collections", "container_requests", "links"} {
		var list struct {
			ItemsAvailable int `json:"items_available"`
		}
		c.Assert(root.RequestAndDecode(&list, "GET", "arvados/v1/"+kind, nil, attrs{"limit": 0, "include_trash": true}), check.IsNil)
		counts[kind] = list.ItemsAvailable
	}
	return counts
}

// make makes a record as a user.
func (s *badInputSuite) make(c *check.C, client *arvados.Client, kind string, record attrs) (made attrs) {
	c.Assert(client.RequestAndDecode(&made, "POST", "arvados/v1/"+kind, nil, attrs{strings.TrimSuffix(kind, "s"): record}), check.IsNil)
	return made
}

// Every wrong name of the table of names.
func (s *badInputSuite) TestNames(c *check.C) {
	table, err := os.ReadFile("../dockerimage/testdata/names")
	c.Assert(err, check.IsNil)
	holes := regexp.MustCompile(`\{[a-z]*\d+\}`)
	malformed := 0
	for _, line := range strings.Split(strings.TrimSpace(string(table)), "\n")[1:] {
		quoted, err := strconv.QuotedPrefix(line)
		c.Assert(err, check.IsNil)
		name, err := strconv.Unquote(quoted)
		c.Assert(err, check.IsNil)
		problem, _, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, quoted)), "  ")
		if strings.HasPrefix(problem, "image ") {
			continue
		}
		name = strings.ReplaceAll(name, "<128 t>", strings.Repeat("t", 128))
		name = holes.ReplaceAllStringFunc(name, func(hole string) string {
			switch {
			case strings.HasPrefix(hole, "{pdh"):
				return strings.Repeat("f", 32) + "+99"
			case strings.HasPrefix(hole, "{md5"):
				return strings.Repeat("f", 32)
			}
			return strings.Repeat("9", 64)
		})
		want := `request: .*` + regexp.QuoteMeta(problem) + `.* \(.+\)`
		s.refused(c, quoted, call{}, want, "inspect", name)
		_, err = imageref.Parse(name)
		if err == nil {
			continue // good for a registry, or for an image to come
		}
		want = regexp.QuoteMeta(err.Error())
		malformed++
		s.asked()
		s.refused(c, quoted, call{}, want, "pull", name)
		s.refused(c, quoted, call{}, want, "tag", "lab/tool:1", name)
		s.refused(c, quoted, call{}, want, "build", "-t", name, ".")
		c.Check(s.asked(), check.HasLen, 0) // they are seen before anything is asked
	}
	c.Check(malformed > 8, check.Equals, true)
}

// Tokens that are no good, or for reading only.
func (s *badInputSuite) TestTokens(c *check.C) {
	s.store(c, randomimage.New(1, 4096), nil, "lab/tool:1")
	dir := c.MkDir()
	c.Assert(os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY Dockerfile /\n"), 0600), check.IsNil)
	token := func(record attrs) *arvados.Client {
		made := s.make(c, s.user, "api_client_authorizations", record)
		return s.Client("v2/" + made["uuid"].(string) + "/" + made["api_token"].(string))
	}
	expired := token(attrs{"expires_at": time.Now().Add(-time.Hour)})
	reader := token(attrs{"scopes": []string{"GET /"}})
	none := s.Client("")
	for _, args := range []string{"pull|127.0.0.1:1/x", "build|" + dir, "tag|lab/tool:1|lab/tool:2", "images", "verify|lab/tool:1"} {
		words := strings.Split(args, "|")
		s.refused(c, "no token", call{api: none}, `request: check ARVADOS_API_TOKEN: it is not set \(.*Workbench.*\)`, words...)
		s.refused(c, "expired token", call{api: expired}, `api: GET users/current of .*401.*\(the token .* has expired: get a new ARVADOS_API_TOKEN from Workbench\)`, words...)
		if len(words) > 1 && words[0] != "verify" {
			s.refused(c, "token for reading only", call{api: reader}, `.*403.*`, words...)
		}
	}
	c.Check(s.callWith(c, call{api: reader}, "inspect", "lab/tool:1").code, check.Equals, 0)
}

// Projects that take nothing, and one that is frozen while we work.
func (s *badInputSuite) TestProjectsThatTakeNothing(c *check.C) {
	admin := s.UserClient(localcluster.Admin)
	var me arvados.User
	c.Assert(s.user.RequestAndDecode(&me, "GET", "arvados/v1/users/current", nil, nil), check.IsNil)
	project := func(client *arvados.Client, name string, owner any) string {
		return s.make(c, client, "groups", attrs{"name": name, "group_class": "project", "owner_uuid": owner})["uuid"].(string)
	}
	freeze := func(uuid string) {
		c.Assert(s.user.RequestAndDecode(nil, "PATCH", "arvados/v1/groups/"+uuid, nil, attrs{"group": attrs{"frozen_by_uuid": me.UUID}}), check.IsNil)
	}
	readable := project(admin, "shared", nil)
	s.make(c, admin, "links", attrs{"link_class": "permission", "name": "can_read", "tail_uuid": me.UUID, "head_uuid": readable})
	frozen := project(s.user, "frozen", me.UUID)
	below := project(s.user, "below", frozen)
	freeze(frozen)
	dir := c.MkDir()
	c.Assert(os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY Dockerfile /\n"), 0600), check.IsNil)
	for _, trial := range []struct{ what, uuid, want string }{
		{"project for reading only", readable, `you may not write to project ` + readable + ` \(shared\) \(.*\)`},
		{"frozen project", frozen, `project ` + frozen + ` \(frozen\) is frozen \(name another project, or have it unfrozen\)`},
		{"project in a frozen one", below, `you may not write to project ` + below + ` \(below\) \(.*unfrozen\)`},
	} {
		for _, args := range []string{"pull|127.0.0.1:1/x", "build|" + dir, "load|-"} {
			words := strings.Split(args, "|")
			s.refused(c, trial.what, call{}, `request: check --project: `+trial.want, append([]string{words[0], "--project", trial.uuid}, words[1:]...)...)
		}
	}

	// What the program says, or reads, tells when it has checked already.
	archive := s.archive(c)
	for _, args := range []string{"build|" + dir, "load|-"} {
		words := strings.Split(args, "|")
		uuid := project(s.user, "for "+words[0], me.UUID)
		done := false
		late := func() {
			if !done {
				done = true
				freeze(uuid)
			}
		}
		with := call{err: writerFunc(func(text string) {
			if strings.HasPrefix(text, "context ") {
				late()
			}
		})}
		if words[0] == "load" {
			with.stdin = readerFunc(func(p []byte) (int, error) { late(); return archive.Read(p) })
		}
		s.refused(c, "project frozen meanwhile", with, `api: POST collections of .*403.*\(you may not do this with this token, or not in this project\)`,
			append([]string{words[0], "--project", uuid}, words[1:]...)...)
		c.Check(done, check.Equals, true)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Files of a context that are none, or cannot be read, also by root.
func (s *badInputSuite) TestContexts(c *check.C) {
	folder := func(name string) string {
		dir := filepath.Join(c.MkDir(), name)
		c.Assert(os.Mkdir(dir, 0777), check.IsNil)
		c.Assert(os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY . /\n"), 0600), check.IsNil)
		return dir
	}
	pipe := folder("pipe")
	c.Assert(syscall.Mkfifo(filepath.Join(pipe, "fifo"), 0600), check.IsNil)
	s.refused(c, "pipe in the context", call{}, `request: .*"?fifo"?.*`, "build", pipe)
	cycle := folder("cycle")
	c.Assert(os.Symlink("../cycle/self", filepath.Join(cycle, "self")), check.IsNil)
	s.refused(c, "link to itself", call{}, `request: check context: the symbolic link "self" cannot be stored in Keep: .*exclude it in \.dockerignore\)`, "build", cycle)

	// Root can read everything, so this thread must not be root's.
	secret := folder("secret")
	c.Assert(os.WriteFile(filepath.Join(secret, "key"), nil, 0), check.IsNil)
	for dir := secret; dir != filepath.Clean(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
		c.Assert(os.Chmod(dir, 0755), check.IsNil)
	}
	c.Assert(os.Chmod(filepath.Join(secret, "Dockerfile"), 0644), check.IsNil)
	const nobody = 65534
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c.Assert(syscall.Setfsuid(nobody), check.IsNil)
	defer func() { c.Check(syscall.Setfsuid(os.Getuid()), check.IsNil) }()
	s.refused(c, "unreadable file", call{}, `request: .*"key".*permission denied.*`, "build", secret)
}

// Servers that are no Arvados API servers.
func (s *badInputSuite) TestOtherServers(c *check.C) {
	serve := func(start func(*httptest.Server), text string) *httptest.Server {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, text) }))
		server.Config.ErrorLog = nil
		start(server)
		return server
	}
	plain, secure := (*httptest.Server).Start, (*httptest.Server).StartTLS
	const hint = ` \(ARVADOS_API_HOST names a server that does not answer as an Arvados API server does\)`
	for _, trial := range []struct {
		what     string
		how      func(*httptest.Server)
		text     string
		insecure bool
		want     string
	}{
		{"HTML page", secure, "<html>", true, `api: talk to ADDRESS: its answer is not JSON` + hint},
		{"JSON of somebody else", secure, `{"hello":1}`, true, `api: talk to ADDRESS: it does not say who the user is` + hint},
		{"JSON of another form", secure, `["hello"]`, true, `api: talk to ADDRESS: its answer has another form` + hint},
		{"nothing", secure, ``, true, `api: .*ADDRESS.*`},
		{"certificate not trusted", secure, `{}`, false, `api: trust the API server ADDRESS: .*certificate.*\(.*correct ARVADOS_API_HOST.*\)`},
		{"HTTP instead of HTTPS", plain, `{}`, false, `api: talk to ADDRESS: it speaks HTTP without TLS on this port` + hint},
	} {
		server := serve(trial.how, trial.text)
		host := server.Listener.Addr().String()
		api := &arvados.Client{APIHost: host, AuthToken: "x", Insecure: trial.insecure, Timeout: 3 * time.Second}
		s.refused(c, trial.what, call{api: api}, strings.ReplaceAll(trial.want, "ADDRESS", regexp.QuoteMeta(host)), "pull", "lab/tool:1")
		server.Close()
	}
}
