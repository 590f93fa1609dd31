// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registrytest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"go.uber.org/goleak"
	"gopkg.in/check.v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func Test(t *testing.T) { check.TestingT(t) }

type suite struct {
	server *Server
	image  imagetar.Image
	layer  []byte
	path   string // of the layer
}

var _ = check.Suite(&suite{})

func (s *suite) SetUpTest(c *check.C) {
	s.server = New()
	s.image = randomimage.New(1, 100000)
	s.server.Push("app:1", s.image)
	body, err := s.image.Layers[0].Open(context.Background())
	c.Assert(err, check.IsNil)
	s.layer, err = io.ReadAll(body)
	c.Assert(err, check.IsNil)
	s.path = "/v2/app/blobs/" + s.image.Layers[0].Digest
}

func (s *suite) TearDownTest(*check.C) { s.server.Close() }

// get sends one request on a connection of its own. Headers are "Key: value".
func (s *suite) get(c *check.C, path string, headers ...string) (*http.Response, []byte, error) {
	req, err := http.NewRequest("GET", s.server.URL()+path, nil)
	c.Assert(err, check.IsNil)
	for _, header := range headers {
		key, value, _ := strings.Cut(header, ": ")
		req.Header.Set(key, value)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

func (s *suite) TestServesWhatWasPushed(c *check.C) {
	s.server.Push("a/b:x", randomimage.New(2))
	for _, t := range []struct {
		path   string
		status int
		body   string
	}{
		{"/v2/", 200, ""},
		{"/v2/app/manifests/1", 200, string(s.image.Manifest)},
		{"/v2/app/manifests/" + s.image.Digests[0], 200, string(s.image.Manifest)},
		{"/v2/app/manifests/2", 404, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}` + "\n"},
		{"/v2/a/b/manifests/" + s.image.Digests[0], 404, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}` + "\n"},
		{s.path, 200, string(s.layer)},
		{"/v2/app/blobs/sha256:1", 404, `{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}` + "\n"},
		{"/v2/a/b/tags/list", 200, `{"name":"a/b","tags":["x"]}` + "\n"},
		{"/v2/a/tags/list", 404, `{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}` + "\n"},
		{"/", 404, "404 page not found\n"},
	} {
		resp, body, err := s.get(c, t.path)
		c.Assert(err, check.IsNil)
		c.Check(resp.StatusCode, check.Equals, t.status, check.Commentf("%s", t.path))
		c.Check(string(body) == t.body, check.Equals, true, check.Commentf("%s: %.300q", t.path, body))
	}
}

func (s *suite) TestRanges(c *check.C) {
	resp, body, err := s.get(c, s.path, "Range: bytes=99990-")
	c.Assert(err, check.IsNil)
	c.Check(resp.StatusCode, check.Equals, 206)
	c.Check(resp.Header.Get("Content-Range"), check.Equals, "bytes 99990-99999/100000")
	c.Check(body, check.DeepEquals, s.layer[99990:])
	resp, _, err = s.get(c, s.path, "Range: bytes=100000-")
	c.Assert(err, check.IsNil)
	c.Check(resp.StatusCode, check.Equals, 416)
	c.Check(s.server.Requests(s.path)[1].Range, check.Equals, "bytes=100000-")
	c.Check(s.server.Sent(s.path), check.Equals, int64(10))
}

func (s *suite) TestLargeLayersAreGenerated(c *check.C) {
	large := randomimage.Layer(1, cached+1, imagetar.Gzip)
	s.server.Push("large:1", randomimage.Of(large))
	_, tail, err := s.get(c, "/v2/large/blobs/"+large.Digest, "Range: bytes=33000000-")
	c.Assert(err, check.IsNil)
	body, err := large.Open(context.Background())
	c.Assert(err, check.IsNil)
	all, err := io.ReadAll(body)
	c.Assert(err, check.IsNil)
	c.Check(bytes.Equal(tail, all[33000000:]), check.Equals, true)
}

func (s *suite) TestBlobsThatAreNotWhatTheyShouldBe(c *check.C) {
	s.server.ReplaceBlob(s.image.Layers[0].Digest, []byte("other"))
	_, body, err := s.get(c, s.path)
	c.Check(err, check.IsNil)
	c.Check(string(body), check.Equals, "other")
	s.server.RemoveBlob(s.image.Layers[0].Digest)
	resp, _, err := s.get(c, s.path)
	c.Check(err, check.IsNil)
	c.Check(resp.StatusCode, check.Equals, 404)
}

func (s *suite) TestScriptsGoOneByOne(c *check.C) {
	s.server.Script("/app/", Status(503, "Retry-After: 7"), nil, Refuse(403, "DENIED", "no"))
	s.server.Always("/manifests/2", Redirect("http://example.com"))
	var got []int
	for _, path := range []string{"/v2/app/manifests/1", "/v2/app/manifests/1", "/v2/", s.path, s.path, "/v2/app/manifests/2", "/v2/app/manifests/2"} {
		resp, _, err := s.get(c, path)
		c.Assert(err, check.IsNil)
		got = append(got, resp.StatusCode)
		switch resp.StatusCode {
		case 503:
			c.Check(resp.Header.Get("Retry-After"), check.Equals, "7")
		case 307:
			c.Check(resp.Header.Get("Location"), check.Equals, "http://example.com/v2/app/manifests/2")
		}
	}
	c.Check(got, check.DeepEquals, []int{503, 200, 200, 403, 200, 307, 307})
}

func (s *suite) TestTransfersThatBreak(c *check.C) {
	s.server.Script(s.path, Cut(60000), Reset(60000), IgnoreRange, Cut(100000))
	_, body, err := s.get(c, s.path)
	c.Check(err, check.Equals, io.ErrUnexpectedEOF)
	c.Check(body, check.DeepEquals, s.layer[:60000])
	_, body, err = s.get(c, s.path)
	c.Check(errors.Is(err, syscall.ECONNRESET), check.Equals, true, check.Commentf("%v", err))
	c.Check(len(body) <= 60000, check.Equals, true)
	resp, body, err := s.get(c, s.path, "Range: bytes=60000-")
	c.Assert(err, check.IsNil)
	c.Check(resp.StatusCode, check.Equals, 200)
	c.Check(body, check.DeepEquals, s.layer)
	_, body, err = s.get(c, s.path)
	c.Check(err, check.IsNil)
	c.Check(body, check.HasLen, 100000)
}

func (s *suite) TestStallLastsUntilTheClientGoes(c *check.C) {
	gone := make(chan struct{})
	s.server.Script(s.path, func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		defer close(gone)
		Stall(10)(w, r, serve)
	})
	client := s.server.Client()
	resp, err := client.Get(s.server.URL() + s.path)
	c.Assert(err, check.IsNil)
	buf := make([]byte, 10)
	_, err = io.ReadFull(resp.Body, buf)
	c.Check(err, check.IsNil)
	resp.Body.Close()
	<-gone
	c.Check(s.server.Sent(s.path), check.Equals, int64(10))
}

func (s *suite) TestAuthorization(c *check.C) {
	status := func(headers ...string) (int, string) {
		resp, _, err := s.get(c, "/v2/", headers...)
		c.Assert(err, check.IsNil)
		return resp.StatusCode, resp.Header.Get("Www-Authenticate")
	}
	s.server.RequireBasic("alice", "secret")
	code, challenge := status()
	c.Check(code, check.Equals, 401)
	c.Check(challenge, check.Equals, `Basic realm="registrytest"`)
	code, _ = status("Authorization: Basic YWxpY2U6c2VjcmV0")
	c.Check(code, check.Equals, 200)

	s.server.RequireBearer("alice", "secret")
	code, challenge = status("Authorization: Basic YWxpY2U6c2VjcmV0")
	c.Check(code, check.Equals, 401)
	c.Check(challenge, check.Equals, `Bearer realm="`+s.server.URL()+`/token",service="registrytest"`)
	resp, _, err := s.get(c, "/token", "Authorization: Basic wrong")
	c.Assert(err, check.IsNil)
	c.Check(resp.StatusCode, check.Equals, 401)
	_, body, err := s.get(c, "/token", "Authorization: Basic YWxpY2U6c2VjcmV0")
	c.Assert(err, check.IsNil)
	c.Check(string(body), check.Equals, `{"expires_in":300,"token":"registrytest-token-1"}`+"\n")
	code, _ = status("Authorization: Bearer registrytest-token-1")
	c.Check(code, check.Equals, 200)
	s.server.ExpireTokens()
	code, _ = status("Authorization: Bearer registrytest-token-1")
	c.Check(code, check.Equals, 401)
}

func (s *suite) TestTLS(c *check.C) {
	server := NewTLS()
	defer server.Close()
	_, err := http.Get(server.URL() + "/v2/")
	c.Check(err, check.ErrorMatches, `.*x509.*`)
	resp, err := server.Client().Get(server.URL() + "/v2/")
	c.Assert(err, check.IsNil)
	resp.Body.Close()
	c.Check(resp.StatusCode, check.Equals, 200)
}

func (s *suite) TestRealRegistryStartsAndStops(c *check.C) {
	dir := c.MkDir()
	real, err := StartReal(dir, "")
	c.Assert(err, check.IsNil)
	resp, err := http.Get("http://" + real.Host + "/v2/")
	c.Assert(err, check.IsNil)
	resp.Body.Close()
	c.Check(resp.StatusCode, check.Equals, 200)
	real.Stop()
	http.DefaultClient.CloseIdleConnections()
	_, err = http.Get("http://" + real.Host + "/v2/")
	c.Check(err, check.ErrorMatches, `.*connection refused`)
}

func (s *suite) TestRealRegistryThatCannotStart(c *check.C) {
	dir := c.MkDir()
	c.Assert(os.WriteFile(filepath.Join(dir, "file"), nil, 0600), check.IsNil)
	_, err := StartReal(filepath.Join(dir, "file"), "")
	c.Check(err, check.ErrorMatches, `.*not a directory`)
	_, err = StartReal(filepath.Join(dir, "file"), "alice:x")
	c.Check(err, check.ErrorMatches, `.*not a directory`)
	path := os.Getenv("PATH")
	defer os.Setenv("PATH", path)
	os.Setenv("PATH", dir)
	_, err = StartReal(dir, "")
	c.Check(err, check.ErrorMatches, `this needs the program docker-registry: install .*`)
	c.Assert(os.WriteFile(filepath.Join(dir, "docker-registry"), []byte("#!/bin/sh\necho no such luck >&2\n"), 0700), check.IsNil)
	_, err = StartReal(dir, "")
	c.Check(err, check.ErrorMatches, `docker-registry did not start: no such luck\n`)
}
