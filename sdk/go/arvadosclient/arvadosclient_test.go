// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvadosclient

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	. "gopkg.in/check.v1"
)

func Test(t *testing.T) { TestingT(t) }

type ArvadosClientSuite struct {
	server *httptest.Server
	answer func(w http.ResponseWriter, r *http.Request)
	last   *http.Request
	form   url.Values
	count  int
}

var _ = Suite(&ArvadosClientSuite{})

const uuid = "zzzzz-4zz18-000000000000001"

func (s *ArvadosClientSuite) SetUpTest(c *C) {
	s.count = 0
	s.answer = func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"name":"n","Default":{"x":1}}`) }
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.form, _ = url.ParseQuery(string(body))
		s.last = r
		s.count++
		s.answer(w, r)
	}))
}

func (s *ArvadosClientSuite) TearDownTest(c *C) { s.server.Close() }

func (s *ArvadosClientSuite) client(c *C) *ArvadosClient {
	client, err := New(&arvados.Client{
		Scheme:    "http",
		APIHost:   strings.TrimPrefix(s.server.URL, "http://"),
		AuthToken: "v2/token",
	})
	c.Assert(err, IsNil)
	return client
}

func (s *ArvadosClientSuite) TestSettingsOfTheNewerClient(c *C) {
	hc := &http.Client{}
	client, err := New(&arvados.Client{
		Client: hc, APIHost: "h:1", AuthToken: "t", Insecure: true,
		KeepServiceURIs: []string{"http://k"}, DiskCacheSize: 1,
	})
	c.Assert(err, IsNil)
	c.Check(*client, DeepEquals, ArvadosClient{
		Client: hc, ApiServer: "h:1", ApiToken: "t", ApiInsecure: true,
		KeepServiceURIs: []string{"http://k"}, DiskCacheSize: 1, Retries: 2,
	})
}

func (s *ArvadosClientSuite) TestEnvironment(c *C) {
	old, was := os.LookupEnv("ARVADOS_API_HOST")
	os.Setenv("ARVADOS_API_HOST", "env:9")
	client, err := MakeArvadosClient()
	if os.Unsetenv("ARVADOS_API_HOST"); was {
		os.Setenv("ARVADOS_API_HOST", old)
	}
	c.Assert(err, IsNil)
	c.Check(client.ApiServer, Equals, "env:9")
	c.Check(client.Client.Timeout, Equals, 5*time.Minute)
	c.Check(MakeTLSConfig(true).InsecureSkipVerify, Equals, true)
	c.Check(MakeTLSConfig(false).InsecureSkipVerify, Equals, false)
}

func (s *ArvadosClientSuite) TestRequests(c *C) {
	client := s.client(c)
	client.RequestID = "req-x"
	params := Dict{"text": "a b", "collection": Dict{"name": "n"}, "flag": false}
	sent := url.Values{"text": {"a b"}, "collection": {`{"name":"n"}`}, "flag": {"false"}}
	for want, call := range map[string]func(interface{}) error{
		"POST /arvados/v1/collections":           func(out interface{}) error { return client.Create("collections", params, out) },
		"GET /arvados/v1/collections/" + uuid:    func(out interface{}) error { return client.Get("collections", uuid, params, out) },
		"PUT /arvados/v1/collections/" + uuid:    func(out interface{}) error { return client.Update("collections", uuid, params, out) },
		"DELETE /arvados/v1/collections/" + uuid: func(out interface{}) error { return client.Delete("collections", uuid, params, out) },
		"GET /arvados/v1/collections":            func(out interface{}) error { return client.List("collections", params, out) },
		"POST /arvados/v1/containers/" + uuid + "/lock": func(out interface{}) error {
			return client.Call("POST", "containers", uuid, "lock", params, out)
		},
		"GET /arvados/v1/users/current": func(out interface{}) error { return client.Call("GET", "users", "", "current", params, out) },
	} {
		var out Dict
		c.Check(call(&out), IsNil, Commentf(want))
		c.Check(out["name"], Equals, "n")
		c.Check(s.last.Method+" "+s.last.URL.Path, Equals, want)
		c.Check(s.last.Header.Get("Authorization"), Equals, "Bearer v2/token")
		c.Check(s.last.Header.Get("X-Request-Id"), Equals, "req-x")
		if s.last.Method == "GET" {
			c.Check(s.last.URL.Query(), DeepEquals, sent)
		} else {
			c.Check(s.form, DeepEquals, sent)
			c.Check(s.last.Header.Get("Content-Type"), Equals, "application/x-www-form-urlencoded")
		}
	}
	c.Check(client.Create("collections", nil, nil), IsNil)
	c.Check(client.Create("collections", Dict{"f": func() {}}, nil), ErrorMatches, "json: .*")
}

func (s *ArvadosClientSuite) TestGetAsksForOneRecordOnly(c *C) {
	client := s.client(c)
	const pdh = "d41d8cd98f00b204e9800998ecf8427e+0"
	for _, id := range []string{"", "x", uuid + "/", pdh} {
		c.Check(client.Get("containers", id, nil, nil), Equals, ErrInvalidArgument)
	}
	c.Check(s.count, Equals, 0)
	c.Check(client.Get("collections", pdh, nil, nil), IsNil)
}

func (s *ArvadosClientSuite) TestRefusals(c *C) {
	s.answer = func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(422)
		io.WriteString(w, `{"errors":["one","two"]}`)
	}
	err := s.client(c).Create("collections", nil, nil)
	var refusal APIServerError
	c.Assert(errors.As(err, &refusal), Equals, true)
	host := strings.TrimPrefix(s.server.URL, "http://")
	c.Check(refusal, DeepEquals, APIServerError{host, 422, "422 Unprocessable Entity", []string{"one", "two"}})
	c.Check(err, ErrorMatches, `arvados API server error: one; two \(422: 422 Unprocessable Entity\) returned by 127.0.0.1:\d+`)

	s.answer = func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404) }
	c.Check(s.client(c).Create("collections", nil, nil), ErrorMatches,
		`arvados API server error: 404: 404 Not Found returned by 127.0.0.1:\d+`)

	s.answer = func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }
	out := Dict{"before": 1}
	c.Check(s.client(c).Delete("collections", uuid, nil, &out), IsNil)
	c.Check(out, DeepEquals, Dict{"before": 1})

	c.Check(new(ArvadosClient).Create("collections", nil, nil), ErrorMatches, ".*ARVADOS_API_HOST is not set")
}

// Thirty times RetryDelay, for each of Retries, is the time for all attempts.
func (s *ArvadosClientSuite) TestRetries(c *C) {
	old := RetryDelay
	defer func() { RetryDelay = old }()
	c.Check(RetryDelay, Equals, 2*time.Second)

	s.answer = func(w http.ResponseWriter, r *http.Request) {
		if s.count == 1 {
			w.WriteHeader(503)
			return
		}
		io.WriteString(w, `{"name":"n"}`)
	}
	RetryDelay = 50 * time.Millisecond // pauses are a tenth of the time
	var out Dict
	c.Check(s.client(c).List("collections", nil, &out), IsNil)
	c.Check(out["name"], Equals, "n")
	c.Check(s.count, Equals, 2)

	s.answer = func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) }
	RetryDelay = 10 * time.Millisecond
	c.Check(s.client(c).List("collections", nil, &out), ErrorMatches, ".*503: 503 Service Unavailable.*")

	s.count = 0
	client := s.client(c)
	client.Retries = 0
	c.Check(client.List("collections", nil, &out), ErrorMatches, ".*503: 503 Service Unavailable.*")
	c.Check(s.count, Equals, 1)
}

func (s *ArvadosClientSuite) TestCertificates(c *C) {
	server := httptest.NewUnstartedServer(s.server.Config.Handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	settings := &arvados.Client{APIHost: strings.TrimPrefix(server.URL, "https://")}
	client, err := New(settings)
	c.Assert(err, IsNil)
	c.Check(client.List("collections", nil, nil), ErrorMatches, ".*certificate.*")
	settings.Insecure = true
	client, err = New(settings)
	c.Assert(err, IsNil)
	c.Check(client.List("collections", nil, nil), IsNil)
}

func (s *ArvadosClientSuite) TestDiscoveryIsReadOnce(c *C) {
	client := s.client(c)
	for range 2 {
		value, err := client.Discovery("name")
		c.Check(err, IsNil)
		c.Check(value, Equals, "n")
		_, err = client.Discovery("missing")
		c.Check(err, Equals, ErrInvalidArgument)
	}
	c.Check(s.count, Equals, 1)
	c.Check(s.last.URL.Path, Equals, "/discovery/v1/apis/arvados/v1/rest")

	s.answer = func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(401) }
	_, err := s.client(c).Discovery("name")
	c.Check(err, ErrorMatches, ".*401.*")
}

func (s *ArvadosClientSuite) TestClusterConfig(c *C) {
	client := s.client(c)
	value, err := client.ClusterConfig("Default")
	c.Check(err, IsNil)
	c.Check(value, DeepEquals, map[string]interface{}{"x": 1.0})
	c.Check(s.last.URL.Path, Equals, "/arvados/v1/config")
	value, err = client.ClusterConfig("")
	c.Check(err, IsNil)
	c.Check(value.(map[string]interface{})["name"], Equals, "n")
	_, err = client.ClusterConfig("missing")
	c.Check(err, Equals, ErrInvalidArgument)
	s.answer = func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403) }
	_, err = client.ClusterConfig("")
	c.Check(err, ErrorMatches, ".*403.*")
}
