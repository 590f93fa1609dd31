// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// A request is sent this many times at most beyond the first.
const maxRetries = 32

// Do sends req with the token and an X-Request-Id. Within c.Timeout it is
// sent again after lost connections and answers of 429 and 5xx, except 501,
// with growing pauses or as long as Retry-After says. Other answers, and the
// last of these, are returned for the caller to judge. req is not changed.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	ctx, cancel := req.Context(), context.CancelFunc(func() {})
	if c.Timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, c.Timeout)
	}
	resp, err := c.doUntil(ctx, req)
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = bodyWithCancel{resp.Body, cancel}
	return resp, nil
}

// bodyWithCancel keeps the request's context alive until the answer is read.
type bodyWithCancel struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b bodyWithCancel) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

func (c *Client) doUntil(ctx context.Context, req *http.Request) (*http.Response, error) {
	client := c.Client
	if client == nil {
		client = DefaultSecureClient
		if c.Insecure {
			client = InsecureHTTPClient
		}
	}
	first, err := c.prepare(ctx, req)
	if err != nil {
		return nil, err
	}
	// What to report when the time is over: it says more than "deadline
	// exceeded". The answer has its body in memory.
	var refused *http.Response
	var failed error
	for attempt := 0; ; attempt++ {
		again := first.Clone(ctx)
		if first.GetBody != nil {
			if again.Body, err = first.GetBody(); err != nil {
				return nil, err
			}
		}
		resp, err := client.Do(again)
		if cause := req.Context().Err(); cause != nil && err != nil {
			return nil, err
		}
		if c.Timeout == 0 || attempt == maxRetries || !worthRetry(req, resp, err) {
			return resp, err
		}
		pause := c.pause(attempt, resp)
		if resp != nil {
			refused, failed = inMemory(resp)
		} else if ctx.Err() == nil || (refused == nil && failed == nil) {
			refused, failed = nil, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
			continue
		case <-ctx.Done():
			timer.Stop()
		}
		switch {
		case req.Context().Err() != nil:
			return nil, req.Context().Err()
		case refused != nil:
			return refused, nil
		}
		return nil, fmt.Errorf("%s %s: giving up after %d attempts: %w", req.Method, req.URL.Redacted(), attempt+1, failed)
	}
}

// prepare is req with the client's headers and a body that can be sent again.
func (c *Client) prepare(ctx context.Context, req *http.Request) (*http.Request, error) {
	prepared := req.Clone(ctx)
	if prepared.Header == nil {
		prepared.Header = http.Header{}
	}
	if value, ok := ctx.Value(authorizationKey{}).(string); ok && value != "" {
		prepared.Header.Set("Authorization", value)
	} else if c.AuthToken != "" && prepared.Header.Get("Authorization") == "" {
		prepared.Header.Set("Authorization", "Bearer "+c.AuthToken)
	}
	if prepared.Header.Get("X-Request-Id") == "" {
		id, _ := ctx.Value(requestIDKey{}).(string)
		if id == "" {
			id = c.requestID
		}
		if id == "" {
			id = "req-" + randomBase36(20)
		}
		prepared.Header.Set("X-Request-Id", id)
	}
	if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil && c.Timeout > 0 {
		body, err := io.ReadAll(req.Body)
		req.Body.Close()
		if err != nil {
			return nil, err
		}
		prepared.ContentLength = int64(len(body))
		prepared.GetBody = func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(body)), nil
		}
	}
	return prepared, nil
}

func worthRetry(req *http.Request, resp *http.Response, err error) bool {
	if err != nil {
		var badCertificate *tls.CertificateVerificationError
		reachable := req.URL.Scheme == "https" || req.URL.Scheme == "http"
		return reachable && !errors.As(err, &badCertificate)
	}
	return resp.StatusCode == http.StatusTooManyRequests ||
		(resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented)
}

// pause is how long to wait after attempt 0, 1, …: a second at first, up to
// twice as much each time, at random so that clients do not come back all at
// once; never more than a tenth of the timeout.
func (c *Client) pause(attempt int, resp *http.Response) time.Duration {
	longest := c.longestPause
	if longest == 0 {
		longest = c.Timeout / 10
	}
	shortest := min(time.Second, longest)
	if resp != nil {
		if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
			return min(max(time.Duration(seconds)*time.Second, shortest), longest)
		}
		if date, err := http.ParseTime(resp.Header.Get("Retry-After")); err == nil {
			return min(max(time.Until(date), shortest), longest)
		}
	}
	spread := float64(shortest) * float64(int64(1)<<min(attempt, 16)-1)
	return min(shortest+time.Duration(rand.Float64()*spread), longest)
}

// inMemory reads resp's body, so that its connection can be used again.
func inMemory(resp *http.Response) (*http.Response, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}
