// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	. "gopkg.in/check.v1"
)

// countConnections makes a fake count the connections that are made to it.
func countConnections(fake *fakeAPI) *atomic.Int32 {
	count := new(atomic.Int32)
	fake.Server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			count.Add(1)
		}
	}
	return count
}

// Answers that are not wanted are read to their end, for else each attempt
// would need a connection, and a handshake, of its own.
func (s *ClientSuite) TestAttemptsShareAConnection(c *C) {
	fake := newStoppedFakeAPI(answer{503, strings.Repeat("busy ", 10000), nil}, answer{429, "", nil}, answer{200, `{}`, nil})
	count := countConnections(fake)
	fake.Start()
	defer fake.Close()
	for range 3 {
		c.Check(hurried(fake.client()).RequestAndDecode(nil, "POST", "x", nil, nil), IsNil)
	}
	c.Check(count.Load(), Equals, int32(1))
}

func (s *ClientSuite) TestManyAtOnceOverFewConnections(c *C) {
	const workers, rounds = 8, 20
	fake := newStoppedFakeAPI(answer{200, `{"a":"b"}`, nil})
	count := countConnections(fake)
	fake.Start()
	defer fake.Close()
	client := fake.client()
	client.Client = nil // the shared default
	var group errgroup.Group
	for range workers {
		group.Go(func() error {
			for range rounds {
				var dst ok
				if err := client.RequestAndDecode(&dst, "GET", "x", nil, nil); err != nil {
					return err
				}
				if dst["a"] != "b" {
					return errors.New("wrong answer")
				}
			}
			return nil
		})
	}
	c.Check(group.Wait(), IsNil)
	c.Check(len(fake.requests()), Equals, workers*rounds)
	// The transport may dial while another connection becomes free.
	c.Check(int(count.Load()) <= 2*workers, Equals, true, Commentf("%d connections", count.Load()))
}

// The time for a request includes reading its answer, and ends when the answer
// is closed.
func (s *ClientSuite) TestTheContextLivesAsLongAsTheAnswer(c *C) {
	req, err := http.NewRequest("GET", s.fake.URL, nil)
	c.Assert(err, IsNil)
	client := s.fake.client()
	watch := &contextKeeper{RoundTripper: client.Client.Transport}
	client.Client = &http.Client{Transport: watch}
	resp, err := client.Do(req)
	c.Assert(err, IsNil)
	c.Check(watch.ctx.Err(), IsNil)
	body, err := io.ReadAll(resp.Body)
	c.Check(err, IsNil)
	c.Check(string(body), Equals, `{"a":"b"}`)
	c.Check(watch.ctx.Err(), IsNil)
	c.Check(resp.Body.Close(), IsNil)
	c.Check(watch.ctx.Err(), Equals, context.Canceled)
	deadline, has := watch.ctx.Deadline()
	c.Check(has, Equals, true)
	c.Check(time.Until(deadline) > 0, Equals, true)
}

// contextKeeper remembers the context of the last request.
type contextKeeper struct {
	http.RoundTripper
	ctx context.Context
}

func (k *contextKeeper) RoundTrip(req *http.Request) (*http.Response, error) {
	k.ctx = req.Context()
	return k.RoundTripper.RoundTrip(req)
}

func (s *ClientSuite) TestDefaultConnections(c *C) {
	for client, insecure := range map[*http.Client]bool{DefaultSecureClient: false, InsecureHTTPClient: true} {
		transport := client.Transport.(*http.Transport)
		c.Check(transport.MaxIdleConnsPerHost, Equals, idleConnsPerHost)
		c.Check(transport.Proxy, NotNil)
		c.Check(transport.TLSClientConfig != nil && transport.TLSClientConfig.InsecureSkipVerify, Equals, insecure)
	}
}

// A request that was cancelled before it was sent is not sent.
func (s *ClientSuite) TestCancelledBefore(c *C) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := s.fake.client().RequestAndDecodeContext(ctx, nil, "GET", "x", nil, nil)
	c.Check(errors.Is(err, context.Canceled), Equals, true)
	c.Check(s.fake.requests(), HasLen, 0)
}

func (s *ClientSuite) TestCancelledWhileWaiting(c *C) {
	fake := newFakeAPI(answer{status: hang})
	defer fake.Close()
	ctx, cancel := context.WithCancel(context.Background())
	client := fake.client()
	client.Client = &http.Client{Transport: cancelling{client.Client.Transport, cancel}}
	err := client.RequestAndDecodeContext(ctx, nil, "POST", "x", nil, nil)
	c.Check(errors.Is(err, context.Canceled), Equals, true)
}

// cancelling cancels while a request is on its way.
type cancelling struct {
	http.RoundTripper
	cancel func()
}

func (t cancelling) RoundTrip(req *http.Request) (*http.Response, error) {
	go t.cancel()
	return t.RoundTripper.RoundTrip(req)
}
