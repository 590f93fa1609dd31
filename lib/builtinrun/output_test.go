// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/keepfile"
	"gopkg.in/check.v1"
)

// classes are the storage classes that each block of a collection was to be written
// with, as Keep was asked.
func (s *stage) classes(c *check.C, manifest string) (all []string) {
	files, err := keepfile.ParseManifest(manifest)
	c.Assert(err, check.IsNil)
	s.mtx.Lock()
	defer s.mtx.Unlock()
	for _, file := range files {
		for _, segment := range file.Segments {
			hash, _, _ := strings.Cut(segment.Locator, "+")
			all = append(all, s.asked[hash])
		}
	}
	return all
}

// The output is in the storage classes that the request asks for, and its log is
// not. Where it asks for none, the cluster has its own.
func (s *lifeSuite) TestOutputStorageClasses(c *check.C) {
	for _, trial := range []struct {
		wanted, desired []string // of the request and its output
		asked           string   // of Keep
	}{
		{[]string{"default"}, []string{"default"}, "default"},
		{[]string{"archive"}, []string{"archive"}, "archive"},
		{[]string{"fast", "default", "archive"}, []string{"fast", "default", "archive"}, "archive, default, fast"},
		{[]string{}, []string{"default"}, "default"},
	} {
		s.TearDownTest(c)
		s.SetUpTest(c)
		about := check.Commentf("%q", trial.wanted)
		cr := s.submit(c, []string{"docker", "pull", s.registry.Host() + "/app:1"}, attrs{"output_storage_classes": trial.wanted})
		e := s.run(context.Background(), c, cr, s.site)
		c.Assert(e.output, check.NotNil, about)
		c.Check(e.output.StorageClassesDesired, check.DeepEquals, trial.desired, about)
		blocks := s.classes(c, e.output.ManifestText)
		c.Check(len(blocks) > 1, check.Equals, true, about)
		for _, asked := range blocks {
			c.Check(asked, check.Equals, trial.asked, about)
		}
		for _, asked := range s.classes(c, s.collection(c, e.cr.LogUUID).ManifestText) {
			c.Check(asked, check.Equals, "default", about)
		}
	}
}

// What the request says of its output stands beside what we say, and wins.
func (s *lifeSuite) TestOutputProperties(c *check.C) {
	cr := s.submit(c, []string{"docker", "pull", s.registry.Host() + "/app:1"}, attrs{"output_properties": attrs{
		"purpose": "variant calling", "docker-image-repo-tag": "caller:7",
	}})
	e := s.run(context.Background(), c, cr, s.site)
	c.Assert(e.output, check.NotNil)
	c.Check(e.output.Properties["purpose"], check.Equals, "variant calling")
	c.Check(e.output.Properties["container_request"], check.Equals, cr.UUID)
	p := dockerimage.ParseProperties(e.output.Properties)
	c.Check(p.RepoTags, check.DeepEquals, []string{"caller:7"})
	c.Check(p.PDH, check.Equals, e.ctr.Output)
	c.Check(e.output.ManifestText, check.Matches, `.*`+strings.Replace(p.Hash, ":", `\\072`, 1)+`\.tar\n`)

	var record struct {
		OutputProperties map[string]interface{} `json:"output_properties"`
	}
	c.Assert(s.root.RequestAndDecode(&record, "GET", "arvados/v1/containers/"+e.ctr.UUID, nil, nil), check.IsNil)
	c.Check(record.OutputProperties["purpose"], check.IsNil)
	c.Check(dockerimage.ParseProperties(record.OutputProperties).RepoTags, check.DeepEquals, []string{s.registry.Host() + "/app:1"})
}

// The node's own Keep services get image and logs, and the API server is not asked
// for others.
func (s *lifeSuite) TestKeepServicesOfTheNode(c *check.C) {
	keep := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: s.KeepAddress})
	var large, small atomic.Int32
	own := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > mib {
			large.Add(1)
		} else if r.Method == "PUT" {
			small.Add(1)
		}
		keep.ServeHTTP(w, r)
	}))
	defer own.Close()
	s.keepServices = []string{own.URL}
	e := s.pull(c, "app:1")
	c.Assert(e.output, check.NotNil)
	c.Check(large.Load() > 0, check.Equals, true)
	c.Check(small.Load() > 0, check.Equals, true)
	s.mtx.Lock()
	defer s.mtx.Unlock()
	ended := slices.IndexFunc(s.seen, func(line string) bool { return strings.HasPrefix(line, "api GET /arvados/v1/container_requests/") })
	for _, line := range s.seen[:ended] {
		c.Check(strings.Contains(line, "keep_services"), check.Equals, false, check.Commentf(line))
	}
}

// A password or token in the command is on record, but nowhere else, whoever prints
// it.
func (s *lifeSuite) TestPasswordInAURL(c *check.C) {
	for shown, repository := range map[string]string{
		`alice:\[secret\]`: "https://alice:" + secretWord + "@git.example.com/x.git",
		`:\[secret\]`:      "https://:" + secretWord + "@git.example.com/x.git#main:sub",
		`\[secret\]`:       "https://" + secretWord + "@git.example.com/x.git",
		`\[secret\]:`:      "https://" + secretWord + ":@git.example.com/x.git",
		`a@b:\[secret\]`:   "https://a@b:" + secretWord + "@git.example.com/x.git",
	} {
		e := s.run(context.Background(), c, s.submit(c, []string{"docker", "build", repository}, nil), s.site)
		c.Check(e.exit, check.Equals, 2.0)
		c.Check(e.problem, check.Matches, `request: read git URL https://git.example.com/x.git.*`)
		c.Check(e.logs["crunch-run.txt"], check.Matches, `(?s).*command \["docker" "build" "https://`+shown+`@git.example.com/.*`)
	}
}
