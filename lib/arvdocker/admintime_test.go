// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// busyServer is an API server without images that answers with a status for some
// time, but to the question who the user is.
type busyServer struct {
	status     int
	retryAfter string
	until      time.Time
	mtx        sync.Mutex
	asked      []time.Time
	answered   func() // is called for each answer that is none of these
}

func (s *busyServer) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	resp := &http.Response{StatusCode: 200, Header: http.Header{}, Request: r}
	text := `{"items":[]}`
	switch {
	case strings.HasSuffix(r.URL.Path, "/users/current"):
		text = `{"uuid":"zzzzz-tpzed-000000000000001","is_admin":true}`
	case time.Now().Before(s.until):
		s.asked = append(s.asked, time.Now())
		resp.StatusCode, resp.Status, text = s.status, http.StatusText(s.status), `{"errors":["busy"]}`
		resp.Header.Set("Retry-After", s.retryAfter)
	default:
		s.asked = append(s.asked, time.Now())
		s.answered()
	}
	resp.Body = io.NopCloser(strings.NewReader(text))
	return resp, nil
}

// adminCalls are the commands that go on for long.
func adminCalls(dir string) map[string][]string {
	return map[string][]string{
		"migrate":  {"migrate", "--rollback-file=" + filepath.Join(dir, "migrate")},
		"to-links": {"migrate", "--to-links"},
		"verify":   {"migrate", "--verify"},
		"sync":     {"sync", "--state=" + filepath.Join(dir, "state"), "--rollback-file=" + filepath.Join(dir, "sync")},
	}
}

// call runs arv-docker with that server as it is run by people, and returns the exit
// code and what it says.
func (s *busyServer) call(ctx context.Context, args []string) (int, string) {
	var said bytes.Buffer
	p := &Program{Stdin: strings.NewReader(""), Stdout: &said, Stderr: &said, API: &arvados.Client{
		Client: &http.Client{Transport: s}, APIHost: "api.example", AuthToken: "x", Timeout: 2 * time.Minute,
	}}
	return p.Run(ctx, args), said.String()
}

// Trouble of minutes is sat out, and the server is not asked sooner than it wants to
// be.
func TestPatience(t *testing.T) {
	for name, args := range adminCalls(t.TempDir()) {
		for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				server := &busyServer{status: status, retryAfter: "60", until: time.Now().Add(adminTime - time.Minute), answered: func() {}}
				if name == "sync" { // which does not end by itself
					server.answered = cancel
				}
				code, said := server.call(ctx, args)
				if code != 0 || strings.Contains(said, "busy") {
					t.Errorf("%s, %d: exit code %d: %s", name, status, code, said)
				}
				if len(server.asked) < 10 {
					t.Errorf("%s, %d: asked %d times", name, status, len(server.asked))
				}
				for i, at := range server.asked[1:10] {
					if pause := at.Sub(server.asked[i]); pause < time.Minute {
						t.Errorf("%s, %d: asked again after %s", name, status, pause)
					}
				}
			})
		}
	}
}

// Ctrl-C ends that at once.
func TestInterruptedPatience(t *testing.T) {
	for name, args := range adminCalls(t.TempDir()) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			server := &busyServer{status: http.StatusServiceUnavailable, retryAfter: "60", until: time.Now().Add(time.Hour)}
			time.AfterFunc(90*time.Second, cancel)
			began := time.Now()
			code, said := server.call(ctx, args)
			if took := time.Since(began); took != 90*time.Second {
				t.Errorf("%s: ended after %s", name, took)
			}
			want := exitInterrupted
			if name == "sync" { // which is always ended so
				want = 0
			}
			if code != want {
				t.Errorf("%s: exit code %d: %s", name, code, said)
			}
		})
	}
}

// Trouble that is longer ends migrate, with what the server says; sync goes on after
// all.
func TestPatienceEnds(t *testing.T) {
	for name, args := range adminCalls(t.TempDir()) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			server := &busyServer{status: http.StatusServiceUnavailable, until: time.Now().Add(time.Hour), answered: cancel}
			began := time.Now()
			code, said := server.call(ctx, args)
			took, want := time.Since(began), exitFailed
			if name == "sync" {
				want = 0
				took -= time.Hour
			}
			if code != want || !strings.Contains(said, "Service Unavailable") || took < 0 || took > adminTime+time.Minute {
				t.Errorf("%s: exit code %d after %s: %s", name, code, took, said)
			}
		})
	}
}

// What people wait for ends sooner, and a client that tries nothing again goes on not
// to.
func TestNoPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &busyServer{status: http.StatusServiceUnavailable, until: time.Now().Add(time.Hour)}
		began := time.Now()
		if code, said := server.call(t.Context(), []string{"images"}); code != exitFailed || time.Since(began) > 2*time.Minute {
			t.Errorf("exit code %d after %s: %s", code, time.Since(began), said)
		}
	})
	s := &session{Program: &Program{API: &arvados.Client{}}}
	s.bePatient()
	if s.API.Timeout != 0 {
		t.Error(s.API.Timeout)
	}
	given := &Program{API: &arvados.Client{Timeout: time.Hour}}
	s = &session{Program: given}
	s.bePatient()
	if s.API.Timeout != time.Hour || s.API == given.API {
		t.Error(s.API.Timeout)
	}
}
