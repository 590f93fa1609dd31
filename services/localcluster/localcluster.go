// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package localcluster puts the embedded cluster together: API server, Keep
// and dispatcher on loopback, with one data folder. It is for arvados-local,
// tests and benchmarks; what a request means is decided in localapi, localkeep
// and localdispatch.
package localcluster

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localapi"
	"git.arvados.org/arvados.git/services/localdispatch"
	"git.arvados.org/arvados.git/services/localkeep"
	"github.com/sirupsen/logrus"
)

// Options are what Start needs to know.
type Options struct {
	Dir           string   // data folder, made if it is not there
	CrunchRun     string   // program for containers; "" starts no dispatcher
	CrunchRunArgs []string // for it, before the container's UUID
	Log           logrus.FieldLogger
	// Wrap, if not nil, is put around the two servers, for tests that make
	// them fail. server is "api" or "keep".
	Wrap func(server string, h http.Handler) http.Handler
}

// Cluster is a running embedded cluster.
type Cluster struct {
	*Settings
	stop    context.CancelFunc
	running sync.WaitGroup
	servers []*http.Server
	api     *localapi.Server
}

// keepTTL is how long locators stay valid, as in Arvados's default
// configuration.
const keepTTL = 14 * 24 * time.Hour

// Start starts a cluster on the data folder, and makes that first if need be.
// Servers answer when it returns.
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	s, err := openSettings(opts.Dir)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	c := &Cluster{Settings: s, stop: stop}
	if err := c.start(ctx, opts); err != nil {
		c.Stop()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, opts Options) error {
	api, err := localapi.New(localapi.Config{
		ClusterID:       c.ClusterID,
		Dir:             filepath.Join(c.dir, "api"),
		SystemRootToken: c.SystemRootToken,
		BlobSigningKey:  c.BlobSigningKey,
		BlobSigningTTL:  keepTTL,
		APIAddress:      c.APIAddress,
		KeepAddress:     c.KeepAddress,
		Log:             opts.Log,
	})
	if err != nil {
		return err
	}
	c.api = api
	for name, token := range c.Tokens {
		if err := api.EnsureUser(ctx, name, token, name == Admin); err != nil {
			return err
		}
	}
	keep, err := localkeep.New(localkeep.Config{
		Dir:            filepath.Join(c.dir, "keep"),
		BlobSigningKey: c.BlobSigningKey,
		BlobSigningTTL: keepTTL,
	})
	if err != nil {
		return err
	}
	cert, err := tls.X509KeyPair([]byte(c.CertificatePEM), []byte(c.KeyPEM))
	if err != nil {
		return err
	}
	wrap := opts.Wrap
	if wrap == nil {
		wrap = func(_ string, h http.Handler) http.Handler { return h }
	}
	if err := c.serve(c.APIAddress, wrap("api", api), &tls.Config{Certificates: []tls.Certificate{cert}}); err != nil {
		return err
	}
	if err := c.serve(c.KeepAddress, wrap("keep", keep), nil); err != nil {
		return err
	}
	if opts.CrunchRun != "" {
		c.running.Add(1)
		go func() {
			defer c.running.Done()
			c.dispatcher(opts).Run(ctx)
		}()
	}
	return nil
}

func (c *Cluster) dispatcher(opts Options) *localdispatch.Dispatcher {
	return &localdispatch.Dispatcher{
		Client:       c.Client(c.SystemRootToken),
		CrunchRun:    opts.CrunchRun,
		Args:         opts.CrunchRunArgs,
		Env:          map[string]string{"ARVADOS_API_HOST_INSECURE": "1"},
		Log:          opts.Log,
		MaxRunning:   8,
		PollInterval: time.Second,
	}
}

func (c *Cluster) serve(address string, handler http.Handler, config *tls.Config) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	if config != nil {
		listener = tls.NewListener(listener, config)
	}
	server := &http.Server{
		Handler:  handler,
		ErrorLog: log.New(io.Discard, "", 0), // clients that hang up
	}
	c.servers = append(c.servers, server)
	c.running.Add(1)
	go func() {
		defer c.running.Done()
		server.Serve(listener)
	}()
	return nil
}

// Stop ends the cluster. Containers that run go on, and are found again after
// the next Start.
func (c *Cluster) Stop() error {
	c.stop()
	for _, server := range c.servers {
		server.Close()
	}
	c.running.Wait()
	if c.api == nil {
		return nil
	}
	return c.api.Close()
}

// Client is a client of the cluster with the given token.
func (c *Cluster) Client(token string) *arvados.Client {
	return &arvados.Client{APIHost: c.APIAddress, AuthToken: token, Insecure: true, Timeout: time.Minute}
}

// UserClient is a client of the cluster for one of its users.
func (c *Cluster) UserClient(name string) *arvados.Client {
	return c.Client(c.Tokens[name])
}

// DefaultDir is the data folder where nobody names one.
func DefaultDir() (string, error) {
	base := os.Getenv("XDG_DATA_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", errors.New("no home folder: name a data folder by -data")
		}
		base = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(base, "arvados-local"), nil
}
