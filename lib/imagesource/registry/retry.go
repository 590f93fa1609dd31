// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// metadataTries and blobTries bound the failures in a row: a small
	// request is not worth waiting for long, while a blob that breaks off
	// wastes what others have written by then.
	metadataTries = 3
	blobTries     = 5

	firstDelay    = time.Second
	delayFactor   = 3
	maxDelay      = 30 * time.Second
	maxRetryAfter = 2 * time.Minute
)

// retryStatus: what go-containerregistry retries, too. 499 is nginx's "client
// closed request", 522 Cloudflare's "connection timed out".
var retryStatus = map[int]bool{
	http.StatusRequestTimeout:      true,
	http.StatusTooManyRequests:     true,
	http.StatusInternalServerError: true,
	http.StatusBadGateway:          true,
	http.StatusServiceUnavailable:  true,
	http.StatusGatewayTimeout:      true,
	499:                            true,
	522:                            true,
}

// errStalled ends a transfer in which nothing arrives any more.
var errStalled = errors.New("the registry stopped sending")

// passing reports whether the same request may succeed later.
func passing(err error) bool {
	var (
		status  *statusError
		refused *refusedError
		dns     *net.DNSError
		op      *net.OpError
		timeout net.Error
	)
	switch {
	case errors.As(err, &status):
		return status.passing()
	case errors.As(err, &refused):
		return false
	case errors.As(err, &dns):
		return !dns.IsNotFound
	case errors.Is(err, errStalled), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return true
	case errors.As(err, &op) && (op.Op == "dial" || op.Op == "read" || op.Op == "write" || op.Op == "proxyconnect"):
		return true // and not, for example, a TLS alert
	}
	return errors.As(err, &timeout) && timeout.Timeout()
}

// backoff counts failures in a row and waits between them.
type backoff struct {
	source *Source
	tries  int
	failed int
}

// wait returns nil when it is time for another try, else the error to give up
// with. where tells the log what is being done.
func (b *backoff) wait(ctx context.Context, err error, where string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !passing(err) {
		return err
	}
	b.failed++
	if b.failed >= b.tries {
		return &exhaustedError{tries: b.failed, err: err}
	}
	delay := b.delay(err)
	b.source.log.Warnf("%s: %s; trying again in %s", where, describe(err), delay.Round(time.Millisecond))
	return b.source.sleep(ctx, delay)
}

// delay grows by delayFactor with every failure, give or take a fifth so that
// clients do not come back all at once, and is no shorter than the registry
// wishes.
func (b *backoff) delay(err error) time.Duration {
	delay := min(float64(maxDelay), float64(firstDelay)*math.Pow(delayFactor, float64(b.failed-1)))
	delay *= 0.8 + 0.4*b.source.random()
	var status *statusError
	if errors.As(err, &status) {
		return max(time.Duration(delay), min(status.retryAfter, maxRetryAfter))
	}
	return time.Duration(delay)
}

// retry does a small thing until it is done or there is no hope.
func (s *Source) retry(ctx context.Context, where string, do func(context.Context) error) error {
	b := backoff{source: s, tries: metadataTries}
	for {
		// An endless answer must not keep us for ever.
		limited, cancel := context.WithTimeout(ctx, 2*time.Minute)
		err := do(limited)
		cancel()
		if err == nil {
			return nil
		}
		if err := b.wait(ctx, err, where); err != nil {
			return err
		}
	}
}

// parseRetryAfter reads the header of RFC 9110, 10.2.3: seconds or a date. What
// is neither, or in the past, is 0.
func parseRetryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}
