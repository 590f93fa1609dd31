// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepdocker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&listSuite{})

type listSuite struct{ cl *cluster }

func (s *listSuite) SetUpTest(c *check.C)    { s.cl = startCluster(c) }
func (s *listSuite) TearDownTest(c *check.C) { c.Check(s.cl.Stop(), check.IsNil) }

func (s *listSuite) collectionWith(c *check.C, properties attrs) string {
	var coll arvados.Collection
	c.Assert(s.cl.user.RequestAndDecode(&coll, "POST", "arvados/v1/collections", nil, attrs{
		"collection": attrs{"properties": properties},
	}), check.IsNil)
	return coll.UUID
}

func (s *listSuite) link(c *check.C, class, name, head string, made interface{}) {
	c.Assert(s.cl.user.RequestAndDecode(nil, "POST", "arvados/v1/links", nil, attrs{"link": attrs{
		"link_class": class, "name": name, "head_uuid": head, "properties": attrs{"image_timestamp": made},
	}}), check.IsNil)
}

// lines are the lines of the list, with words in place of UUIDs.
func (s *listSuite) lines(c *check.C, words ...string) []string {
	a := s.cl.callWith(c, call{engine: noEngine})
	c.Assert(a.code, check.Equals, 0, check.Commentf("%s", a.err))
	var lines []string
	for _, line := range strings.Split(strings.TrimSuffix(a.out, "\n"), "\n")[1:] {
		lines = append(lines, strings.Join(strings.Fields(strings.NewReplacer(words...).Replace(line)), " "))
	}
	return lines
}

// Images that only properties, only links or both tell of.
func (s *listSuite) TestSources(c *check.C) {
	hash := func(digit string) string { return "sha256:" + strings.Repeat(digit, 64) }
	ours := s.collectionWith(c, attrs{"arv:docker-image": "1", "docker-image-hash": hash("1"),
		"docker-image-repo-tag": []string{"ours:1", "ours:2"}, "docker-image-timestamp": "2024-01-01T00:00:00Z"})
	nameless := s.collectionWith(c, attrs{"arv:docker-image": "1", "docker-image-hash": hash("2"), "docker-image-timestamp": "2023-01-01T00:00:00Z"})
	legacy := s.collectionWith(c, nil)
	s.link(c, linkHash, hash("3"), legacy, "2022-01-01T00:00:00+05:00")
	s.link(c, linkName, "reg:5000/legacy:1", legacy, "2022-01-01T00:00:00+05:00")
	both := s.collectionWith(c, attrs{"docker-image-repo-tag": "both:1", "docker-image-timestamp": "2030-01-01T00:00:00Z"})
	s.link(c, linkName, "both:1", both, "2021-01-01T00:00:00Z")
	bare := s.collectionWith(c, nil)
	s.link(c, linkHash, hash("5"), bare, "2020-01-01T00:00:00.123456789Z")
	dead := s.collectionWith(c, nil)
	s.link(c, linkName, "dead:1", dead, "2029-01-01T00:00:00Z")
	c.Assert(s.cl.user.RequestAndDecode(nil, "DELETE", "arvados/v1/collections/"+dead, nil, nil), check.IsNil)
	s.link(c, linkName, "pdh:1", "d41d8cd98f00b204e9800998ecf8427e+0", "2029-01-01T00:00:00Z")
	// Whoever hides the time comes last.
	untimed := s.collectionWith(c, nil)
	s.link(c, linkName, "untimed:1", untimed, nil)
	year := time.Now().UTC().Format("2006")

	lines := s.lines(c, ours, "OURS", nameless, "NAMELESS", legacy, "LEGACY", both, "BOTH", bare, "BARE", untimed, "UNTIMED")
	c.Assert(lines, check.HasLen, 7)
	c.Check(lines[:6], check.DeepEquals, []string{
		"ours 1 sha256:11111 OURS Mon Jan 1 00:00:00 2024",
		"ours 2 sha256:11111 OURS Mon Jan 1 00:00:00 2024",
		"<none> <none> sha256:22222 NAMELESS Sun Jan 1 00:00:00 2023",
		"reg:5000/legacy 1 sha256:33333 LEGACY Sat Jan 1 00:00:00 2022",
		"both 1 <unknown> BOTH Fri Jan 1 00:00:00 2021",
		"<none> <none> sha256:55555 BARE Wed Jan 1 00:00:00 2020",
	})
	c.Check(lines[6], check.Matches, "untimed 1 <unknown> UNTIMED .* "+year)
}

// copy-tutorial.sh looks for a line by this pattern.
func (s *listSuite) TestColumns(c *check.C) {
	uuid := s.collectionWith(c, attrs{"docker-image-hash": "sha256:" + hex64, "docker-image-repo-tag": "arvados/jobs:latest", "docker-image-timestamp": "2024-01-09T00:00:00Z"})
	a := s.cl.callWith(c, call{}, "images")
	c.Check(a.out, check.Equals, ""+
		"REPOSITORY                      TAG         IMAGE ID      COLLECTION                     CREATED             \n"+
		"arvados/jobs                    latest      sha256:edd10  "+uuid+"    Tue Jan  9 00:00:00 2024\n")
	c.Check(a.out, check.Matches, `(?s).*arvados/jobs *latest.*`)
	c.Check(a.err, check.Equals, "")
}

// Whoever reads the list may stop at any time.
func (s *listSuite) TestReaderStops(c *check.C) {
	r, w := io.Pipe()
	r.CloseWithError(syscall.EPIPE)
	p := &Program{API: s.cl.user, Stdout: w, Stderr: io.Discard}
	c.Check(p.Run(context.Background(), nil), check.Equals, 0)

	full, w := io.Pipe()
	full.CloseWithError(syscall.ENOSPC)
	p.Stdout = w
	c.Check(p.Run(context.Background(), nil), check.Equals, exitFailed)
}

func (s *listSuite) TestNaiveTime(c *check.C) {
	for text, want := range map[string]string{
		"2024-02-03T04:05:06Z":               "2024-02-03T04:05:06Z",
		"2024-02-03T04:05:06.123456789Z":     "2024-02-03T04:05:06.123456Z",
		"2024-02-03T04:05:06+01:00":          "2024-02-03T04:05:06Z",
		"2024-02-03T04:05:06.5-08:00":        "2024-02-03T04:05:06.5Z",
		"2024-02-03T04:05:06":                "2024-02-03T04:05:06Z",
		"2024-02-03 04:05:06":                "2024-02-03T04:05:06Z",
		"2024-02-03T04:05":                   "2024-02-03T04:05:00Z",
		"2024-02-03":                         "2024-02-03T00:00:00Z",
		"":                                   "",
		"yesterday":                          "",
		"2024-13-01T00:00:00Z":               "",
		"2024-02-03T04:05:06Z and then some": "",
		"-":                                  "",
	} {
		got := naiveTime(text)
		if want == "" {
			c.Check(got.IsZero(), check.Equals, true, check.Commentf("%q", text))
			continue
		}
		c.Check(got.Format(time.RFC3339Nano), check.Equals, want, check.Commentf("%q", text))
	}
}

// pagingServer gives few records at a time, as API servers do.
type pagingServer struct {
	links    []arvados.Link // oldest first
	most     int
	requests int
}

func (p *pagingServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.requests++
	var filters [][]interface{}
	_ = json.Unmarshal([]byte(r.FormValue("filters")), &filters)
	fits := func(link arvados.Link) bool {
		for _, f := range filters {
			switch {
			case f[0] == "created_at" && f[1] == ">=":
				from, _ := time.Parse(time.RFC3339Nano, f[2].(string))
				if link.CreatedAt.Before(from) {
					return false
				}
			case f[0] == "uuid" && f[1] == "not in" && slices.Contains(f[2].([]interface{}), interface{}(link.UUID)):
				return false
			}
		}
		return true
	}
	items := []arvados.Link{}
	for _, link := range p.links {
		if len(items) < p.most && fits(link) {
			items = append(items, link)
		}
	}
	_ = json.NewEncoder(w).Encode(attrs{"items": items, "limit": p.most})
}

// Every record comes once, also if more than a page are of the same time.
func (s *listSuite) TestPages(c *check.C) {
	start := time.Date(2024, 1, 1, 0, 0, 0, 123456000, time.UTC)
	for _, trial := range []struct{ n, sameTime, most, requests int }{
		{0, 1, 3, 1}, {2, 1, 3, 1}, {3, 1, 3, 2}, {10, 1, 3, 4}, {10, 10, 3, 4}, {20, 4, 3, 7}, {7, 2, 1, 8},
	} {
		server := &pagingServer{most: trial.most}
		for i := range trial.n {
			server.links = append(server.links, arvados.Link{UUID: fmt.Sprintf("zzzzz-o0j2j-%015d", i), CreatedAt: start.Add(time.Duration(i/trial.sameTime) * time.Microsecond)})
		}
		hs := httptest.NewServer(server)
		session := &session{Program: &Program{API: &arvados.Client{Scheme: "http", APIHost: strings.TrimPrefix(hs.URL, "http://"), AuthToken: "x"}}}
		got, err := every(context.Background(), session, "links", nil, nil, func(l arvados.Link) (string, time.Time) { return l.UUID, l.CreatedAt })
		hs.Close()
		c.Check(err, check.IsNil)
		if trial.n > 0 {
			c.Check(got, check.DeepEquals, server.links, check.Commentf("%+v", trial))
		}
		c.Check(server.requests, check.Equals, trial.requests, check.Commentf("%+v", trial))
	}
}
