// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

// Package arvados talks to an Arvados API server: its records as Go types,
// requests with retries, and the formats that the server and Keep share
// (signatures, portable data hashes).
//
// It is for programs that bring images into Keep, run containers, or stand in
// for the server. It holds the part of the Arvados Go SDK that they use, with
// the SDK's own names and signatures, so that they compile against either. It
// never stores blocks (package keepclient does), never writes a log, and
// never puts a token into an error.
package arvados

import (
	"crypto/tls"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// Client sends requests to one API server with one token. Copy its exported
// fields, not the struct, to make another; it is safe for concurrent use as
// long as nobody changes its fields.
type Client struct {
	// Client makes the connections. If nil, it is DefaultSecureClient or,
	// when Insecure, InsecureHTTPClient.
	Client *http.Client `json:"-"`
	// Scheme is "https", which "" stands for too, or "http".
	Scheme string
	// APIHost is "host" or "host:port".
	APIHost string
	// AuthToken goes into the Authorization header as a bearer token.
	AuthToken string
	// Insecure accepts any certificate. It says nothing about a non-nil
	// Client.
	Insecure bool
	// KeepServiceURIs are the base URLs of Keep services to use in place
	// of those that the API server lists.
	KeepServiceURIs []string `json:",omitempty"`
	// SendHeader is added to each request of RequestAndDecode.
	SendHeader http.Header
	// Timeout is the time for a request and its retries together. With 0
	// nothing is tried twice, and only the context limits the time.
	Timeout time.Duration
	// DiskCacheSize is handed on to the Keep client.
	DiskCacheSize ByteSizeOrPercent
	// Logger is handed on to the Keep client.
	Logger logrus.FieldLogger

	requestID string // "" for a new one each time
	fromEnv   bool   // for the error message when APIHost is missing
	discovery *discoveryCache

	longestPause time.Duration // between attempts, 0 for a tenth of Timeout
}

// Connections are kept for as many requests as one process makes at a time:
// containers are watched and blocks are located in parallel.
const idleConnsPerHost = 16

var (
	// DefaultSecureClient is used by a Client that has no http.Client of
	// its own.
	DefaultSecureClient = newHTTPClient(false)
	// InsecureHTTPClient is used instead when the Client is Insecure.
	InsecureHTTPClient = newHTTPClient(true)
)

func newHTTPClient(insecure bool) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = idleConnsPerHost
	if insecure {
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	}
	return &http.Client{Transport: transport}
}

// NewClientFromEnv makes a Client from ARVADOS_API_HOST, ARVADOS_API_TOKEN,
// ARVADOS_API_HOST_INSECURE ("1", "yes" or "true") and ARVADOS_KEEP_SERVICES
// (URLs separated by spaces). Variables that are not in the environment may be
// in $HOME/.config/arvados/settings.conf. It does not fail: a Client without
// a host says so at its first request.
func NewClientFromEnv() *Client {
	setting := environment()
	return &Client{
		Scheme:          "https",
		APIHost:         setting("ARVADOS_API_HOST"),
		AuthToken:       setting("ARVADOS_API_TOKEN"),
		Insecure:        isTrue(setting("ARVADOS_API_HOST_INSECURE")),
		KeepServiceURIs: absoluteURLs(setting("ARVADOS_KEEP_SERVICES")),
		Timeout:         5 * time.Minute,
		fromEnv:         true,
		discovery:       new(discoveryCache),
	}
}

// environment looks variables up in the process's environment, then in the
// settings file. A file that cannot be read is as good as none: most users
// have none, and the request that misses a setting names it.
func environment() func(name string) string {
	file := map[string]string{}
	if home := os.Getenv("HOME"); home != "" {
		text, err := os.ReadFile(filepath.Join(home, ".config/arvados/settings.conf"))
		if err == nil {
			for _, line := range strings.Split(string(text), "\n") {
				if name, value, ok := strings.Cut(line, "="); ok {
					file[strings.TrimSpace(name)] = strings.TrimSpace(value)
				}
			}
		}
	}
	return func(name string) string {
		if value, ok := os.LookupEnv(name); ok {
			return value
		}
		return file[name]
	}
}

func isTrue(s string) bool {
	switch strings.ToLower(s) {
	case "1", "yes", "true":
		return true
	}
	return false
}

// absoluteURLs splits at spaces and leaves out what is no base URL.
func absoluteURLs(list string) []string {
	var urls []string
	for _, item := range strings.Fields(list) {
		if u, err := url.Parse(item); err == nil && u.IsAbs() {
			urls = append(urls, item)
		}
	}
	return urls
}

// WithRequestID is a copy of c whose requests carry reqid as X-Request-Id
// unless their context has another.
func (c *Client) WithRequestID(reqid string) *Client {
	copied := *c
	copied.requestID = reqid
	return &copied
}
