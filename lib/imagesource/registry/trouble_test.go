// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"gopkg.in/check.v1"
)

// Every case ends well: the bytes are right, and the waits are as listed.
func (s *suite) TestTroubleThatPasses(c *check.C) {
	const sec = time.Second
	for _, t := range []struct {
		trouble    string
		path       string // default: the layer
		behaviours []registrytest.Behaviour
		waits      []time.Duration
		requests   int // for path
	}{
		{"503 on first contact", "/v2/", []registrytest.Behaviour{registrytest.Status(503), registrytest.Status(503)}, []time.Duration{sec, 3 * sec}, 0},
		{"503 for the manifest", "/manifests/1", []registrytest.Behaviour{registrytest.Status(503)}, []time.Duration{sec}, 2},
		{"manifest cut off", "/manifests/1", []registrytest.Behaviour{registrytest.Cut(100), registrytest.Cut(200)}, []time.Duration{sec, 3 * sec}, 3},
		{"429 with seconds to wait", "", []registrytest.Behaviour{registrytest.Status(429, "Retry-After: 7")}, []time.Duration{7 * sec}, 2},
		{"429 with an hour to wait", "", []registrytest.Behaviour{registrytest.Status(429, "Retry-After: 3600")}, []time.Duration{2 * time.Minute}, 2},
		{"429 with a date in the past", "", []registrytest.Behaviour{registrytest.Status(429, "Retry-After: Fri, 02 Jan 2026 03:04:05 GMT")}, []time.Duration{sec}, 2},
		{"408, 499, 500, 502 in a row", "", []registrytest.Behaviour{registrytest.Status(408), registrytest.Status(499), registrytest.Status(500), registrytest.Status(502)},
			[]time.Duration{sec, 3 * sec, 9 * sec, 27 * sec}, 5},
		{"504, 522 in a row", "", []registrytest.Behaviour{registrytest.Status(504), registrytest.Status(522)}, []time.Duration{sec, 3 * sec}, 3},
		{"cut off before the first byte", "", []registrytest.Behaviour{registrytest.Cut(0)}, []time.Duration{sec}, 2},
		{"cut off before the last byte", "", []registrytest.Behaviour{registrytest.Cut(299999)}, []time.Duration{sec}, 2},
		{"reset in the middle", "", []registrytest.Behaviour{registrytest.Reset(150000)}, []time.Duration{sec}, 2},
		{"cut off again and again, with progress", "", []registrytest.Behaviour{
			registrytest.Cut(70000), registrytest.Cut(70000), registrytest.Cut(70000), registrytest.Cut(70000)},
			[]time.Duration{sec, sec, sec, sec}, 5},
		{"cut off with little progress", "", []registrytest.Behaviour{registrytest.Cut(60000), registrytest.Cut(3000), registrytest.Cut(3000)},
			[]time.Duration{sec, 3 * sec, sec}, 4}, // forgiven after 64 KiB
		{"cut off, and Range is ignored", "", []registrytest.Behaviour{registrytest.Cut(200000), registrytest.IgnoreRange}, []time.Duration{sec}, 2},
		{"cut off, Range ignored and cut off before anything new", "", []registrytest.Behaviour{
			registrytest.Cut(200000), func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
				r.Header.Del("Range")
				registrytest.Cut(100000)(w, r, serve)
			}}, []time.Duration{sec, 3 * sec}, 3},
	} {
		c.Log(t.trouble)
		s.TearDownTest(c)
		s.SetUpTest(c)
		path := t.path
		if path == "" {
			path = s.blob()
		}
		s.server.Script(path, t.behaviours...)
		layers, err := s.pull(c, "app:1")
		if !c.Check(err, check.IsNil, comment("%s", t.trouble)) {
			continue
		}
		c.Check(layers, check.DeepEquals, s.expected(c), comment("%s", t.trouble))
		c.Check(s.slept, check.DeepEquals, t.waits, comment("%s", t.trouble))
		if t.requests > 0 {
			c.Check(s.server.Requests(path), check.HasLen, t.requests, comment("%s", t.trouble))
		}
		c.Check(strings.Count(s.log.String(), "level=warning"), check.Equals, len(t.waits), comment("%s: %s", t.trouble, s.log.String()))
	}
}

// Every case ends with an error that says whose fault it is, whether another
// try makes sense, and what to change.
func (s *suite) TestTroubleThatDoesNot(c *check.C) {
	const layer = `registry: read layer sha256:[0-9a-f]{64}: `
	for _, t := range []struct {
		trouble   string
		arrange   func()
		name      string // default: app:1
		side      fault.Side
		transient bool
		text      string
	}{
		{"no such tag", func() { s.server.Push("app:latest", s.image) }, "app:2", fault.Registry, false,
			`registry: read manifest 127.*/app:2: 127.\S+ has no tag 2 in app \(check the tag; there are 1, latest\)`},
		{"no such tag among many", func() {
			for _, tag := range strings.Split("abcdefghijklm", "") {
				s.server.Push("app:"+tag, s.image)
			}
		}, "app:2", fault.Registry, false, `.* there are 1, a, b, c, d, e, f, g, h, i and others\)`},
		{"no such repository", nil, "ap:1", fault.Registry, false,
			`registry: read manifest 127.*/ap:1: 127.\S+ has no repository ap \(check the name of the repository\)`},
		{"no such digest", nil, "app@sha256:" + strings.Repeat("0", 64), fault.Registry, false,
			`.*has no image with this digest in app \(check the digest, which must be that of a manifest or index, or name a tag\)`},
		{"no such image, and tags are secret", func() { s.server.Always("/tags/", registrytest.Status(403)) }, "app:2", fault.Registry, false,
			`.*the registry has no such image \(check the name\)`},
		{"503 for good", func() { s.server.Always("/manifests/", registrytest.Refuse(503, "UNAVAILABLE", "back\nsoon")) }, "", fault.Registry, true,
			`registry: read manifest \S+/app:1: 127.0.0.1:\d+ answers 503 Service Unavailable: UNAVAILABLE: back, 3 times in a row`},
		{"503 with a novel", func() {
			s.server.Always("/manifests/", registrytest.Refuse(503, "UNAVAILABLE", strings.Repeat("é", 5000)))
		}, "", fault.Registry, true,
			`.*: UNAVAILABLE: é{287}…, 3 times in a row`},
		{"429 for good", func() { s.server.Always("/manifests/", registrytest.Status(429)) }, "", fault.Registry, true,
			`.* answers 429 Too Many Requests, 3 times in a row \(the registry limits .* credentials .* in secret_mounts /root/.docker/config.json\)`},
		{"503 for a layer", func() { s.server.Always(s.blob(), registrytest.Status(503)) }, "", fault.Registry, true,
			layer + `127.0.0.1:\d+ answers 503 Service Unavailable, 5 times in a row`},
		{"layer cut off without progress", func() {
			s.server.Always(s.blob(), func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
				registrytest.Cut(0)(w, r, serve)
			})
		}, "", fault.Registry, true, layer + `unexpected EOF, 5 times in a row`},
		{"418 for a layer", func() { s.server.Always(s.blob(), registrytest.Status(418)) }, "", fault.Registry, false,
			layer + `127.0.0.1:\d+ answers 418 I'm a teapot`},
		{"no registry", func() { s.server.Always("/", registrytest.Status(404)) }, "", fault.Registry, false,
			`registry: contact registry 127\S+: 127\S+ answers 404 Not Found.*`},
		{"layer is missing", func() { s.server.RemoveBlob(s.image.Layers[0].Digest) }, "", fault.Registry, false,
			layer + `the registry has lost this part of the image: 127\S+ answers 404 Not Found: BLOB_UNKNOWN: blob unknown to registry`},
		{"config is missing", func() { s.server.RemoveBlob(digestOf(s.image.Config)) }, "", fault.Registry, false,
			`registry: read image config sha256:[0-9a-f]{64}: the registry has lost this part of the image: .*`},
		{"layer has other bytes", func() { s.server.ReplaceBlob(s.image.Layers[0].Digest, make([]byte, 300000)) }, "", fault.Registry, false,
			layer + `its bytes are not those of its digest: it is sha256:[0-9a-f]{64} \(the registry or something on the way damages the image: push it again, or name another one\)`},
		{"layer is truncated", func() { s.server.ReplaceBlob(s.image.Layers[0].Digest, make([]byte, 200000)) }, "", fault.Registry, false,
			layer + `the registry has 200000 bytes of it, but the manifest says 300000`},
		{"layer is truncated, which shows late", func() {
			s.server.Script(s.blob(), func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
				_, _ = w.Write(make([]byte, 200000)) // chunked, so without a length
			})
			s.server.ReplaceBlob(s.image.Layers[0].Digest, make([]byte, 200000))
		}, "", fault.Registry, false, layer + `the registry has 200000 bytes of it or fewer, but the manifest says 300000`},
		{"layer is longer", func() {
			s.server.Script(s.blob(), func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
				_, _ = w.Write(s.expected(c)[0]) // chunked, so without a length
				_, _ = w.Write([]byte("more"))
			})
		}, "", fault.Registry, false, layer + `its bytes are not those of its digest: it is longer than expected.*`},
		{"another range than asked for", func() {
			s.server.Script(s.blob(), registrytest.Cut(100000), func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
				r.Header.Set("Range", "bytes=5-")
				serve(w, r)
			})
		}, "", fault.Registry, false, layer + `asked for the bytes from 100000 on, the registry sends something else \(Content-Range: "bytes 5-299999/300000"\)`},
		{"range of another size", func() {
			s.server.Script(s.blob(), registrytest.Cut(100000), func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
				w.Header().Set("Content-Range", "bytes 100000-249999/250000")
				w.WriteHeader(http.StatusPartialContent)
			})
		}, "", fault.Registry, false, layer + `the registry has 250000 bytes of it, but the manifest says 300000`},
		{"manifest of 5 MB", func() {
			s.server.PutManifest("app:1", "application/vnd.oci.image.manifest.v1+json", bytes.Repeat([]byte(" "), 5<<20))
		},
			"", fault.Registry, false, `registry: read manifest 127\S+/app:1: its 5242880 bytes are more than the 4194304 that a manifest may have \(.*\)`},
		{"manifest of 5 MB without a length", func() {
			s.server.Script("/manifests/1", func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
				for range 5 {
					_, _ = w.Write(make([]byte, 1<<20))
				}
			})
		}, "", fault.Registry, false, `.*: it is longer than the 4194304 bytes that a manifest may have \(.*\)`},
		{"manifest of another digest", func() {
			other := randomimage.New(7, 3000)
			s.server.Script("/manifests/"+s.image.Digests[0], func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) { _, _ = w.Write(other.Manifest) })
		}, "app@" + s.image.Digests[0], fault.Registry, false, `.*its bytes are not those of its digest: it is sha256:.*`},
	} {
		c.Log(t.trouble)
		s.TearDownTest(c)
		s.SetUpTest(c)
		if t.arrange != nil {
			t.arrange()
		}
		name := t.name
		if name == "" {
			name = "app:1"
		}
		_, err := s.pull(c, name)
		checkFault(c, err, t.side, t.transient, t.text)
	}
}

func (s *suite) TestResumedTransferAsksForTheRest(c *check.C) {
	s.server.Script(s.blob(), registrytest.Cut(100000), registrytest.Cut(150000))
	_, err := s.pull(c, "app:1")
	c.Assert(err, check.IsNil)
	var ranges []string
	for _, r := range s.server.Requests(s.blob()) {
		ranges = append(ranges, r.Range)
	}
	c.Check(ranges, check.DeepEquals, []string{"", "bytes=100000-", "bytes=250000-"})
	c.Check(s.server.Sent(s.blob()), check.Equals, int64(300000))
	c.Check(s.log.String(), check.Matches, `(?s).*read layer sha256:[0-9a-f]{12} from 127\S+, 98 KiB of 293 KiB: unexpected EOF; trying again in 1s.*`)
}

func (s *suite) TestSilenceEndsATransfer(c *check.C) {
	s.source.stall = 20 * time.Millisecond
	s.server.Script(s.blob(), registrytest.Stall(100000), registrytest.Stall(0))
	layers, err := s.pull(c, "app:1")
	c.Assert(err, check.IsNil)
	c.Check(layers, check.DeepEquals, s.expected(c))
	c.Check(s.log.String(), check.Matches, `(?s).*the registry stopped sending.*`)

	s.server.Always(s.blob(), registrytest.Stall(0))
	_, err = s.pull(c, "app:1")
	checkFault(c, err, fault.Registry, true, `.*the registry stopped sending, 5 times in a row`)
}

func (s *suite) TestNobodyListens(c *check.C) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	c.Assert(err, check.IsNil)
	host := listener.Addr().String()
	listener.Close()
	source := s.newSource(c, "", host)
	_, err = source.Resolve(context.Background(), imageref.Ref{Domain: host, Path: "app", Tag: "1"}, "")
	checkFault(c, err, fault.Registry, true,
		`registry: contact registry `+host+`: dial tcp `+host+`: connect: connection refused, 3 times in a row \(check the registry's host name and port, and that the compute nodes can reach it\)`)
	c.Check(s.slept, check.DeepEquals, []time.Duration{time.Second, 3 * time.Second})
}

func (s *suite) TestNoSuchHost(c *check.C) {
	// .invalid never resolves (RFC 6761), with or without a name server;
	// without one the error passes, so only its wording is of interest.
	_, err := s.source.Resolve(context.Background(), imageref.Ref{Domain: "registry.invalid", Path: "app", Tag: "1"}, "")
	var f *fault.Error
	c.Assert(errors.As(err, &f), check.Equals, true)
	c.Check(f.Error(), check.Matches, `registry: contact registry registry.invalid: .* \(check the registry's host name\)`)
}
