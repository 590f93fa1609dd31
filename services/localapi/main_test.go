// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

const (
	cluster    = "zzzzz"
	signingKey = "blob-signing-key"
	signingTTL = 14 * 24 * time.Hour
	rootSecret = "system-root-token"
	admin      = "v2/zzzzz-gj3su-000000000000001/adminsecret"
	alice      = "v2/zzzzz-gj3su-000000000000002/alicesecret"
	bob        = "v2/zzzzz-gj3su-000000000000003/bobsecret"
)

func quietLog() logrus.FieldLogger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

func testConfig(dir string) Config {
	return Config{
		ClusterID: cluster, Dir: dir, SystemRootToken: rootSecret, BlobSigningKey: signingKey, BlobSigningTTL: signingTTL,
		APIAddress: "127.0.0.1:1", KeepAddress: "127.0.0.1:2", Log: quietLog(),
	}
}

// startServer makes a server with three users: admin, alice and bob.
func startServer(c *check.C, dir string) *Server {
	s, err := New(testConfig(dir))
	c.Assert(err, check.IsNil)
	for name, token := range map[string]string{"admin": admin, "alice": alice, "bob": bob} {
		c.Assert(s.EnsureUser(context.Background(), name, token, name == "admin"), check.IsNil)
	}
	return s
}

// client calls a server as one user.
type client struct {
	c      *check.C
	server *Server
	token  string
}

// answer is a reply.
type answer struct {
	status int
	body   map[string]any
}

func (a answer) errors() string {
	list, _ := a.body["errors"].([]any)
	var lines []string
	for _, line := range list {
		lines = append(lines, line.(string))
	}
	return strings.Join(lines, "\n")
}

func (a answer) uuid() string { return textOf(a.body["uuid"]) }

// names are the names of the items of a list.
func (a answer) names() []string {
	names := []string{}
	items, _ := a.body["items"].([]any)
	for _, item := range items {
		names = append(names, textOf(item.(map[string]any)["name"]))
	}
	return names
}

// do sends a JSON body, if any, to a path below /arvados/v1/.
func (cl client) do(method, path string, body any) answer {
	var reader io.Reader
	if body != nil {
		buf, err := json.Marshal(body)
		cl.c.Assert(err, check.IsNil)
		reader = bytes.NewReader(buf)
	}
	return cl.raw(method, path, "application/json", reader)
}

func (cl client) raw(method, path, contentType string, body io.Reader, header ...string) answer {
	r := httptest.NewRequest(method, "/arvados/v1/"+path, body)
	if body != nil {
		r.Header.Set("Content-Type", contentType)
	}
	if cl.token != "" {
		r.Header.Set("Authorization", "Bearer "+cl.token)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	cl.server.ServeHTTP(w, r)
	a := answer{status: w.Code}
	value, err := decodeJSON(w.Body.Bytes())
	cl.c.Assert(err, check.IsNil, check.Commentf("%s", w.Body.String()))
	a.body, _ = value.(map[string]any)
	return a
}

// must is do, for what has to succeed.
func (cl client) must(method, path string, body any) answer {
	a := cl.do(method, path, body)
	cl.c.Assert(a.status, check.Equals, 200, check.Commentf("%s %s: %v", method, path, a.body))
	return a
}

// find lists the names of the records that the filters let through, by name.
func (cl client) find(kind, filters string, more ...string) []string {
	query := url.Values{"filters": {filters}, "order": {"name"}}
	for i := 0; i < len(more); i += 2 {
		query.Set(more[i], more[i+1])
	}
	a := cl.do("GET", kind+"?"+query.Encode(), nil)
	cl.c.Assert(a.status, check.Equals, 200, check.Commentf("%s: %v", filters, a.body))
	return a.names()
}

// apiSuite has a fresh server for each test.
type apiSuite struct {
	dir    string
	server *Server

	admin, alice, bob, root client
}

func (s *apiSuite) SetUpTest(c *check.C) {
	s.dir = c.MkDir()
	s.open(c)
}

func (s *apiSuite) open(c *check.C) {
	s.server = startServer(c, s.dir)
	s.admin, s.alice, s.bob = client{c, s.server, admin}, client{c, s.server, alice}, client{c, s.server, bob}
	s.root = client{c, s.server, rootSecret}
}

func (s *apiSuite) TearDownTest(c *check.C) { c.Assert(s.server.Close(), check.IsNil) }
