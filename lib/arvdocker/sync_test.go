// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"gopkg.in/check.v1"
)

// syncing is arv-docker sync as a program.
type syncing struct {
	*exec.Cmd
	mtx sync.Mutex
	err bytes.Buffer
}

func (p *syncing) Write(text []byte) (int, error) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	return p.err.Write(text)
}

func (p *syncing) said() string {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	return p.err.String()
}

// startSync starts it with its files in a folder.
func (s *migrateSuite) startSync(c *check.C, dir string, args ...string) *syncing {
	p := &syncing{Cmd: s.client(c, append([]string{"sync", "--every=1s", "--state=" + dir + "/state", "--rollback-file=" + dir + "/rollback"}, args...)...)}
	p.Stderr = p
	c.Assert(p.Start(), check.IsNil)
	return p
}

// until waits for something that is to happen soon.
func until(c *check.C, what string, done func() bool) {
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(50 * time.Millisecond) {
		c.Assert(time.Now().Before(deadline), check.Equals, true, check.Commentf("%s", what))
	}
}

// changesAsked are the requests since the last call that change something.
func (s *migrateSuite) changesAsked() (changes []string) {
	for _, request := range s.asked() {
		if !strings.Contains(request, " GET ") {
			changes = append(changes, request)
		}
	}
	return changes
}

// It brings both sides into step and keeps them so, without being moved by what it
// has written; it sits out a server that is busy, tells how it is, and ends cleanly.
func (s *migrateSuite) TestSync(c *check.C) {
	dir := c.MkDir()
	linked := s.linked(c, 1, nil, "lab/app:1")
	described := s.unlinked(c, "a", attrs{keyMarker: "1", keyRepoTag: "lab/app:2"})
	var times int
	s.refuse = func(r *http.Request) int {
		if r.Method == http.MethodPatch {
			if times++; times < 3 {
				return []int{http.StatusTooManyRequests, http.StatusServiceUnavailable}[times%2]
			}
		}
		return 0
	}
	report := filepath.Join(dir, "report")
	p := s.startSync(c, dir, "--metrics=:0", "--report="+report)
	until(c, "first look", func() bool { return s.means("lab/app:1") == linked && len(s.links(c, described)) == 2 })
	address := regexp.MustCompile(`http://127\.0\.0\.1:\d+/metrics`).FindString(p.said())
	numbers := func() string {
		resp, err := http.Get(address)
		c.Assert(err, check.IsNil, check.Commentf("%s", p.said()))
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		c.Assert(err, check.IsNil)
		return string(text)
	}
	until(c, "numbers", func() bool { return strings.Contains(numbers(), "\narv_docker_sync_links_written_total 2\n") })
	looks := func(n int) {
		until(c, "looks", func() bool {
			return !regexp.MustCompile(`\narv_docker_sync_looks_total [0-` + fmt.Sprint(n-1) + `]\n`).MatchString(numbers())
		})
	}
	looks(2)
	s.asked()
	looks(4)
	c.Check(s.changesAsked(), check.HasLen, 0)

	// Its files are its own.
	other := s.callWith(c, call{}, "sync", "--state="+dir+"/state", "--rollback-file="+dir+"/other")
	c.Check(other.err, check.Matches, `(?s).*lock resume file .*/state: another arv-docker is at work with it .*`)
	other = s.callWith(c, call{}, "migrate", "--rollback-file="+dir+"/rollback")
	c.Check(other.err, check.Matches, `(?s).*open rollback file .*/rollback: another arv-docker is at work with it .*`)
	other = s.callWith(c, call{}, "migrate", "--rollback", "--rollback-file="+dir+"/rollback")
	c.Check(other.err, check.Matches, `(?s).*open rollback file .*/rollback: another arv-docker is at work with it .stop that, .*`)

	s.foreign(c, "lab/foreign:1", described)
	s.addLink(c, linkName, "lab/app:3", described, attrs{})
	until(c, "a later link", func() bool { return s.means("lab/app:3") == described })
	second := s.unlinked(c, "b", attrs{keyRepoTag: "lab/app:4"})
	until(c, "a later image", func() bool { return len(s.links(c, second)) == 2 })
	c.Check(s.means("lab/foreign:1"), check.Equals, "")
	c.Check(numbers(), check.Matches, `(?s).*\narv_docker_sync_names_by_others_total [1-9].*`)
	c.Assert(p.Process.Signal(syscall.SIGTERM), check.IsNil)
	c.Check(p.Wait(), check.IsNil, check.Commentf("%s", p.said()))
	lines, err := os.ReadFile(report)
	c.Assert(err, check.IsNil)
	c.Check(string(lines), check.Matches, `(?s).*"collection":"`+linked+`",.*"action":"written","names":\["lab/app:1"\].*`)

	// The next one goes on from there.
	s.asked()
	third := s.unlinked(c, "c", attrs{keyRepoTag: "lab/app:5"})
	s.foreign(c, "lab/foreign:2", third)
	p = s.startSync(c, dir, "--names-by-others")
	until(c, "an image from in between", func() bool { return len(s.links(c, third)) == 4 })
	until(c, "a name that was left out", func() bool { return len(s.links(c, described)) == 5 })
	c.Check(s.means("lab/foreign:1"), check.Equals, described)
	c.Check(s.means("lab/foreign:2"), check.Equals, third)
	c.Assert(p.Process.Signal(syscall.SIGTERM), check.IsNil)
	c.Check(p.Wait(), check.IsNil)
	c.Check(s.changesAsked(), check.HasLen, 7) // the test's link, two of properties, four links
}

// foreign makes a link with a name that belongs to somebody else than the collection.
func (s *migrateSuite) foreign(c *check.C, name, head string) {
	c.Assert(s.user.RequestAndDecode(nil, "POST", "arvados/v1/links", nil, attrs{"link": attrs{
		"link_class": linkName, "name": name, "head_uuid": head,
	}}), check.IsNil)
}

// Killed again and again while names are given on both sides, it misses nothing and
// makes nothing twice.
func (s *migrateSuite) TestSyncKilled(c *check.C) {
	dir := c.MkDir()
	rng := rand.New(rand.NewPCG(4, 4))
	var linked, described []string
	for round := range 25 {
		p := s.startSync(c, dir, "--rate=60")
		for i := range 3 {
			n := 3*round + i
			linked = append(linked, s.linked(c, n, nil, fmt.Sprintf("lab/linked%d:1", n)))
			described = append(described, s.unlinked(c, string("abcdef"[n%6]), attrs{keyRepoTag: fmt.Sprintf("lab/described%d:1", n)}))
		}
		time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond)
		c.Assert(p.Process.Kill(), check.IsNil)
		c.Check(p.Wait(), check.ErrorMatches, "signal: killed")
	}
	p := s.startSync(c, dir)
	for n := range linked {
		until(c, linked[n], func() bool { return s.means(fmt.Sprintf("lab/linked%d:1", n)) == linked[n] })
		until(c, described[n], func() bool { return len(s.links(c, described[n])) >= 2 })
	}
	c.Assert(p.Process.Signal(syscall.SIGTERM), check.IsNil)
	c.Check(p.Wait(), check.IsNil)
	for n := range linked {
		c.Check(s.links(c, linked[n]), check.HasLen, 2)
		c.Check(s.links(c, described[n]), check.HasLen, 2)
	}
	back := s.run(c, "migrate", "--rollback", "--rollback-file="+dir+"/rollback")
	c.Check(back.out, check.Matches, `changes taken back: \d+, .*failed: 0\n`)
	for n := range linked {
		c.Check(s.collection(c, linked[n]).Properties, check.HasLen, 0)
		c.Check(s.collection(c, described[n]).Properties, check.DeepEquals, map[string]interface{}{keyRepoTag: fmt.Sprintf("lab/described%d:1", n)})
	}
}

func (s *migrateSuite) TestSyncRefusedCalls(c *check.C) {
	dir := c.MkDir()
	elsewhere := filepath.Join(dir, "elsewhere")
	c.Assert(os.WriteFile(elsewhere, []byte(`{"server":"other.example"}`), 0600), check.IsNil)
	undo := " --rollback-file=" + filepath.Join(dir, "rollback")
	for args, want := range map[string]string{
		"--every=10ms":         "--every: the time is too short .*",
		"--state=":             "--state: it is empty .*",
		"--state=" + elsewhere: "--state: .*elsewhere is about other.example, not about .*",
		"--state=" + dir:       "read resume file .*is a directory.*",
		"--rate=-1":            "--rate: the number is out of range .*",
		"--state=" + dir + "/s --metrics=x" + undo:            "--metrics: .*missing port.* .write an address as in :14100 .*",
		"--state=" + dir + "/s --metrics=192.0.2.77:1" + undo: "--metrics: .* .name an address of this machine .*",
	} {
		a := s.callWith(c, call{}, append([]string{"sync"}, strings.Fields(args)...)...)
		c.Check(a.code, check.Equals, 1)
		c.Check(a.err, check.Matches, `(?s)arv-docker: .*`+want, check.Commentf("%s", args))
	}
}

// Ended after a look, it has failed at nothing.
func (s *migrateSuite) TestSyncEnded(c *check.C) {
	dir := c.MkDir()
	linked := s.linked(c, 1, nil, "lab/app:1")
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	looks := 0
	s.refuse = func(r *http.Request) int {
		// A look begins by asking for the last change.
		if strings.HasSuffix(r.URL.Path, "/links") && r.URL.Query().Get("order") == "modified_at desc" {
			if looks++; looks == 2 {
				cancel()
			}
		}
		return 0
	}
	a := s.callWith(c, call{ctx: ctx}, "sync", "--every=1s", "--state="+dir+"/s", "--rollback-file="+dir+"/rollback")
	c.Check(a.code, check.Equals, 0)
	c.Check(a.err, check.Equals, "collection "+linked+": properties written, names added: 1\n")
	c.Check(looks, check.Equals, 2)
	c.Check(s.means("lab/app:1"), check.Equals, linked)
}
