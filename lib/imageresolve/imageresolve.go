// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package imageresolve is an HTTP layer for sites whose API server looks for
// images by links. It stands between clients and controller; where a container
// request names its image, it finds the image by the properties of collections,
// with the client's own token, and writes the portable data hash in place of
// the name. Package dockerimage decides what a name means.
//
// It never refuses a request, and changes nothing but that name: what cannot be
// resolved is passed on as it is, and the API server answers as before. It
// keeps nothing, neither records nor tokens, and no body on disk.
package imageresolve

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/sirupsen/logrus"
)

// Connections to controller, which is near.
const (
	dialTimeout = 10 * time.Second
	idleTimeout = time.Minute // shorter than any server's
	idleConns   = 256         // as many as clients that wait at a time
)

// Config is what a Handler needs to know.
type Config struct {
	Controller *url.URL           // where requests go; scheme and host count
	TLS        *tls.Config        // for it; nil for the system's certificates
	Policy     dockerimage.Policy // what a name means
	Log        logrus.FieldLogger // gets names, UUIDs and hashes, never a token
}

// Handler passes requests on to controller. It is safe for concurrent use.
type Handler struct {
	cfg       Config
	proxy     *httputil.ReverseProxy
	transport *http.Transport
}

// New makes a Handler. It asks nothing of controller yet.
func New(cfg Config) *Handler {
	var protocols http.Protocols
	protocols.SetHTTP1(true) // HTTP/2 knows no upgrade to websockets or ssh
	h := &Handler{cfg: cfg, transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:     cfg.TLS,
		Protocols:           &protocols,
		MaxIdleConnsPerHost: idleConns,
		IdleConnTimeout:     idleTimeout,
		DisableCompression:  true, // what a client has not asked for
	}}
	h.proxy = &httputil.ReverseProxy{
		Rewrite:       h.rewrite,
		Transport:     h.transport,
		FlushInterval: -1, // each piece of an answer as it comes: logs are followed live
		ErrorHandler:  h.unreachable,
		ErrorLog:      log.New(io.Discard, "", 0), // clients that hang up
	}
	return h
}

// ServeHTTP resolves the name of an image in a request, and passes it on.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Else an answer that begins before the request has ended waits for it, and
	// both sides for each other. Where there is no such wait, this is an error.
	_ = http.NewResponseController(w).EnableFullDuplex()
	h.proxy.ServeHTTP(w, h.resolved(r))
}

// Close closes connections that nobody uses.
func (h *Handler) Close() { h.transport.CloseIdleConnections() }

// rewrite undoes what the proxy takes out by itself: nothing is the layer's
// business but its target.
func (h *Handler) rewrite(p *httputil.ProxyRequest) {
	p.SetURL(&url.URL{Scheme: h.cfg.Controller.Scheme, Host: h.cfg.Controller.Host})
	p.Out.Host = p.In.Host
	p.Out.URL.RawQuery = p.In.URL.RawQuery
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values, ok := p.In.Header[name]; ok {
			p.Out.Header[name] = values
		}
	}
}

// unreachable is the answer when controller gives none.
func (h *Handler) unreachable(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		h.cfg.Log.Warnf("%s %s: controller at %s: %v", r.Method, r.URL.Path, h.cfg.Controller.Host, err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadGateway)
	json.NewEncoder(w).Encode(map[string][]string{"errors": {"the API server cannot be reached; try again"}})
}

// client asks controller as the user of a token. It tries once: a request that
// cannot be resolved is passed on at once.
func (h *Handler) client(token, requestID string) *arvados.Client {
	c := &arvados.Client{
		Client:    &http.Client{Transport: h.transport},
		Scheme:    h.cfg.Controller.Scheme,
		APIHost:   h.cfg.Controller.Host,
		AuthToken: token,
	}
	return c.WithRequestID(requestID)
}
