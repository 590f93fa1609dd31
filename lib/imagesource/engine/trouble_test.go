// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	check "gopkg.in/check.v1"
)

func (s *conformance) TestUseFails(c *check.C) {
	wanted := errors.New("Keep is full")
	_, err := s.pull(context.Background(), PullRequest{}, func(context.Context, PulledImage) error { return wanted })
	c.Check(err, check.Equals, wanted)
}

func (s *conformance) TestUsePanics(c *check.C) {
	c.Check(func() {
		s.pull(context.Background(), PullRequest{}, func(context.Context, PulledImage) error { panic("bug") })
	}, check.Panics, "bug")
}

func (s *conformance) TestCancelWhileInUse(c *check.C) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, err := s.pull(ctx, PullRequest{}, func(ctx context.Context, img PulledImage) error {
		stream, err := img.Open(ctx)
		c.Assert(err, check.IsNil)
		defer stream.Close()
		cancel()
		for buf := make([]byte, 1<<10); err == nil; {
			_, err = stream.Read(buf)
		}
		return err
	})
	c.Check(errors.Is(err, context.Canceled), check.Equals, true, check.Commentf("%v", err))
}

// A pull that is cancelled while layers arrive ends soon, and nothing appears on
// the engine later either.
func (s *conformance) TestCancelMidPull(c *check.C) {
	bulky := bulkyImage(c, newLabel(), 4<<20)
	s.registry.Push(c, "bulky", "1", bulky)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.registry.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
		if !strings.HasSuffix(req.URL.Path, digestOf(bulky.layer)) || req.Method != http.MethodGet {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(bulky.layer)))
		w.Write(bulky.layer[:1<<20])
		w.(http.Flusher).Flush()
		cancel()
		<-req.Context().Done() // the engine has given up
		return true
	})
	_, err := s.pull(ctx, PullRequest{Ref: s.parse(c, "bulky:1")}, nil)
	c.Check(errors.Is(err, context.Canceled), check.Equals, true, check.Commentf("%v", err))
	c.Check(s.leftovers(c), check.HasLen, 0)
	s.registry.Intercept(nil)
	archive, err := s.pull(context.Background(), PullRequest{Ref: s.parse(c, "bulky:1")}, nil)
	c.Assert(err, check.IsNil)
	c.Check(archive.Image.Config, check.DeepEquals, bulky.config)
}

// Cancelled at each request to the engine, a pull leaves nothing.
func (s *conformance) TestCancelAtEveryRequest(c *check.C) {
	for n := 1; ; n++ {
		ctx, cancel := context.WithCancel(context.Background())
		count := 0
		s.before = func(*http.Request) {
			if count++; count == n {
				cancel()
			}
		}
		_, err := s.pull(ctx, PullRequest{}, nil)
		s.before = nil
		finished := ctx.Err() == nil || err == nil
		cancel()
		c.Check(s.leftovers(c), check.HasLen, 0, check.Commentf("cancelled at request %d", n))
		if finished {
			c.Check(n > 7, check.Equals, true, check.Commentf("%d requests", n))
			return
		}
		c.Check(errors.Is(err, context.Canceled), check.Equals, true, check.Commentf("%v", err))
	}
}

const (
	credentials = `{"auths":{%q:{"auth":%q}}}`
	password    = "s3cr3t-password"
)

func (s *conformance) credentials(user, password string) []byte {
	return fmt.Appendf(nil, credentials, s.registry.Host, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
}

// needPassword makes the registry want a user and a password.
func (s *conformance) needPassword() {
	s.registry.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
		if user, given, _ := req.BasicAuth(); user == "anna" && given == password {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		w.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":null}]}`))
		return true
	})
}

func (s *conformance) TestCredentials(c *check.C) {
	s.needPassword()
	archive, err := s.pull(context.Background(), PullRequest{Credentials: s.credentials("anna", password)}, func(context.Context, PulledImage) error {
		// Who has no access gets nothing, though the engine has it.
		_, err := s.pull(context.Background(), PullRequest{}, nil)
		s.checkFault(c, err, fault.Registry, false, `registry: pull .*app:1: .*credentials in the secret mount.*`)
		return nil
	})
	c.Assert(err, check.IsNil)
	c.Check(archive.Image.Config, check.DeepEquals, s.image.config)
}

// What registries do, and what becomes of it. The messages are the engines'.
func (s *conformance) TestRegistryTrouble(c *check.C) {
	status := func(code int, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, req *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			w.Write([]byte(body))
			return true
		}
	}
	layer := func(answer http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, req *http.Request) bool {
			if !strings.HasSuffix(req.URL.Path, "/blobs/"+digestOf(s.image.layer)) {
				return false
			}
			answer(w, req)
			return true
		}
	}
	wrong := append([]byte(nil), s.image.layer...)
	wrong[len(wrong)/2] ^= 1
	for _, trial := range []struct {
		what      string
		name      string
		intercept func(http.ResponseWriter, *http.Request) bool
		side      fault.Side
		transient bool
		hint      string
	}{
		{"no such tag", "app:nope", nil, fault.Registry, false, hintMissing},
		{"no such repository", "nope:1", nil, fault.Registry, false, hintMissing},
		{"no such digest", "app@sha256:" + strings.Repeat("0", 64), nil, fault.Registry, false, hintMissing},
		{"a name like an error", "unauthorized/toomanyrequests/denied:x509", nil, fault.Registry, false, hintMissing},
		{"429", "app:1", status(429, `{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}`), fault.Registry, true, "the registry limits.*"},
		{"403", "app:1", status(403, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`), fault.Registry, false, ".*credentials.*"},
		{"500", "app:1", status(500, ""), fault.Registry, true, "the registry is in trouble.*"},
		{"503", "app:1", status(503, "<html>"), fault.Registry, true, "the registry is in trouble.*"},
		{"connection closed", "app:1", func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }, fault.Registry, true, ".*cannot reach the registry.*"},
		{"layer with wrong bytes", "app:1", layer(func(w http.ResponseWriter, _ *http.Request) { w.Write(wrong) }), fault.Registry, false, ".*damaged.*"},
		{"layer cut", "app:1", layer(func(w http.ResponseWriter, _ *http.Request) { w.Write(wrong[:len(wrong)/3]) }), fault.Registry, s.info.Store == StoreContainerd, ".*(damaged|cut short).*"},
		{"layer gone", "app:1", layer(http.NotFound), fault.Registry, false, ".*damaged.*"},
	} {
		s.registry.Intercept(trial.intercept)
		// Long before engines stop to retry on their own.
		_, err := s.pull(context.Background(), PullRequest{Ref: s.parse(c, trial.name), Credentials: s.credentials("anna", password)}, nil)
		c.Logf("%s: %v", trial.what, err)
		s.checkFault(c, err, trial.side, trial.transient, `.*\(`+trial.hint+`\)`)
		c.Check(strings.Contains(fmt.Sprint(err), password), check.Equals, false)
		c.Check(s.leftovers(c), check.HasLen, 0)
	}
}

func (s *conformance) TestWrongPassword(c *check.C) {
	s.needPassword()
	_, err := s.pull(context.Background(), PullRequest{Credentials: s.credentials("anna", "not-"+password)}, nil)
	s.checkFault(c, err, fault.Registry, false, `.*credentials in the secret mount.*`)
	c.Check(strings.Contains(err.Error(), password), check.Equals, false)
}

func (s *conformance) TestRegistryDown(c *check.C) {
	down := startRegistry(c)
	down.Close()
	ref := s.ref
	ref.Domain = down.Host
	_, err := s.pull(context.Background(), PullRequest{Ref: ref}, nil)
	c.Logf("%v", err)
	s.checkFault(c, err, fault.Registry, true, `.*cannot reach the registry.*`)
}

func (s *conformance) TestDeadline(c *check.C) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	_, err := s.pull(ctx, PullRequest{}, nil)
	c.Check(errors.Is(err, context.DeadlineExceeded), check.Equals, true, check.Commentf("%v", err))
	c.Check(fault.Transient(err), check.Equals, true)
}
