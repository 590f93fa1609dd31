// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

// Package arvadosclient is the older, untyped client of the Arvados API. It is
// for package keepclient, whose constructor takes it, and for calls that no
// record type fits. It holds the part of the Arvados Go SDK that is used for
// this, with the SDK's own names and signatures. It never stores blocks and
// never logs; new code uses package arvados.
package arvadosclient

import (
	"crypto/tls"
	"errors"
	"net/http"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/sirupsen/logrus"
)

// ErrInvalidArgument is a UUID that cannot be one, or a setting that the
// server does not have.
var ErrInvalidArgument = errors.New("invalid argument")

// ApiDiscoveryResource is the resource type, for Call, of the discovery
// document.
const ApiDiscoveryResource = "discovery/v1/apis/arvados/v1/rest"

// RetryDelay scales the time for requests with their retries: thirty times it,
// for each of ArvadosClient.Retries.
var RetryDelay = 2 * time.Second

// Dict is an object of JSON: parameters of a request or a record.
type Dict map[string]interface{}

// ArvadosClient sends requests to one API server with one token.
type ArvadosClient struct {
	// Scheme is "https", which "" stands for too, or "http".
	Scheme string
	// ApiServer is "host" or "host:port".
	ApiServer string
	// ApiToken goes into the Authorization header as a bearer token.
	ApiToken string
	// ApiInsecure accepts any certificate, unless Client is set.
	ApiInsecure bool
	// Client makes the connections.
	Client *http.Client
	// KeepServiceURIs are the base URLs of Keep services to use in place
	// of those that the API server lists. Nil for none.
	KeepServiceURIs []string
	// DiskCacheSize is the default of the Keep client's field.
	DiskCacheSize arvados.ByteSizeOrPercent
	// Logger gets the Keep client's debug messages. It may be nil.
	Logger logrus.FieldLogger
	// DiscoveryDoc is the discovery document, once it has been asked for.
	DiscoveryDoc Dict
	// Retries sets the time for a request with all its retries, a minute
	// for each.
	Retries int
	// RequestID is sent as X-Request-Id. "" for a new one each time.
	RequestID string
}

// New makes a client with the server, token and settings of c.
func New(c *arvados.Client) (*ArvadosClient, error) {
	hc := c.Client
	if hc == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = MakeTLSConfig(c.Insecure)
		hc = &http.Client{Transport: transport, Timeout: 5 * time.Minute}
	}
	return &ArvadosClient{
		Scheme:          c.Scheme,
		ApiServer:       c.APIHost,
		ApiToken:        c.AuthToken,
		ApiInsecure:     c.Insecure,
		Client:          hc,
		KeepServiceURIs: c.KeepServiceURIs,
		DiskCacheSize:   c.DiskCacheSize,
		Logger:          c.Logger,
		Retries:         2,
	}, nil
}

// MakeArvadosClient makes a client from the environment, see
// arvados.NewClientFromEnv.
func MakeArvadosClient() (*ArvadosClient, error) {
	return New(arvados.NewClientFromEnv())
}

// MakeTLSConfig is the TLS configuration for API and Keep services; an
// insecure one accepts any certificate.
func MakeTLSConfig(insecure bool) *tls.Config {
	return &tls.Config{InsecureSkipVerify: insecure}
}
