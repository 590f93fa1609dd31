// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registrytest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// Request is a request that the server got.
type Request struct {
	Method        string
	Path          string
	Range         string // header
	Authorization string // header
	Sent          int64  // bytes of the body given to the network so far
}

// Requests are those whose path contains part, in the order of their arrival.
func (s *Server) Requests(part string) []Request {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	var found []Request
	for _, r := range s.requests {
		if strings.Contains(r.Path, part) {
			found = append(found, *r)
		}
	}
	return found
}

// Sent is how many bytes of bodies went out for paths that contain part.
func (s *Server) Sent(part string) int64 {
	var n int64
	for _, r := range s.Requests(part) {
		n += r.Sent
	}
	return n
}

// ServeHTTP serves one request, as scripted.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := &Request{Method: r.Method, Path: r.URL.Path, Range: r.Header.Get("Range"), Authorization: r.Header.Get("Authorization")}
	s.mtx.Lock()
	s.requests = append(s.requests, request)
	behaviour := s.scripted(r)
	s.mtx.Unlock()
	w = &counting{ResponseWriter: w, server: s, request: request}
	if behaviour != nil {
		behaviour(w, r, s.serve)
	} else {
		s.serve(w, r)
	}
}

var (
	manifestPath = regexp.MustCompile(`^/v2/(.+)/manifests/([^/]+)$`)
	blobPath     = regexp.MustCompile(`^/v2/(.+)/blobs/([^/]+)$`)
	tagsPath     = regexp.MustCompile(`^/v2/(.+)/tags/list$`)
)

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		s.serveToken(w, r)
		return
	}
	if !s.authorized(w, r) {
		return
	}
	path := r.URL.Path
	if path == "/v2/" {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	} else if m := manifestPath.FindStringSubmatch(path); m != nil {
		s.serveManifest(w, r, m[1], m[2])
	} else if m := blobPath.FindStringSubmatch(path); m != nil {
		s.serveBlob(w, r, m[2])
	} else if m := tagsPath.FindStringSubmatch(path); m != nil {
		s.serveTags(w, m[1])
	} else {
		http.NotFound(w, r)
	}
}

func (s *Server) serveManifest(w http.ResponseWriter, r *http.Request, repository, reference string) {
	separator := ":"
	if strings.Contains(reference, ":") {
		separator = "@"
	}
	s.mtx.Lock()
	m, ok := s.manifests[repository+separator+reference]
	s.mtx.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
		return
	}
	w.Header().Set("Content-Type", m.mediaType)
	w.Header().Set("Docker-Content-Digest", digestOf(m.raw))
	w.Header().Set("Content-Length", strconv.Itoa(len(m.raw)))
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(m.raw) // the client may be gone
}

func (s *Server) serveTags(w http.ResponseWriter, repository string) {
	tags := []string{}
	known := false
	s.mtx.Lock()
	for name := range s.manifests {
		known = known || strings.HasPrefix(name, repository+":") || strings.HasPrefix(name, repository+"@")
		if tag, ok := strings.CutPrefix(name, repository+":"); ok {
			tags = append(tags, tag)
		}
	}
	s.mtx.Unlock()
	if !known {
		refuse(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
		return
	}
	sort.Strings(tags)
	_ = json.NewEncoder(w).Encode(map[string]any{"name": repository, "tags": tags})
}

func (s *Server) serveBlob(w http.ResponseWriter, r *http.Request, digest string) {
	s.mtx.Lock()
	b, ok := s.blobs[digest]
	s.mtx.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		return
	}
	var offset int64
	if from, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
		offset, _ = strconv.ParseInt(strings.TrimSuffix(from, "-"), 10, 64)
		if offset >= b.size {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", b.size))
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", offset, b.size-1, b.size))
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(b.size-offset, 10))
	w.Header().Set("Docker-Content-Digest", digest)
	if offset > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	if r.Method == http.MethodHead {
		return
	}
	body, err := b.open(r.Context())
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer body.Close()
	if seeker, ok := body.(io.Seeker); ok {
		_, err = seeker.Seek(offset, io.SeekStart)
	} else {
		_, err = io.CopyN(io.Discard, body, offset)
	}
	if err == nil {
		_, err = io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{body}, make([]byte, 256<<10))
	}
	if err != nil {
		panic(http.ErrAbortHandler) // the client must not take it for the end
	}
}

// refuse answers with an error of the distribution specification.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]string{"code": code, "message": message}}})
}

// counting keeps account of the bytes of a response.
type counting struct {
	http.ResponseWriter
	server  *Server
	request *Request
}

// Write counts before it writes, so that a client that has got everything finds
// everything counted.
func (c *counting) Write(p []byte) (int, error) {
	c.count(len(p))
	n, err := c.ResponseWriter.Write(p)
	c.count(n - len(p))
	return n, err
}

func (c *counting) count(n int) {
	c.server.mtx.Lock()
	defer c.server.mtx.Unlock()
	c.request.Sent += int64(n)
}

// Unwrap is for http.ResponseController.
func (c *counting) Unwrap() http.ResponseWriter { return c.ResponseWriter }
