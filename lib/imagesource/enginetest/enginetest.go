// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package enginetest is a fake Docker Engine for tests of what real engines do
// only when something is wrong: errors after HTTP 200, streams that break off,
// an engine that dies. It listens on a unix socket, speaks as much of the API as
// lib/imagesource/engine uses, and keeps just enough state (names of images)
// for a test to see what a client has left behind. It never stores image data
// and never talks to a registry.
//
// What it says was recorded from Docker 20.10.24 (graph driver overlay2) and
// from moby 2.0 (containerd image store).
package enginetest

import (
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// Kind is the kind of engine that a Server imitates.
type Kind struct {
	APIVersion string
	Containerd bool // the image store
}

// Kinds of engines that there are.
var (
	Overlay2   = Kind{APIVersion: "1.41"}
	Containerd = Kind{APIVersion: "1.56", Containerd: true}
)

// Image is an image that the fake's registry has.
type Image struct {
	Manifest string // "sha256:…", the digest by which it is pulled
	Config   string // "sha256:…"
	Platform string // "linux/amd64"
	Save     []byte // what the engine streams when it is asked to save it
}

// Server is a fake engine. Its exported fields may be set before the first
// request.
type Server struct {
	Host string // "unix:///…"
	Kind Kind
	// Registry has what can be pulled, by full name with tag:
	// "registry.example/app:1".
	Registry map[string]Image

	listener net.Listener
	http     *http.Server

	mutex    sync.Mutex
	names    map[string]Image // "registry.example/app:1" or "…@sha256:…"
	scripts  []*script
	requests []Request
}

// Request is a request that a Server has got.
type Request struct {
	Line   string // "POST /images/create?fromImage=…", without the API version
	Header http.Header
}

type script struct {
	line    *regexp.Regexp
	answers []http.HandlerFunc
}

// Start starts a fake with its socket in dir, which must be a short path.
func Start(dir string, kind Kind) (*Server, error) {
	socket := filepath.Join(dir, "engine.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	s := &Server{Host: "unix://" + socket, Kind: kind, Registry: map[string]Image{}, listener: listener, names: map[string]Image{}}
	s.http = &http.Server{Handler: s}
	go func() { _ = s.http.Serve(listener) }()
	return s, nil
}

// Die ends the engine at once: requests in progress lose their connection, and
// nobody listens any more. It may be called from an answer, and twice.
func (s *Server) Die() { _ = s.http.Close() }

// On has the next requests whose line matches the pattern answered by the given
// answers, one each; nil leaves one request to the fake. Later scripts for the
// same requests come after earlier ones.
func (s *Server) On(pattern string, answers ...http.HandlerFunc) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.scripts = append(s.scripts, &script{regexp.MustCompile("^(?:" + pattern + ")"), answers})
}

// Requests are those so far whose line matches the pattern.
func (s *Server) Requests(pattern string) (found []Request) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	line := regexp.MustCompile("^(?:" + pattern + ")")
	for _, req := range s.requests {
		if line.MatchString(req.Line) {
			found = append(found, req)
		}
	}
	return found
}

var apiVersion = regexp.MustCompile(`^/v1\.\d+`)

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	req.URL.Path = apiVersion.ReplaceAllString(req.URL.Path, "")
	line := req.Method + " " + req.URL.Path
	if req.URL.RawQuery != "" {
		line += "?" + req.URL.RawQuery
	}
	if answer := s.record(line, req.Header); answer != nil {
		answer(w, req)
		return
	}
	path := strings.Trim(req.URL.Path, "/")
	action := path[strings.LastIndexByte(path, '/')+1:]
	name := strings.TrimPrefix(strings.TrimSuffix(path, "/"+action), "images/")
	switch {
	case path == "_ping":
		w.Header().Set("Api-Version", s.Kind.APIVersion)
	case path == "version", path == "info":
		s.about(w)
	case strings.HasPrefix(path, "distribution/"):
		s.resolve(w, strings.TrimPrefix(name, "distribution/"))
	case path == "images/create":
		s.pull(w, req)
	case path == "images/json":
		s.list(w)
	case path == "images/get":
		s.save(w, req)
	case req.Method == http.MethodDelete:
		s.remove(w, strings.TrimPrefix(path, "images/"))
	case action == "json":
		s.inspect(w, name)
	case action == "tag":
		s.tag(w, req, name)
	default:
		Error(http.StatusNotImplemented, "the fake engine has no "+line)(w, req)
	}
}

// record notes a request, and returns the scripted answer if there is one.
func (s *Server) record(line string, header http.Header) http.HandlerFunc {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.requests = append(s.requests, Request{Line: line, Header: header})
	for _, script := range s.scripts {
		if len(script.answers) > 0 && script.line.MatchString(line) {
			answer := script.answers[0]
			script.answers = script.answers[1:]
			return answer
		}
	}
	return nil
}
