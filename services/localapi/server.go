// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"context"
	"errors"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"github.com/sirupsen/logrus"
)

// Config is what a server needs to know. All fields are required.
type Config struct {
	ClusterID       string // five letters and digits
	Dir             string // of the database; made if it is not there
	SystemRootToken string
	BlobSigningKey  string // shared with Keep
	BlobSigningTTL  time.Duration
	APIAddress      string // host:port where clients reach this server, by HTTPS
	KeepAddress     string // host:port of the Keep service, plain HTTP
	Log             logrus.FieldLogger
}

// Server answers requests of the Arvados API.
type Server struct {
	cfg             Config
	store           *Store
	log             logrus.FieldLogger
	clusterID       string
	systemRootToken string
	resources       map[string]*resource
	discovery       map[string]any
}

// New opens the database of cfg.Dir, makes the records that every cluster has,
// and deletes what has been in the trash long enough.
func New(cfg Config) (*Server, error) {
	ctx := context.Background()
	failed := func(err error) error {
		return &fault.Error{Op: "open the API server's database", Side: fault.API, Subject: cfg.Dir, Err: err}
	}
	store, err := OpenStore(ctx, cfg.Dir)
	if err != nil {
		return nil, failed(err)
	}
	s := &Server{cfg: cfg, store: store, log: cfg.Log, clusterID: cfg.ClusterID, systemRootToken: cfg.SystemRootToken,
		resources: map[string]*resource{}}
	for _, makeResource := range resourceMakers {
		res := makeResource(s)
		s.resources[res.name] = res
	}
	s.discovery = s.discoveryDocument()
	if err := store.Tx(ctx, s.seed); err != nil {
		return nil, failed(errors.Join(err, store.Close()))
	}
	return s, nil
}

// Close ends the server, after the requests that it is answering.
func (s *Server) Close() error { return s.store.Close() }
