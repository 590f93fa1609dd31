// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"
)

// guard sends all requests of a Source: those for blobs as well as the
// handshake's, for tokens, and what redirects lead to. It holds them to the
// policy, and turns responses that ask for another try into errors, because
// that is the only way for their Retry-After to get through
// go-containerregistry.
type guard struct {
	policy  policy
	direct  *http.Transport
	proxied *http.Transport // dials proxies only
	proxy   func(*http.Request) (*url.URL, error)
	noTLS   sync.Map          // addresses found to speak plain HTTP
	hide    *strings.Replacer // takes credentials out of what a registry says
}

func newGuard(p policy, hide *strings.Replacer) *guard {
	g := &guard{policy: p, hide: hide, direct: newTransport(), proxied: newTransport(), proxy: http.ProxyFromEnvironment}
	g.direct.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialer := newDialer()
		// After DNS, for each address that is tried.
		dialer.Control = func(_, ip string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(ip)
			if err != nil {
				return err
			}
			return p.check(address("https", addr), to.Addr())
		}
		return dialer.DialContext(ctx, network, addr)
	}
	g.proxied.DialContext = newDialer().DialContext
	g.proxied.Proxy = func(req *http.Request) (*url.URL, error) { return g.proxy(req) }
	g.proxied.OnProxyConnectResponse = func(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
		if resp.StatusCode != http.StatusOK {
			return &statusError{code: resp.StatusCode, host: "the proxy " + proxy.Host, elsewhere: true}
		}
		return nil
	}
	return g
}

func newDialer() *net.Dialer {
	return &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
}

// newTransport: HTTP/1.1, so that every layer has a connection of its own
// rather than a share of one flow-controlled one; and no compression on the
// way, since the bytes must be those of the digest.
func newTransport() *http.Transport {
	return &http.Transport{
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		TLSNextProto:          map[string]func(string, *tls.Conn) http.RoundTripper{},
		DisableCompression:    true,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       30 * time.Second,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: time.Minute,
		ReadBufferSize:        64 << 10,
	}
}

// RoundTrip sends req over HTTPS, or over HTTP where that is admitted and the
// other side speaks nothing else.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("User-Agent", "arvados-builtin")
	to := address(req.URL.Scheme, req.URL.Host)
	plain := g.policy.plain(to)
	switch req.URL.Scheme {
	case "https":
		if _, known := g.noTLS.Load(to); known {
			req.URL.Scheme = "http"
		}
	case "http":
		if !plain {
			return nil, &refusedError{host: to, reason: "the connection would be without TLS",
				hint: "ask the administrator to list http://" + req.URL.Host + " under pull.registries in the site file, if that is what you want"}
		}
	default:
		return nil, &refusedError{host: to, reason: "the registry sends us to a URL that starts with " + req.URL.Scheme + ":", hint: "report this to who runs the registry"}
	}
	resp, err := g.send(req)
	var dial *net.OpError
	if err != nil && req.URL.Scheme == "https" && plain && (withoutTLS(err) || errors.As(err, &dial) && dial.Op == "dial") {
		retry := req.Clone(req.Context())
		retry.URL.Scheme = "http"
		if req.GetBody != nil {
			if retry.Body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
		if resp, err = g.send(retry); err == nil {
			g.noTLS.Store(to, true)
		}
	}
	if err == nil && retryStatus[resp.StatusCode] {
		return nil, g.refusal(resp)
	}
	return resp, err
}

func (g *guard) send(req *http.Request) (*http.Response, error) {
	proxy, err := g.proxy(req)
	if err != nil {
		return nil, err
	}
	if proxy == nil {
		return g.direct.RoundTrip(req)
	}
	// The proxy resolves the name; what it will find can only be guessed.
	if err := g.policy.resolve(req.Context(), address(req.URL.Scheme, req.URL.Host)); err != nil {
		return nil, err
	}
	return g.proxied.RoundTrip(req)
}

// withoutTLS recognises the answer of a server that speaks plain HTTP, before
// and after http.Client has had a hand in it.
func withoutTLS(err error) bool {
	var record tls.RecordHeaderError
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/"
}

// HTTPClient is for other servers that a request names. It connects to public
// addresses, and to others if Options.Registries list them. Its refusals are
// *fault.Error of side Request.
func (s *Source) HTTPClient() *http.Client {
	return &http.Client{Transport: guarded{s.guard}}
}

type guarded struct{ *guard }

func (g guarded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := g.guard.RoundTrip(req)
	var refused *refusedError
	if errors.As(err, &refused) {
		refused.named = true
		return nil, asFault("connect to", req.URL.Host, err)
	}
	return resp, err
}
