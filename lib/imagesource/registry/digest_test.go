// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"gopkg.in/check.v1"
)

// digestSuite is about what a tag means, without the image.
type digestSuite struct{ fixture }

var _ = check.Suite(&digestSuite{})

func (s *digestSuite) digest(c *check.C, name string) (string, error) {
	return s.source.Digest(context.Background(), s.ref(c, name))
}

// asked are the requests of the server, those for tokens left out, since other
// servers answer them.
func (s *digestSuite) asked() (asked []string) {
	for _, r := range s.server.Requests("/v2/") {
		asked = append(asked, r.Method+" "+strings.TrimPrefix(r.Path, "/v2/"))
	}
	return asked
}

func (s *digestSuite) TestIndexAndManifest(c *check.C) {
	index := s.server.PushIndex("app:multi", registrytest.Entry{Platform: "linux/amd64", Image: s.image})
	for name, want := range map[string]string{"app:multi": index, "app:1": s.image.Digests[0]} {
		digest, err := s.digest(c, name)
		c.Check(err, check.IsNil)
		c.Check(digest, check.Equals, want)
	}
	c.Check(s.server.Sent("/manifests/"), check.Equals, int64(0))
}

// Whatever login a registry wants, it gets two requests.
func (s *digestSuite) TestRequests(c *check.C) {
	two := []string{"GET ", "HEAD app/manifests/1"}
	for _, login := range []func(user, password string){func(string, string) {}, s.server.RequireBasic, s.server.RequireBearer} {
		login("alice", password)
		s.use(c, auths(s.server.Host(), "alice", password))
		before := len(s.asked())
		_, err := s.digest(c, "app:1")
		c.Check(err, check.IsNil)
		c.Check(s.asked()[before:], check.DeepEquals, two)
	}
}

// What is named by its digest is not asked for at all.
func (s *digestSuite) TestDigestInTheName(c *check.C) {
	ref, err := imageref.Parse("registry.invalid/app@" + s.image.Digests[0])
	c.Assert(err, check.IsNil)
	digest, err := s.source.Digest(context.Background(), ref)
	c.Check(err, check.IsNil)
	c.Check(digest, check.Equals, s.image.Digests[0])
}

// Registries that do not say it in a header are asked for the content.
func (s *digestSuite) TestWithoutTheHeader(c *check.C) {
	header := func(value string) registrytest.Behaviour {
		return func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
			serve(w, r)
			w.Header().Set("Docker-Content-Digest", value)
		}
	}
	for _, behaviour := range []registrytest.Behaviour{
		header(""), header("sha256:1234"), header("sha512:" + strings.Repeat("0", 128)),
		registrytest.Status(http.StatusMethodNotAllowed), registrytest.Status(http.StatusNotFound), registrytest.Status(http.StatusBadGateway),
	} {
		before := len(s.asked())
		s.server.Script("/manifests/1", behaviour)
		digest, err := s.digest(c, "app:1")
		c.Check(err, check.IsNil)
		c.Check(digest, check.Equals, s.image.Digests[0])
		c.Check(s.asked()[before:], check.DeepEquals, []string{"GET ", "HEAD app/manifests/1", "GET app/manifests/1"})
	}
}

// Errors are those of Resolve.
func (s *digestSuite) TestErrors(c *check.C) {
	_, err := s.digest(c, "app:2")
	checkFault(c, err, fault.Registry, false, `registry: read manifest .*app:2: .* has no tag 2 in app \(check the tag; there are 1\)`)
	_, err = s.source.Digest(context.Background(), imageref.Ref{Domain: "no host", Path: "app", Tag: "1"})
	checkFault(c, err, fault.Request, false, `request: contact registry no host: .*`)

	s.server.RequireBearer("alice", password)
	_, err = s.digest(c, "app:1")
	checkFault(c, err, fault.Registry, false, `.* wants credentials for app, and there are none .*`)
	c.Check(errors.Is(err, ErrUnauthorized), check.Equals, true)

	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = s.source.Digest(ended, s.ref(c, "app:1"))
	c.Check(errors.Is(err, context.Canceled), check.Equals, true)
}

func (*digestSuite) TestPlatforms(c *check.C) {
	for text, want := range map[string][]string{
		"linux/amd64":    {"linux/amd64", "linux/amd64/v1"},
		"linux/x86_64":   {"linux/amd64", "linux/amd64/v1"},
		"linux/amd64/v1": {"linux/amd64", "linux/amd64/v1"},
		"linux/amd64/v3": {"linux/amd64/v3"},
		"linux/arm64":    {"linux/arm64", "linux/arm64/v8"},
		"linux/arm":      {"linux/arm", "linux/arm/v7"},
		"linux/armel":    {"linux/arm/v6"},
		"windows/s390x":  {"windows/s390x"},
	} {
		got, err := Platforms(text)
		c.Check(err, check.IsNil)
		c.Check(got, check.DeepEquals, want)
	}
	usual, err := Platforms("")
	c.Check(err, check.IsNil)
	c.Check(usual[0], check.Equals, "linux/"+runtime.GOARCH)
	_, err = Platforms("vax")
	checkFault(c, err, fault.Request, false, `request: read platform "vax": .*`)
}
