// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// ErrUnauthorized is in the chain of errors that say that the registry wants
// credentials, or others than it was given.
var ErrUnauthorized = errors.New("the registry refuses access")

// statusError is a response that is not what was asked for.
type statusError struct {
	code       int
	host       string // that answered, as it stood in the URL
	elsewhere  bool   // it is a proxy, or a redirect led there from the registry
	retryAfter time.Duration
	message    string // of the registry, one short line
	errorCode  transport.ErrorCode
}

func (e *statusError) Error() string {
	text := strings.TrimSpace(fmt.Sprintf("%s answers %d %s", e.host, e.code, http.StatusText(e.code)))
	if e.message != "" {
		text += ": " + e.message
	}
	return text
}

func (e *statusError) unauthorized() bool {
	return (e.code == http.StatusUnauthorized || e.code == http.StatusForbidden) && !e.elsewhere
}

// passing: what a registry redirects to has a URL that is valid for some time
// only, so a refusal there may end with a new redirect.
func (e *statusError) passing() bool {
	return retryStatus[e.code] || e.elsewhere && (e.code == http.StatusUnauthorized || e.code == http.StatusForbidden)
}

// refusal makes an error of a response and closes it.
func (g *guard) refusal(resp *http.Response) *statusError {
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // the status is the error
	first := resp.Request
	for first.Response != nil { // the redirect that led here
		first = first.Response.Request
	}
	// The format of the distribution specification.
	var said struct{ Errors []transport.Diagnostic }
	e := &statusError{
		code:       resp.StatusCode,
		host:       resp.Request.URL.Host,
		elsewhere:  first.URL.Host != resp.Request.URL.Host,
		retryAfter: parseRetryAfter(resp.Header.Get("Retry-After"), time.Now()),
	}
	if json.Unmarshal(body, &said) == nil && len(said.Errors) > 0 {
		e.errorCode = said.Errors[0].Code
		e.message = g.hide.Replace(oneLine(string(e.errorCode) + ": " + said.Errors[0].Message))
	}
	return e
}

// exhaustedError is the last of several failures in a row.
type exhaustedError struct {
	tries int
	err   error
}

func (e *exhaustedError) Error() string {
	return fmt.Sprintf("%s, %d times in a row", describe(e.err), e.tries)
}

func (e *exhaustedError) Unwrap() error { return e.err }

// describe is the text of err without URLs, whose queries may be signatures,
// and without the bodies of responses.
func describe(err error) string {
	var (
		exhausted *exhaustedError
		worded    *cause
		status    *statusError
		refused   *refusedError
		content   *imagetar.ContentError
		failed    *url.Error
	)
	switch {
	case errors.As(err, &exhausted):
		return exhausted.Error()
	case errors.As(err, &worded):
		return worded.text
	case errors.As(err, &status):
		return status.Error()
	case errors.As(err, &refused):
		return refused.Error()
	case errors.As(err, &content):
		return "its bytes are not those of its digest: " + content.Problem
	case errors.As(err, &failed):
		return describe(failed.Err)
	}
	return oneLine(err.Error())
}

func oneLine(text string) string {
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	if runes := []rune(text); len(runes) > 300 {
		text = string(runes[:300]) + "…"
	}
	return strings.TrimRight(text, " :\r")
}

// asFault makes the error that callers get; nil stays nil.
func asFault(op, subject string, err error) error {
	var done *fault.Error
	if err == nil || errors.As(err, &done) {
		return err
	}
	f := &fault.Error{Op: op, Side: fault.Registry, Subject: subject, Err: &cause{text: describe(err), err: err}, Transient: passing(err)}
	var (
		status      *statusError
		refused     *refusedError
		dns         *net.DNSError
		dial        *net.OpError
		certificate *tls.CertificateVerificationError
		content     *imagetar.ContentError
	)
	switch {
	case errors.Is(err, context.Canceled):
		f.Transient = true
	case errors.As(err, &refused):
		f.Hint = refused.hint
		if refused.named {
			f.Side = fault.Request
		}
	case errors.As(err, &status) && status.code == http.StatusTooManyRequests:
		f.Hint = "the registry limits how much one may pull: wait, or give the credentials of an account with a higher limit in secret_mounts " + CredentialsPath
	case errors.As(err, &certificate):
		f.Hint = "ask the administrator to make the nodes trust the authority that signed the registry's certificate"
	case withoutTLS(err):
		f.Hint = "the registry has no TLS: ask the administrator to list it with http:// under pull.registries in the site file"
	case errors.As(err, &dns):
		f.Hint = "check the registry's host name"
	case errors.As(err, &dial) && dial.Op == "dial":
		f.Hint = "check the registry's host name and port, and that the compute nodes can reach it"
	case errors.As(err, &content):
		f.Hint = "the registry or something on the way damages the image: push it again, or name another one"
	}
	return f
}

// cause has a text that is fit for users and the chain of what it came from.
type cause struct {
	text string
	err  error
}

func (c *cause) Error() string { return c.text }

func (c *cause) Unwrap() error { return c.err }
