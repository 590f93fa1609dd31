// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	. "gopkg.in/check.v1"
)

func (s *ClientSuite) TestWhatIsTriedAgain(c *C) {
	good := answer{200, `{"a":"b"}`, nil}
	for _, trial := range []struct {
		about  string
		first  answer
		passes bool
	}{
		{"connection lost", answer{}, true},
		{"too many requests", answer{429, "", nil}, true},
		{"internal error", answer{500, "", nil}, true},
		{"bad gateway", answer{502, "", nil}, true},
		{"busy", answer{503, "", nil}, true},
		{"gateway timeout", answer{504, "", nil}, true},
		{"not implemented", answer{501, "", nil}, false},
		{"bad request", answer{400, "", nil}, false},
		{"not logged in", answer{401, "", nil}, false},
		{"forbidden", answer{403, "", nil}, false},
		{"missing", answer{404, "", nil}, false},
		{"invalid", answer{422, "", nil}, false},
	} {
		for _, method := range []string{"GET", "POST"} {
			comment := Commentf("%s %s", method, trial.about)
			fake := newFakeAPI(trial.first, trial.first, good)
			var dst ok
			err := hurried(fake.client()).RequestAndDecode(&dst, method, "x", nil, map[string]string{"k": "v"})
			fake.Close()
			requests := fake.requests()
			c.Check(err == nil, Equals, trial.passes, comment)
			if !trial.passes {
				c.Check(len(requests), Equals, 1, comment)
				continue
			}
			c.Assert(len(requests), Equals, 3, comment)
			c.Check(requests[2].body, Equals, requests[0].body, comment)
			c.Check(requests[2].header.Get("X-Request-Id"), Equals, requests[0].header.Get("X-Request-Id"), comment)
			c.Check(requests[2].header.Values("Authorization"), HasLen, 1, comment)
		}
	}
}

func (s *ClientSuite) TestABodyThatCanBeReadOnceIsSentAgain(c *C) {
	fake := newFakeAPI(answer{503, "", nil}, answer{}, answer{200, `{}`, nil})
	defer fake.Close()
	body := struct{ io.Reader }{strings.NewReader("k=v")}
	c.Check(hurried(fake.client()).RequestAndDecode(nil, "POST", "x", body, nil), IsNil)
	c.Check(fake.requests()[2].body, Equals, "k=v")
}

func (s *ClientSuite) TestWithoutTimeoutNothingIsTriedAgain(c *C) {
	fake := newFakeAPI(answer{503, `{"errors":["busy"]}`, nil})
	defer fake.Close()
	client := fake.client()
	client.Timeout = 0
	c.Check(client.RequestAndDecode(nil, "GET", "x", nil, nil), ErrorMatches, ".*503 Service Unavailable: busy")
	c.Check(len(fake.requests()), Equals, 1)
}

func (s *ClientSuite) TestAnEndToRetries(c *C) {
	fake := newFakeAPI(answer{503, `{"errors":["busy"]}`, nil})
	defer fake.Close()
	c.Check(hurried(fake.client()).RequestAndDecode(nil, "GET", "x", nil, nil), ErrorMatches, ".*503 Service Unavailable: busy")
	c.Check(len(fake.requests()), Equals, 33)
}

// When the time is over the caller learns what the server said, not that the
// time is over.
func (s *ClientSuite) TestTheLastRefusalIsReported(c *C) {
	for what, first := range map[string]answer{
		".*503 Service Unavailable: busy": {503, `{"errors":["busy"]}`, nil},
		".*giving up after 2 attempts.*":  {}, // a lost connection
	} {
		fake := newFakeAPI(first, answer{status: hang})
		client := hurried(fake.client())
		client.Timeout = time.Second
		err := client.RequestAndDecode(nil, "GET", "x", nil, nil)
		fake.Close()
		c.Check(err, ErrorMatches, what)
		c.Check(errors.Is(err, context.DeadlineExceeded), Equals, false)
		c.Check(len(fake.requests()), Equals, 2)
	}
}

func (s *ClientSuite) TestNobodyListening(c *C) {
	fake := newFakeAPI(answer{200, "", nil})
	fake.Close()
	client := fake.client()
	client.Timeout = 200 * time.Millisecond
	err := client.RequestAndDecode(nil, "GET", "x", nil, nil)
	c.Check(err, ErrorMatches, `GET http://.*: giving up after \d+ attempts: .*connection refused`)
}

func (s *ClientSuite) TestAServerThatSaysNothing(c *C) {
	fake := newFakeAPI(answer{status: hang})
	defer fake.Close()
	client := fake.client()
	client.Timeout = 50 * time.Millisecond
	err := client.RequestAndDecode(nil, "GET", "x", nil, nil)
	c.Check(errors.Is(err, context.DeadlineExceeded), Equals, true, Commentf("%v", err))
}

func (s *ClientSuite) TestCancelledBetweenAttempts(c *C) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(503)
		cancel()
	}))
	defer server.Close()
	client := &Client{Scheme: "http", APIHost: strings.TrimPrefix(server.URL, "http://"), Timeout: time.Hour}
	err := client.RequestAndDecodeContext(ctx, nil, "GET", "x", nil, nil)
	c.Check(errors.Is(err, context.Canceled), Equals, true, Commentf("%v", err))
}

func (s *ClientSuite) TestCertificatesAreNotTriedAgain(c *C) {
	server := httptest.NewUnstartedServer(s.fake)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	client := &Client{APIHost: strings.TrimPrefix(server.URL, "https://"), Timeout: time.Hour}
	c.Check(client.RequestAndDecode(nil, "GET", "x", nil, nil), ErrorMatches, ".*certificate.*")
	client.Insecure = true
	c.Check(client.RequestAndDecode(nil, "GET", "x", nil, nil), IsNil)
	client.Scheme = "gopher"
	c.Check(client.RequestAndDecode(nil, "GET", "x", nil, nil), ErrorMatches, ".*unsupported protocol scheme.*")
}

func (s *ClientSuite) TestDoLeavesTheRequestAlone(c *C) {
	req := httptest.NewRequest("POST", s.fake.URL+"/x", bytes.NewReader([]byte("k=v")))
	req.RequestURI = ""
	resp, err := s.fake.client().Do(req)
	c.Assert(err, IsNil)
	body, err := io.ReadAll(resp.Body)
	c.Check(err, IsNil)
	c.Check(string(body), Equals, `{"a":"b"}`)
	c.Check(resp.Body.Close(), IsNil)
	c.Check(req.Header, HasLen, 0)
}

func (s *ClientSuite) TestPauses(c *C) {
	client := &Client{Timeout: 5 * time.Minute}
	says := func(status int, retryAfter string) *http.Response {
		return &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {retryAfter}}}
	}
	for _, trial := range []struct {
		attempt   int
		resp      *http.Response
		low, high time.Duration
	}{
		{0, nil, time.Second, time.Second},
		{1, nil, time.Second, 2 * time.Second},
		{3, nil, time.Second, 8 * time.Second},
		{31, nil, time.Second, 30 * time.Second},
		{0, says(503, "7"), 7 * time.Second, 7 * time.Second},
		{0, says(429, "0"), time.Second, time.Second},
		{0, says(503, "-5"), time.Second, time.Second},
		{0, says(503, "3600"), 30 * time.Second, 30 * time.Second},
		{0, says(503, "soon"), time.Second, time.Second},
		{0, says(503, time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)), 30 * time.Second, 30 * time.Second},
		{0, says(503, time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)), time.Second, time.Second},
	} {
		for range 20 {
			pause := client.pause(trial.attempt, trial.resp)
			c.Check(pause >= trial.low && pause <= trial.high, Equals, true, Commentf("%v: %v", trial, pause))
		}
	}
}
