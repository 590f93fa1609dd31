// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	check "gopkg.in/check.v1"
)

// gitSuite reads from git's own server.
type gitSuite struct {
	fixture
	dir     string // has the repository "repo.git"
	server  *httptest.Server
	answer  http.HandlerFunc // instead of git's, if not nil
	backend http.Handler     // git's
}

var _ = check.Suite(&gitSuite{})

const gitLimit = 1 << 20

func (s *gitSuite) SetUpTest(c *check.C) {
	s.fixture.SetUpTest(c)
	s.dir, s.answer = c.MkDir(), nil
	where, err := exec.Command("git", "--exec-path").Output()
	c.Assert(err, check.IsNil)
	s.backend = &cgi.Handler{
		Path:   filepath.Join(strings.TrimSpace(string(where)), "git-http-backend"),
		Env:    []string{"GIT_PROJECT_ROOT=" + s.dir, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + s.dir, "GIT_CONFIG_NOSYSTEM=1"},
		Stderr: io.Discard,
	}
	s.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if s.answer != nil {
			s.answer(w, req)
			return
		}
		s.backend.ServeHTTP(w, req)
	}))
	s.git(c, "init", "-q", "-b", "main", ".")
	s.write(c, "Dockerfile", "FROM scratch", 0644)
	s.write(c, "sub/dir/run", "#!/bin/sh", 0755)
	s.write(c, "sub/empty", "", 0644)
	c.Assert(os.Symlink("dir/run", filepath.Join(s.work(), "sub/link")), check.IsNil)
	s.commit(c, "first")
}

func (s *gitSuite) TearDownTest(*check.C) { s.server.Close() }

func (s *gitSuite) work() string { return filepath.Join(s.dir, "repo.git") }

func (s *gitSuite) write(c *check.C, name, content string, mode os.FileMode) {
	name = filepath.Join(s.work(), name)
	c.Assert(os.MkdirAll(filepath.Dir(name), 0755), check.IsNil)
	c.Assert(os.WriteFile(name, []byte(content), mode), check.IsNil)
}

func (s *gitSuite) git(c *check.C, args ...string) string {
	c.Assert(os.MkdirAll(s.work(), 0755), check.IsNil)
	cmd := exec.Command("git", args...)
	cmd.Dir = s.work()
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	out, err := cmd.CombinedOutput()
	c.Assert(err, check.IsNil, check.Commentf("git %v: %s", args, out))
	return strings.TrimSpace(string(out))
}

// commit is the hash of a new commit.
func (s *gitSuite) commit(c *check.C, message string) string {
	s.git(c, "add", "-A")
	s.git(c, "commit", "-q", "--allow-empty", "-m", message)
	return s.git(c, "rev-parse", "HEAD")
}

func (s *gitSuite) read(ctx context.Context, fragment string, limit int64) (*Tree, string, error) {
	from, err := ParseGitURL(s.server.URL + "/repo.git" + fragment)
	if err != nil {
		return nil, "", err
	}
	return FromGit(ctx, s.server.Client(), from, limit)
}

func (s *gitSuite) TestRefsAndFolders(c *check.C) {
	first := s.git(c, "rev-parse", "HEAD")
	s.git(c, "tag", "light")
	s.git(c, "tag", "-a", "-m", "x", "heavy")
	s.git(c, "tag", "-a", "-m", "x", "heavier", "heavy")
	s.git(c, "tag", "both")
	s.git(c, "checkout", "-q", "-b", "topic/one")
	s.write(c, "Dockerfile", "FROM busybox", 0644)
	topic := s.commit(c, "topic")
	s.git(c, "branch", "both")
	s.git(c, "checkout", "-q", "main")
	s.write(c, "Dockerfile", "FROM alpine", 0644)
	last := s.commit(c, "last")
	for _, trial := range []struct{ fragment, commit, dockerfile string }{
		{"", last, "FROM alpine"},
		{"#", last, "FROM alpine"},
		{"#HEAD", last, "FROM alpine"},
		{"#main", last, "FROM alpine"},
		{"#refs/heads/main:/", last, "FROM alpine"},
		{"#topic/one", topic, "FROM busybox"},
		{"#both", topic, "FROM busybox"},
		{"#refs/tags/both", first, "FROM scratch"},
		{"#light", first, "FROM scratch"},
		{"#heavy", first, "FROM scratch"},
		{"#heavier", first, "FROM scratch"},
		{"#" + topic, topic, "FROM busybox"},
		{"#" + first, first, "FROM scratch"},
	} {
		comment := check.Commentf("%s", trial.fragment)
		t, commit, err := s.read(s.ctx, trial.fragment, gitLimit)
		c.Assert(err, check.IsNil, comment)
		c.Check(commit, check.Equals, trial.commit, comment)
		c.Check(listing(c, t), check.DeepEquals, []string{
			fmt.Sprintf("Dockerfile 644 %q", trial.dockerfile), `sub/ 755`, `sub/empty 644 ""`, `sub/link 777 -> dir/run`,
			`sub/dir/ 755`, `sub/dir/run 755 "#!/bin/sh"`,
		}, comment)
	}
	for _, fragment := range []string{"#:sub", "#main:sub", "#main:/sub/", "#main:./sub/."} {
		t, commit, err := s.read(s.ctx, fragment, gitLimit)
		c.Assert(err, check.IsNil)
		c.Check(commit, check.Equals, last)
		c.Check(listing(c, t), check.DeepEquals, []string{`empty 644 ""`, `link 777 -> dir/run`, `dir/ 755`, `dir/run 755 "#!/bin/sh"`})
		content, err := t.ReadFile(s.ctx, "link", 100)
		c.Check(err, check.IsNil)
		c.Check(string(content), check.Equals, "#!/bin/sh")
	}
}

// Objects in a pack are stored as differences from others.
func (s *gitSuite) TestDeltas(c *check.C) {
	want := []string{}
	text := letters(5000)
	for i := range 20 {
		text = text[:100*i] + fmt.Sprint(i) + text[100*i:]
		s.write(c, fmt.Sprintf("many/%02d", i), text, 0644)
		want = append(want, fmt.Sprintf("%02d 644 %q", i, text))
	}
	s.commit(c, "similar files")
	s.git(c, "repack", "-adfq")
	t, _, err := s.read(s.ctx, "#:many", gitLimit)
	c.Assert(err, check.IsNil)
	c.Check(listing(c, t), check.DeepEquals, want)
	// They count as what they become: the pack alone would fit.
	_, _, err = s.read(s.ctx, "#:many", 90_000)
	checkRefused(c, err, `it is bigger than the 90000 bytes that are allowed`)
}

// What came before a commit is not downloaded.
func (s *gitSuite) TestHistoryStaysAway(c *check.C) {
	for i := range 10 {
		s.write(c, "big", letters(10_000+i)+fmt.Sprint(i), 0644)
		s.commit(c, "more")
	}
	_, _, err := s.read(s.ctx, "", 30_000)
	c.Check(err, check.IsNil)
}

func (s *gitSuite) TestRefusals(c *check.C) {
	s.git(c, "config", "uploadpack.allowAnySHA1InWant", "false")
	s.commit(c, "second")
	for _, trial := range []struct{ fragment, want string }{
		{"#nowhere", `read git repository https://.*/repo.git#nowhere: it has no branch or tag "nowhere" \(check the name`},
		{"#" + strings.Repeat("ab", 3), `it has no branch or tag "ababab" .*all its 40 digits`},
		{"#:nowhere", `there is no such folder in it`},
		{"#:Dockerfile", `there is no such folder in it`},
		{"#:sub/link", `there is no such folder in it`},
	} {
		_, _, err := s.read(s.ctx, trial.fragment, gitLimit)
		checkRefused(c, err, trial.want)
	}
	for _, limit := range []int64{100, 1000, 2500} {
		_, _, err := s.read(s.ctx, "", limit)
		checkRefused(c, err, fmt.Sprintf(`it is bigger than the %d bytes`, limit))
	}
	from, err := ParseGitURL(s.server.URL + "/other.git")
	c.Assert(err, check.IsNil)
	_, _, err = FromGit(s.ctx, s.server.Client(), from, gitLimit)
	checkRefused(c, err, `/other.git: it is not there, or not public \(check the address`)
}

func (s *gitSuite) TestOldCommitsNeedAServerThatGivesThem(c *check.C) {
	first := s.git(c, "rev-parse", "HEAD")
	last := s.commit(c, "second")
	unknown := strings.Repeat("ab", 20)
	_, _, err := s.read(s.ctx, "#"+unknown, gitLimit)
	checkRefused(c, err, unknown)
	_, commit, err := s.read(s.ctx, "#"+last, gitLimit)
	c.Check(err, check.IsNil)
	c.Check(commit, check.Equals, last)
	_, _, err = s.read(s.ctx, "#"+first, gitLimit)
	checkRefused(c, err, `gives out only the newest commits .*\(name a branch or a tag\)`)
	s.git(c, "config", "uploadpack.allowReachableSHA1InWant", "true")
	_, commit, err = s.read(s.ctx, "#"+first, gitLimit)
	c.Check(err, check.IsNil)
	c.Check(commit, check.Equals, first)
}

func (s *gitSuite) TestSubmodules(c *check.C) {
	s.git(c, "update-index", "--add", "--cacheinfo", "160000,"+s.git(c, "rev-parse", "HEAD")+",ext/lib")
	s.git(c, "commit", "-q", "-m", "submodule")
	_, _, err := s.read(s.ctx, "", gitLimit)
	checkRefused(c, err, `"ext/lib" is a submodule \(submodules are not fetched`)
	_, _, err = s.read(s.ctx, "#:sub", gitLimit) // which has none
	c.Check(err, check.IsNil)
}

func (s *gitSuite) TestEmptyRepository(c *check.C) {
	c.Assert(os.RemoveAll(s.work()), check.IsNil)
	s.git(c, "init", "-q", "-b", "main", ".")
	_, _, err := s.read(s.ctx, "", gitLimit)
	checkRefused(c, err, `repo.git: .*empty`)
}

func (s *gitSuite) TestTroubleOfTheServer(c *check.C) {
	long := strings.Repeat("x", 1<<20)
	for _, trial := range []struct {
		answer    http.HandlerFunc
		want      string
		transient bool
	}{
		{func(w http.ResponseWriter, _ *http.Request) { http.Error(w, long, http.StatusServiceUnavailable) }, `.*503`, true},
		{func(w http.ResponseWriter, _ *http.Request) { http.Error(w, long, http.StatusTooManyRequests) }, `.*429`, true},
		{func(w http.ResponseWriter, _ *http.Request) { http.Error(w, long, http.StatusBadRequest) }, `.*400`, false},
		{func(w http.ResponseWriter, _ *http.Request) { http.Error(w, long, http.StatusUnauthorized) }, `.*not public.*`, false},
		{func(w http.ResponseWriter, _ *http.Request) { http.Error(w, long, http.StatusForbidden) }, `.*not public.*`, false},
		{func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, `.*EOF`, true},
		{func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, `.*`, false},
		{func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "http://127.0.0.1:1/info/refs", http.StatusFound)
		}, `.*redirect.*`, true},
	} {
		s.answer = trial.answer
		_, _, err := s.read(s.ctx, "", gitLimit)
		c.Check(err, check.ErrorMatches, `request: read git repository https://[^ ]*/repo.git: `+trial.want)
		c.Check(len(err.Error()) < 500, check.Equals, true)
		c.Check(fault.Transient(err), check.Equals, trial.transient, check.Commentf("%v", err))
	}
	s.server.Close()
	_, _, err := s.read(s.ctx, "", gitLimit)
	c.Check(err, check.ErrorMatches, `.*refused`)
	c.Check(fault.Transient(err), check.Equals, true)
}

func (s *gitSuite) TestPolicyOfTheDialer(c *check.C) {
	refused := &fault.Error{Op: "connect", Side: fault.Request, Subject: "169.254.169.254", Err: errors.New("not allowed")}
	from, err := ParseGitURL("https://metadata.example/repo.git")
	c.Assert(err, check.IsNil)
	client := &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, refused })}
	_, _, err = FromGit(s.ctx, client, from, gitLimit)
	checkRefused(c, err, "169.254.169.254: not allowed")
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func (s *gitSuite) TestEndOfContext(c *check.C) {
	why := errors.New("why")
	for n := 1; n <= 2; n++ {
		ctx, cancel := context.WithCancelCause(s.ctx)
		requests := 0
		s.answer = func(w http.ResponseWriter, req *http.Request) {
			if requests++; requests < n {
				s.backend.ServeHTTP(w, req)
				return
			}
			io.Copy(io.Discard, req.Body) // else the end of the client goes unnoticed
			cancel(why)
			<-req.Context().Done()
		}
		_, _, err := s.read(ctx, "", gitLimit)
		c.Check(errors.Is(err, why), check.Equals, true, check.Commentf("%v", err))
		c.Check(requests, check.Equals, n)
	}
}

func (s *gitSuite) TestParseGitURL(c *check.C) {
	for _, trial := range []struct {
		text string
		want GitURL
	}{
		{"https://h/p.git", GitURL{"https://h/p.git", "", ""}},
		{"https://h:8443/a/b/", GitURL{"https://h:8443/a/b", "", ""}},
		{"https://[::1]/p%20q.git#v1", GitURL{"https://[::1]/p%20q.git", "v1", ""}},
		{"https://h/p.git#feature/x:a/b", GitURL{"https://h/p.git", "feature/x", "a/b"}},
		{"https://h/p.git#:a//b/./", GitURL{"https://h/p.git", "", "a/b"}},
		{"https://h/p.git#v:a:b", GitURL{"https://h/p.git", "v", "a:b"}},
		{"https://h/p.git#v:..a/b..", GitURL{"https://h/p.git", "v", "..a/b.."}},
		{"HTTPS://h/p.git#", GitURL{"https://h/p.git", "", ""}},
	} {
		got, err := ParseGitURL(trial.text)
		c.Check(err, check.IsNil)
		c.Check(got, check.Equals, trial.want)
		again, err := ParseGitURL(got.String())
		c.Check(err, check.IsNil)
		c.Check(again, check.Equals, got)
		c.Check(IsGitURL(trial.text), check.Equals, true)
	}
	for _, trial := range []struct{ text, want string }{
		{"https://user:hunter2@h/p.git", `https://h/p.git: it has a user name or a password`},
		{"https://hunter2@h/p.git", `https://h/p.git: it has a user name`},
		{"https://user:hunter2@h:port/p.git", `it is malformed`},
		{"https://h/p.git?token=hunter2", `https://h/p.git: it has a "\?"`},
		{"http://h/p.git", `http://h/p.git: it does not begin with https`},
		{"ssh://git@h/p.git", `user name`},
		{"git@h:p.git", `.`},
		{"file:///etc", `does not begin`},
		{"https:///p.git", `does not begin`},
		{"https://h", `has no path`},
		{"https://h//#v", `has no path`},
		{"https://h/p.git#--upload-pack=x", `no name of a branch`},
		{"https://h/p.git#a..b", `no name of a branch`},
		{"https://h/p.git#a b", `no name of a branch`},
		{"https://h/p.git#a\nb", `no name of a branch`},
		{"https://h/p.git#v:..", `the folder has a ".."`},
		{"https://h/p.git#v:a/../../b", `the folder has a ".."`},
		{"https://h/p.git#v:a\x00", `control character`},
	} {
		_, err := ParseGitURL(trial.text)
		checkRefused(c, err, trial.want)
		c.Check(err, check.Not(check.ErrorMatches), `(?s).*hunter2.*`)
	}
	for _, text := range []string{"", "/", "/src", "keep:0123", "Dockerfile", "-"} {
		c.Check(IsGitURL(text), check.Equals, false)
	}
}
