// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imageref"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// session is access to one repository. Its RoundTrip adds the authorization to
// requests for the registry's own host, and to no others: what a registry
// redirects to gets none.
//
// go-containerregistry's own transport is not used for that: parallel requests
// would each ask for a new token when one has expired, and race for it.
type session struct {
	source    *Source
	ref       imageref.Ref
	registry  name.Registry
	api       string // address of the registry
	login     login
	challenge *transport.Challenge
	client    *http.Client

	mtx           sync.Mutex
	authorization string // header
	generation    int    // how many times it was renewed
}

// connect finds out how the registry wants to be talked to and, if it wants,
// gets a token.
func (s *Source) connect(ctx context.Context, ref imageref.Ref) (*session, error) {
	const op = "contact registry"
	if err := s.policy.admits(ref.Domain); err != nil {
		return nil, asFault(op, ref.Domain, err)
	}
	registry, err := name.NewRegistry(ref.Domain)
	if err != nil {
		return nil, &fault.Error{Op: op, Side: fault.Request, Subject: ref.Domain, Err: err}
	}
	ss := &session{source: s, ref: ref, registry: registry, api: address("https", registry.RegistryStr())}
	if ss.login, err = s.credentials.login(ref.Domain, ref.Path); err != nil {
		return nil, err
	}
	ss.client = &http.Client{Transport: ss}
	err = s.retry(ctx, "contacting "+ref.Domain, func(ctx context.Context) error {
		if ss.challenge, err = transport.Ping(ctx, registry, handshake{s.guard}); err != nil {
			return ss.converted(err)
		}
		return ss.renew(ctx, 0)
	})
	var refused *refusedError
	if errors.As(err, &refused) {
		at, _ := splitHost(refused.host)
		own, _ := splitHost(ss.api)
		refused.named = at == own
	}
	return ss, ss.fail(op, ref.Domain, err)
}

// handshake is the guard without go-containerregistry's race between HTTPS and
// HTTP, which it runs for every private address: the guard itself goes over to
// HTTP, if that is admitted, and the race would hide why HTTPS has failed.
type handshake struct{ *guard }

func (h handshake) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "http" && req.Response == nil {
		return nil, errors.New("no race")
	}
	return h.guard.RoundTrip(req)
}

// renew makes the authorization anew, unless somebody has done that since it
// was at the given generation.
func (ss *session) renew(ctx context.Context, generation int) error {
	ss.mtx.Lock()
	defer ss.mtx.Unlock()
	if ss.generation != generation {
		return nil
	}
	switch {
	case ss.login.registryToken != "":
		ss.authorization = "Bearer " + ss.login.registryToken
	case ss.bearer():
		var auth authn.Authenticator = authn.Anonymous
		if !ss.login.empty() {
			auth = authn.FromConfig(authn.AuthConfig{Username: ss.login.username, Password: ss.login.password, IdentityToken: ss.login.identityToken})
		}
		token, err := transport.Exchange(ctx, ss.registry, auth, ss.source.guard, []string{"repository:" + ss.ref.Path + ":pull"}, ss.challenge)
		if err != nil {
			return ss.converted(err)
		}
		ss.authorization = "Bearer " + token.AccessToken
		if token.AccessToken == "" {
			ss.authorization = "Bearer " + token.Token
		}
	case ss.login.username != "":
		var req http.Request
		req.Header = http.Header{}
		req.SetBasicAuth(ss.login.username, ss.login.password)
		ss.authorization = req.Header.Get("Authorization")
	}
	ss.generation++
	return nil
}

func (ss *session) bearer() bool { return strings.EqualFold(ss.challenge.Scheme, "bearer") }

// converted turns the errors of go-containerregistry that hold whole responses
// into our own.
func (ss *session) converted(err error) error {
	var answer *transport.Error
	if !errors.As(err, &answer) || answer.Request == nil {
		return err
	}
	e := &statusError{code: answer.StatusCode, host: answer.Request.URL.Host}
	if len(answer.Errors) > 0 {
		e.errorCode = answer.Errors[0].Code
		e.message = ss.source.guard.hide.Replace(oneLine(string(e.errorCode) + ": " + answer.Errors[0].Message))
	}
	return e
}

// RoundTrip sends a request with authorization if it is for the registry, and
// once more if the token has expired meanwhile.
func (ss *session) RoundTrip(req *http.Request) (*http.Response, error) {
	if address("https", req.URL.Host) != ss.api {
		return ss.source.guard.RoundTrip(req)
	}
	resp, generation, err := ss.send(req)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !ss.bearer() || ss.login.registryToken != "" {
		return resp, err
	}
	ss.source.guard.refusal(resp) // closes it
	if err := ss.renew(req.Context(), generation); err != nil {
		return nil, err
	}
	resp, _, err = ss.send(req)
	return resp, err
}

func (ss *session) send(req *http.Request) (resp *http.Response, generation int, err error) {
	ss.mtx.Lock()
	authorization, generation := ss.authorization, ss.generation
	ss.mtx.Unlock()
	req = req.Clone(req.Context())
	// Registries behind a TLS proxy are known to redirect to themselves
	// without it. The guard goes over to HTTP where that is right.
	req.URL.Scheme = "https"
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err = ss.source.guard.RoundTrip(req)
	return resp, generation, err
}

// get fetches something of the repository; path is "blobs/sha256:…" or the
// like. Any status but 200 and 206 is a *statusError.
func (ss *session) get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	return ss.request(ctx, http.MethodGet, path, header)
}

func (ss *session) request(ctx context.Context, method, path string, header http.Header) (*http.Response, error) {
	url := fmt.Sprintf("https://%s/v2/%s/%s", ss.registry.RegistryStr(), ss.ref.Path, path)
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	for key, values := range header {
		req.Header[key] = values
	}
	resp, err := ss.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		return nil, ss.source.guard.refusal(resp)
	}
	return resp, nil
}

// fail makes the error that callers get, and says what to do about missing and
// wrong credentials. nil stays nil.
func (ss *session) fail(op, subject string, err error) error {
	var status *statusError
	if !errors.As(err, &status) || !status.unauthorized() {
		return asFault(op, subject, err)
	}
	f := &fault.Error{Op: op, Side: fault.Registry, Subject: subject}
	key, keys := keyFor(ss.ref.Domain), ss.source.credentials.keys()
	text := describe(err)
	switch {
	case !ss.login.empty():
		text = fmt.Sprintf("%s refuses the credentials for %q, or they give no access to %s (%s)", ss.ref.Domain, key, ss.ref.Path, text)
		f.Hint = fmt.Sprintf("check the name of the image, and the entry for %q under \"auths\" in secret_mounts %s", key, CredentialsPath)
	case len(keys) > 0:
		text = fmt.Sprintf("%s wants credentials for %s, but there are none for it among those for %s (%s)", ss.ref.Domain, ss.ref.Path, strings.Join(keys, ", "), text)
		f.Hint = fmt.Sprintf("check the name of the image, or add an entry for %q under \"auths\" in secret_mounts %s", key, CredentialsPath)
	default:
		text = fmt.Sprintf("%s wants credentials for %s, and there are none (%s)", ss.ref.Domain, ss.ref.Path, text)
		f.Hint = fmt.Sprintf("check the name of the image, or put a docker config.json with an entry for %q under \"auths\" in secret_mounts %s", key, CredentialsPath)
	}
	f.Err = &cause{text: text, err: errors.Join(ErrUnauthorized, err)}
	return f
}
