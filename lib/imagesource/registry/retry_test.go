// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"gopkg.in/check.v1"
)

type retrySuite struct{}

var _ = check.Suite(&retrySuite{})

func (*retrySuite) TestWhatPasses(c *check.C) {
	for _, t := range []struct {
		err    error
		passes bool
	}{
		{io.EOF, true},
		{fmt.Errorf("x: %w", io.ErrUnexpectedEOF), true},
		{syscall.ECONNRESET, true},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, true},
		{&net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, true},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: handshake failure")}, false},
		{&net.OpError{Op: "dial", Err: &refusedError{}}, false},
		{&net.DNSError{IsNotFound: true}, false},
		{&net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}, false},
		{&net.DNSError{IsTimeout: true}, true},
		{&net.DNSError{IsTemporary: true}, true},
		{context.DeadlineExceeded, true},
		{context.Canceled, false},
		{x509.UnknownAuthorityError{}, false},
		{http.ErrSchemeMismatch, false},
		{errStalled, true},
		{errors.New("anything else"), false},
		{&statusError{code: 500}, true},
		{&statusError{code: 501}, false},
		{&statusError{code: 404}, false},
		{&statusError{code: 403}, false},
		{&statusError{code: 403, elsewhere: true}, true},
		{&statusError{code: 401, elsewhere: true}, true},
		{&exhaustedError{err: &statusError{code: 503}}, true},
	} {
		c.Check(passing(t.err), check.Equals, t.passes, check.Commentf("%v", t.err))
	}
}

func (*retrySuite) TestDelays(c *check.C) {
	for _, t := range []struct {
		random float64
		err    error
		delays []time.Duration
	}{
		{0.5, io.EOF, []time.Duration{time.Second, 3 * time.Second, 9 * time.Second, 27 * time.Second, 30 * time.Second}},
		{0, io.EOF, []time.Duration{800 * time.Millisecond, 2400 * time.Millisecond}},
		{1, io.EOF, []time.Duration{1200 * time.Millisecond, 3600 * time.Millisecond}},
		{0.5, &statusError{code: 503, retryAfter: 2 * time.Second}, []time.Duration{2 * time.Second, 3 * time.Second}},
		{0.5, &statusError{code: 503, retryAfter: time.Hour}, []time.Duration{2 * time.Minute}},
	} {
		source, err := New(Options{})
		c.Assert(err, check.IsNil)
		source.random = func() float64 { return t.random }
		var slept []time.Duration
		source.sleep = func(_ context.Context, d time.Duration) error {
			slept = append(slept, d)
			return nil
		}
		b := backoff{source: source, tries: len(t.delays) + 1}
		for range t.delays {
			c.Check(b.wait(context.Background(), t.err, "testing"), check.IsNil)
		}
		err = b.wait(context.Background(), t.err, "testing")
		c.Check(err, check.ErrorMatches, fmt.Sprintf(`.*, %d times in a row`, len(t.delays)+1))
		c.Check(errors.Is(err, t.err), check.Equals, true)
		c.Check(slept, check.DeepEquals, t.delays)
	}
}

func (*retrySuite) TestSleepEndsWithItsContext(c *check.C) {
	ctx, cancel := context.WithCancel(context.Background())
	c.Check(sleep(ctx, 0), check.IsNil)
	cancel()
	c.Check(sleep(ctx, time.Hour), check.Equals, context.Canceled)
}

func (*retrySuite) TestRetryAfter(c *check.C) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                               0,
		"0":                              0,
		" 120 ":                          2 * time.Minute,
		"-1":                             0,
		"1.5":                            0,
		"99999999999":                    0,
		"soon":                           0,
		"Fri, 02 Jan 2026 03:05:05 GMT":  time.Minute,
		"Friday, 02-Jan-26 03:05:05 GMT": time.Minute, // obsolete, but must be read
		"Fri Jan  2 03:05:05 2026":       time.Minute,
		"Fri, 02 Jan 2026 03:03:05 GMT":  0,
	} {
		c.Check(parseRetryAfter(value, now), check.Equals, want, check.Commentf("%q", value))
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "0", "17", "-3", "99999999999999999999", "Fri, 02 Jan 2026 03:05:05 GMT", "Fri Jan  2 03:05:05 2026"} {
		f.Add(seed)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.Fuzz(func(t *testing.T, value string) {
		if got := parseRetryAfter(value, now); got < 0 {
			t.Errorf("%q: %s", value, got)
		}
	})
}
