// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imageref"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/client"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errCut is the end of a stream of messages that must not be its end: an engine
// that dies in the middle closes the connection and says nothing.
var errCut = errors.New("the Docker Engine closed the connection before it was done")

// ErrUnreachable is in the chain of errors of a node's engine that cannot be
// connected to at all, so that no container can run by it either.
var ErrUnreachable = errors.New("the Docker Engine cannot be reached")

// unreachable is an error that is ErrUnreachable and says why.
type unreachable struct{ error }

func (u unreachable) Is(target error) bool { return target == ErrUnreachable }
func (u unreachable) Unwrap() error        { return u.error }

// fault is a failed request as an *fault.Error. The subject may be empty. An
// engine that cannot be asked is transient trouble: another node's may answer.
func (e *Engine) fault(op, subject string, err error) *fault.Error {
	f := &fault.Error{Op: op, Side: fault.Engine, Subject: subject, Err: err}
	if subject == "" {
		f.Subject = e.cli.DaemonHost()
	}
	switch text := err.Error(); {
	case isCancel(err), e.second && isUnconnected(err):
		f.Transient = true
	case isUnconnected(err) && strings.Contains(text, "permission denied"):
		f.Transient = true
		f.Hint = "the user that runs containers must be allowed to use the Docker Engine of the node"
	case isUnconnected(err):
		f.Transient = true
		f.Err = unreachable{err}
		f.Hint = "is the Docker Engine of the node running, and is the site's engine.host right?"
	case strings.Contains(text, "empty export"): // of an image without layers, by engines with a graph driver
		f.Side = fault.Request
		f.Hint = "the image has no files: its recipe needs a COPY, an ADD or a RUN"
	case strings.Contains(text, "no space left on device"):
		f.Transient = true
		f.Hint = "the disk of the Docker Engine is full"
	case errors.Is(err, errCut), errors.Is(err, io.ErrUnexpectedEOF), cerrdefs.IsInternal(err), cerrdefs.IsUnavailable(err), status.Code(err) == codes.Unavailable:
		f.Transient = true
	}
	return f
}

// pullRule gives meaning to a text in an engine's message about a pull.
type pullRule struct {
	texts     []string // any of them, lower case
	side      fault.Side
	transient bool
	hint      string
}

// pullRules are tried in order. Engines answer nearly everything with status
// 500 or within the stream, so the text decides; those quoted here were
// observed with engines of both image stores.
var pullRules = []pullRule{
	{texts: []string{"no space left on device"}, side: fault.Engine, transient: true,
		hint: "the disk of the Docker Engine is full"},
	{texts: []string{"permission denied"}, side: fault.Engine, transient: true},
	{texts: []string{"no matching manifest for", "does not provide the specified platform", "does not match the specified platform"},
		side: fault.Request, hint: hintPlatform},
	{texts: []string{"toomanyrequests", "too many requests", "rate limit"}, side: fault.Registry, transient: true,
		hint: "the registry limits how much may be pulled; it allows more with credentials"},
	{texts: []string{"server gave http response to https client"}, side: fault.Registry,
		hint: "the registry speaks plain HTTP: list it among the engine's insecure-registries"},
	{texts: []string{"x509:", "tls: failed to verify"}, side: fault.Registry,
		hint: "the Docker Engine does not trust the registry's certificate"},
	{texts: []string{"unauthorized", "authentication required", "no basic auth credentials", "authorization failed",
		"incorrect username or password", "denied", "403 forbidden"},
		side: fault.Registry, hint: hintAuth},
	{texts: []string{"filesystem layer verification failed", "unexpected commit digest", "failed precondition",
		"unknown blob", "blob unknown", "could not fetch content descriptor"}, side: fault.Registry,
		hint: "the image in the registry is damaged or incomplete: push it again"},
	{texts: []string{"short read", "unexpected eof"}, side: fault.Registry, transient: true,
		hint: "a layer from the registry was cut short"},
	{texts: []string{"manifest unknown", "name unknown", "repository name not known"}, side: fault.Registry,
		hint: hintMissing},
	{texts: []string{"unsupported media type", "schema 1", "schemaversion", "unsupported manifest", "invalid reference format"},
		side: fault.Request, hint: "the name does not mean a container image that this engine can pull"},
	{texts: []string{"internal server error", "bad gateway", "service unavailable", "gateway timeout", "http status: 5"},
		side: fault.Registry, transient: true, hint: "the registry is in trouble; the same pull may work later"},
	{texts: []string{"dial tcp", "lookup ", "i/o timeout", "tls handshake timeout", "connection refused", "connection reset",
		"client.timeout", "deadline exceeded", "failed to do request", ": eof"},
		side: fault.Registry, transient: true,
		hint: "the Docker Engine cannot reach the registry; is its name right?"},
}

const (
	hintPlatform = "ask for a platform that the image has, with --platform"
	hintAuth     = "does the image exist, and do the credentials in the secret mount /root/.docker/config.json give access to it?"
	hintMissing  = "no such image or tag in this registry: check the name"
)

// pullFault is a failed pull as an *fault.Error. Only what is no name decides:
// an image may be called unauthorized.
func (e *Engine) pullFault(ref imageref.Ref, auth auth, err error) *fault.Error {
	if isCancel(err) || isUnconnected(err) || errors.Is(err, errCut) {
		return e.fault("pull", ref.Familiar(), err)
	}
	f := &fault.Error{Op: "pull", Side: fault.Engine, Subject: ref.Familiar(), Err: auth.scrub(err), Transient: true}
	text := withoutNames(err.Error(), ref)
	for _, rule := range pullRules {
		for _, t := range rule.texts {
			if strings.Contains(text, t) {
				f.Side, f.Transient, f.Hint = rule.side, rule.transient, rule.hint
				return f
			}
		}
	}
	switch {
	case cerrdefs.IsNotFound(err) || strings.HasSuffix(text, "not found"):
		f.Side, f.Transient, f.Hint = fault.Registry, false, hintMissing
	case cerrdefs.IsInvalidArgument(err):
		f.Side, f.Transient = fault.Request, false
	}
	return f
}

// withoutNames is text in lower case without the words that are paths, URLs or
// the image's name. A colon after such a word stays.
func withoutNames(text string, ref imageref.Ref) string {
	familiar := ref.Familiar()
	repository := strings.TrimSuffix(familiar, ":"+ref.Tag)
	words := strings.Fields(strings.ToLower(text))
	for i, word := range words {
		bare := strings.Trim(word, `"'(),:;`)
		if strings.Contains(bare, "/") || bare == familiar || bare == repository {
			words[i] = ""
			if strings.HasSuffix(word, ":") {
				words[i] = ":"
			}
		}
	}
	return strings.Join(words, " ")
}

func isCancel(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// isUnconnected reports whether nobody took the connection. The client marks that
// in answers to requests, but not when it attaches.
func isUnconnected(err error) bool {
	var op *net.OpError
	return client.IsErrConnectionFailed(err) || errors.As(err, &op) && op.Op == "dial"
}
