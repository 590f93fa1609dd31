// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imageresolve_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imageresolve"
	"github.com/sirupsen/logrus"
	"gopkg.in/check.v1"
)

// passingSuite has a controller that does what a test wants.
type passingSuite struct {
	controller, layer *httptest.Server
	handler           *imageresolve.Handler
	serve             http.HandlerFunc
}

var _ = check.Suite(&passingSuite{})

func (s *passingSuite) SetUpTest(c *check.C) {
	s.controller = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r) }))
	target, err := url.Parse(s.controller.URL)
	c.Assert(err, check.IsNil)
	log := logrus.New()
	log.SetOutput(io.Discard)
	s.handler = imageresolve.New(imageresolve.Config{Controller: target, Policy: dockerimage.Policy{}, Log: log})
	s.layer = httptest.NewServer(s.handler)
}

func (s *passingSuite) TearDownTest(*check.C) {
	s.layer.Close()
	s.handler.Close()
	s.controller.Close()
}

// send is a request with a body of unknown length unless it is in memory.
func (s *passingSuite) send(c *check.C, method, path string, body io.Reader, header http.Header) *http.Response {
	r, err := http.NewRequest(method, s.layer.URL+path, body)
	c.Assert(err, check.IsNil)
	for name, values := range header {
		r.Header[name] = values
	}
	if host := header.Get("Host"); host != "" {
		r.Host = host
	}
	resp, err := s.layer.Client().Do(r)
	c.Assert(err, check.IsNil)
	return resp
}

// Nothing about a request changes on its way, and nothing about its answer.
func (s *passingSuite) TestUntouched(c *check.C) {
	const path = "/a%2Fb/c//d;e?x=1;y=%zz&x=2"
	sent := http.Header{"Host": {"api.example:8443"}, "X-Forwarded-For": {"192.0.2.1, 192.0.2.2"}, "X-Forwarded-Proto": {"https"},
		"X-Forwarded-Host": {"www.example"}, "Forwarded": {"for=192.0.2.1"}, "Authorization": {"Bearer secret"}, "Cookie": {"a=b"},
		"Accept-Encoding": {"br"}, "Range": {"bytes=0-1"}, "X-Many": {"one", "two"}, "User-Agent": {"tester"}}
	s.serve = func(w http.ResponseWriter, r *http.Request) {
		c.Check(r.Method, check.Equals, "PROPFIND")
		c.Check(r.RequestURI, check.Equals, path)
		c.Check(r.Host, check.Equals, "api.example:8443")
		for name, values := range sent {
			if name != "Host" {
				c.Check(r.Header[name], check.DeepEquals, values, check.Commentf(name))
			}
		}
		c.Check(r.Header, check.HasLen, len(sent)) // Host is none here; Content-Length is one
		body, err := io.ReadAll(r.Body)
		c.Check(err, check.IsNil)
		c.Check(string(body), check.Equals, "body")
		w.Header()["X-Many"] = []string{"three", "four"}
		w.Header().Set("Content-Encoding", "br")
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "not br")
	}
	resp := s.send(c, "PROPFIND", path, strings.NewReader("body"), sent)
	defer resp.Body.Close()
	c.Check(resp.StatusCode, check.Equals, http.StatusTeapot)
	c.Check(resp.Header["X-Many"], check.DeepEquals, []string{"three", "four"})
	c.Check(resp.Header.Get("Content-Encoding"), check.Equals, "br")
	body, err := io.ReadAll(resp.Body)
	c.Check(err, check.IsNil)
	c.Check(string(body), check.Equals, "not br")
}

// If the API fails, or knows no such image, the request goes on as it was, byte
// by byte.
func (s *passingSuite) TestUnresolved(c *check.C) {
	const body = `{ "container_request" : {"container_image":"lab/app:1", "n": 1e400} }`
	for _, answer := range []http.HandlerFunc{
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) },
		func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `<html>`) },
		func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"items":[]}`) },
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		var asked atomic.Int64
		s.serve = func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				c.Check(r.Header.Get("Authorization"), check.Equals, "Bearer token")
				c.Check(r.Header.Get("X-Request-Id"), check.Equals, "req-12345678901234567890")
				asked.Add(1)
				answer(w, r)
				return
			}
			got, err := io.ReadAll(r.Body)
			c.Check(err, check.IsNil)
			c.Check(string(got), check.Equals, body)
			c.Check(r.ContentLength, check.Equals, int64(len(body)))
			w.WriteHeader(http.StatusTeapot)
		}
		resp := s.send(c, "POST", "/arvados/v1/container_requests", strings.NewReader(body),
			http.Header{"Authorization": {"Bearer token"}, "X-Request-Id": {"req-12345678901234567890"}, "Content-Type": {"application/json"}})
		resp.Body.Close()
		c.Check(resp.StatusCode, check.Equals, http.StatusTeapot)
		c.Check(asked.Load() > 0, check.Equals, true)
	}
}

func (s *passingSuite) TestControllerIsDown(c *check.C) {
	s.controller.Close()
	resp := s.send(c, "POST", "/arvados/v1/container_requests", strings.NewReader(`{"container_image":"lab/app:1"}`), http.Header{"Authorization": {"Bearer token"}})
	defer resp.Body.Close()
	c.Check(resp.StatusCode, check.Equals, http.StatusBadGateway)
	body, err := io.ReadAll(resp.Body)
	c.Check(err, check.IsNil)
	c.Check(string(body), check.Equals, `{"errors":["the API server cannot be reached; try again"]}`+"\n")
}

// Answers arrive while they are written, and bodies while they are sent.
func (s *passingSuite) TestStreaming(c *check.C) {
	arrived := make(chan struct{})
	s.serve = func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		for first := make([]byte, 5); ; {
			if _, err := io.ReadFull(r.Body, first); err != nil {
				return
			}
			w.Write(bytes.ToUpper(first))
			w.(http.Flusher).Flush()
			arrived <- struct{}{}
		}
	}
	body, more := io.Pipe()
	go func() {
		more.Write([]byte("first"))
		<-arrived // before there is more
		more.Write([]byte("again"))
		<-arrived
		more.Close()
	}()
	resp := s.send(c, "POST", "/arvados/v1/collections", body, nil)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	c.Check(err, check.IsNil)
	c.Check(string(got), check.Equals, "FIRSTAGAIN")
}

// A first piece of an answer does not wait for the second.
func (s *passingSuite) TestFirstByte(c *check.C) {
	goOn := make(chan struct{})
	s.serve = func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "a")
		w.(http.Flusher).Flush()
		<-goOn
	}
	resp := s.send(c, "GET", "/arvados/v1/containers/x/log", nil, nil)
	defer resp.Body.Close()
	first := make([]byte, 1)
	_, err := io.ReadFull(resp.Body, first)
	c.Check(err, check.IsNil)
	close(goOn)
}

// Connections that become something else: websockets, and the shell of a
// container.
func (s *passingSuite) TestUpgrade(c *check.C) {
	s.serve = func(w http.ResponseWriter, r *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		c.Assert(err, check.IsNil)
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX-Arvados-Authorization: x\r\n\r\n", r.Header.Get("Upgrade"))
		io.Copy(conn, buf) // an echo
	}
	for _, trial := range [][2]string{{"GET /websocket", "websocket"}, {"POST /arvados/v1/connect/zzzzz-dz642-000000000000000/ssh", "ssh"}} {
		conn, err := net.Dial("tcp", s.layer.Listener.Addr().String())
		c.Assert(err, check.IsNil)
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %s\r\nContent-Length: 0\r\n\r\n", trial[0], trial[1])
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil)
		c.Assert(err, check.IsNil)
		c.Check(resp.StatusCode, check.Equals, http.StatusSwitchingProtocols)
		c.Check(resp.Header.Get("Upgrade"), check.Equals, trial[1])
		for _, word := range []string{"one\n", "two\n"} {
			io.WriteString(conn, word)
			echo, err := r.ReadString('\n')
			c.Check(err, check.IsNil)
			c.Check(echo, check.Equals, word)
		}
		conn.Close()
	}
}

// Large bodies are not kept, be they requests for containers or not, and be
// their length known or not.
func (s *passingSuite) TestLargeBodies(c *check.C) {
	const size = 100 << 20
	var most atomic.Uint64
	s.serve = func(w http.ResponseWriter, r *http.Request) {
		var total int64
		for {
			n, err := io.CopyN(io.Discard, r.Body, 10<<20)
			total += n
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most.Store(max(most.Load(), m.HeapAlloc))
			if err != nil {
				break
			}
		}
		fmt.Fprint(w, total)
	}
	for _, path := range []string{"/arvados/v1/container_requests", "/arvados/v1/collections"} {
		for _, known := range []bool{true, false} {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			most.Store(0)
			r, err := http.NewRequest("POST", s.layer.URL+path, io.LimitReader(zeros{}, size))
			c.Assert(err, check.IsNil)
			if known {
				r.ContentLength = size
			}
			resp, err := s.layer.Client().Do(r)
			c.Assert(err, check.IsNil)
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			c.Check(err, check.IsNil)
			c.Check(string(got), check.Equals, fmt.Sprint(size))
			c.Check(most.Load() < m.HeapAlloc+24<<20, check.Equals, true, check.Commentf("%s %v: %d MiB", path, known, (most.Load()-m.HeapAlloc)>>20))
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
