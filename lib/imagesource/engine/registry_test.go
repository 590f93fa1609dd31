// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	check "gopkg.in/check.v1"
)

// testRegistry is a real registry on loopback behind a proxy that can misbehave.
type testRegistry struct {
	Host    string // of the proxy, "127.0.0.1:1234"
	backend string
	process *exec.Cmd
	proxy   *httptest.Server

	mutex     sync.Mutex
	intercept func(http.ResponseWriter, *http.Request) (done bool)
	requests  []string // "GET /v2/app/manifests/1"
}

const registryConfig = `
version: 0.1
log: {level: info}
storage: {filesystem: {rootdirectory: %s}}
http: {addr: "127.0.0.1:0"}
`

var listening = regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)

func startRegistry(c *check.C) *testRegistry {
	dir := c.MkDir()
	config := filepath.Join(dir, "config.yml")
	c.Assert(os.WriteFile(config, fmt.Appendf(nil, registryConfig, dir), 0600), check.IsNil)
	r := &testRegistry{process: exec.Command("docker-registry", "serve", config)}
	log, err := r.process.StderrPipe()
	c.Assert(err, check.IsNil)
	c.Assert(r.process.Start(), check.IsNil, check.Commentf("these tests need docker-registry on PATH: apt-get install docker-registry"))
	lines := bufio.NewReader(log)
	for r.backend == "" {
		line, err := lines.ReadString('\n')
		c.Assert(err, check.IsNil, check.Commentf("the registry ended: %s", line))
		if m := listening.FindStringSubmatch(line); m != nil {
			r.backend = m[1]
		}
	}
	go io.Copy(io.Discard, lines)
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: r.backend})
	forward.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	r.proxy = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mutex.Lock()
		r.requests = append(r.requests, req.Method+" "+req.URL.Path)
		intercept := r.intercept
		r.mutex.Unlock()
		if intercept == nil || !intercept(w, req) {
			forward.ServeHTTP(w, req)
		}
	}))
	r.Host = strings.TrimPrefix(r.proxy.URL, "http://")
	return r
}

func (r *testRegistry) Close() {
	r.Intercept(nil)
	r.proxy.CloseClientConnections()
	r.proxy.Close()
	r.process.Process.Kill()
	r.process.Wait()
}

// Intercept has f answer requests instead of the registry whenever it returns
// true.
func (r *testRegistry) Intercept(f func(w http.ResponseWriter, req *http.Request) bool) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.intercept = f
	r.requests = nil
}

// Requests are those since the last Intercept that contain part.
func (r *testRegistry) Requests(part string) (found []string) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for _, line := range r.requests {
		if strings.Contains(line, part) {
			found = append(found, line)
		}
	}
	return found
}

// Push stores an image under a tag, past the proxy, and returns the digest of
// its manifest.
func (r *testRegistry) Push(c *check.C, repository, tag string, img testImage) string {
	for _, blob := range [][]byte{img.config, img.layer} {
		r.pushBlob(c, repository, blob)
	}
	return r.pushManifest(c, repository, tag, ocispec.MediaTypeImageManifest, img.manifest)
}

// PushIndex stores one image for each platform under one tag.
func (r *testRegistry) PushIndex(c *check.C, repository, tag string, images map[string]testImage) string {
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	index.SchemaVersion = 2
	for _, name := range slices.Sorted(maps.Keys(images)) {
		img := images[name]
		r.Push(c, repository, digestOf(img.manifest), img)
		platform := parsePlatform(name)
		index.Manifests = append(index.Manifests, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageManifest,
			Digest:    toDigest(img.manifest),
			Size:      int64(len(img.manifest)),
			Platform:  &platform,
		})
	}
	return r.pushManifest(c, repository, tag, ocispec.MediaTypeImageIndex, marshal(index))
}

func (r *testRegistry) pushBlob(c *check.C, repository string, blob []byte) {
	resp := r.do(c, "POST", "http://"+r.backend+"/v2/"+repository+"/blobs/uploads/", "", nil)
	c.Assert(resp.StatusCode, check.Equals, http.StatusAccepted)
	target, err := url.Parse(resp.Header.Get("Location"))
	c.Assert(err, check.IsNil)
	query := target.Query()
	query.Set("digest", digestOf(blob))
	target.RawQuery = query.Encode()
	resp = r.do(c, "PUT", target.String(), "application/octet-stream", blob)
	c.Assert(resp.StatusCode, check.Equals, http.StatusCreated)
}

func (r *testRegistry) pushManifest(c *check.C, repository, reference, mediaType string, manifest []byte) string {
	resp := r.do(c, "PUT", "http://"+r.backend+"/v2/"+repository+"/manifests/"+reference, mediaType, manifest)
	c.Assert(resp.StatusCode, check.Equals, http.StatusCreated)
	return digestOf(manifest)
}

func (r *testRegistry) do(c *check.C, method, url, contentType string, body []byte) *http.Response {
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	c.Assert(err, check.IsNil)
	req.Header.Set("Content-Type", contentType)
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	c.Assert(err, check.IsNil)
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	c.Assert(err, check.IsNil)
	return resp
}
