// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"time"

	. "gopkg.in/check.v1"
)

// answer is what a fake API server says to one request.
type answer struct {
	status int // 0 breaks the connection, hang says nothing
	body   string
	header map[string]string
}

const hang = -1

// seen is a request as the fake has got it.
type seen struct {
	method, path string
	query, form  url.Values
	header       http.Header
	body         string
}

// fakeAPI is an API server that follows a script; its last answer holds for
// all further requests.
type fakeAPI struct {
	*httptest.Server
	mutex  sync.Mutex
	script []answer
	seen   []seen
}

func newFakeAPI(script ...answer) *fakeAPI {
	fake := newStoppedFakeAPI(script...)
	fake.Start()
	return fake
}

// newStoppedFakeAPI can be configured before it is started.
func newStoppedFakeAPI(script ...answer) *fakeAPI {
	fake := &fakeAPI{script: script}
	fake.Server = httptest.NewUnstartedServer(fake)
	return fake
}

func (fake *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	form, _ := url.ParseQuery(string(body))
	fake.mutex.Lock()
	say := fake.script[min(len(fake.seen), len(fake.script)-1)]
	fake.seen = append(fake.seen, seen{r.Method, r.URL.Path, r.URL.Query(), form, r.Header, string(body)})
	fake.mutex.Unlock()
	switch say.status {
	case 0:
		panic(http.ErrAbortHandler)
	case hang:
		<-r.Context().Done() // the client has given up
		return
	}
	for name, value := range say.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(say.status)
	io.WriteString(w, say.body)
}

func (fake *fakeAPI) requests() []seen {
	fake.mutex.Lock()
	defer fake.mutex.Unlock()
	return fake.seen
}

// client has pauses of a few milliseconds between attempts.
func (fake *fakeAPI) client() *Client {
	return &Client{
		Client:    fake.Server.Client(),
		Scheme:    "http",
		APIHost:   strings.TrimPrefix(fake.URL, "http://"),
		AuthToken: "v2/token",
		Timeout:   time.Minute,
	}
}

// hurried makes the pauses between attempts short, without shortening the
// time for the attempts.
func hurried(client *Client) *Client {
	client.longestPause = time.Millisecond
	return client
}

type ok map[string]interface{}

func (s *ClientSuite) call(c *C, fake *fakeAPI, method string, body io.Reader, params interface{}) seen {
	var dst ok
	err := fake.client().RequestAndDecode(&dst, method, "arvados/v1/things", body, params)
	c.Assert(err, IsNil)
	c.Check(dst, DeepEquals, ok{"a": "b"})
	return fake.requests()[len(fake.requests())-1]
}
