// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"git.arvados.org/arvados.git/services/localcluster"
	"github.com/sirupsen/logrus"
)

// cluster is an embedded cluster without a dispatcher: the bench starts
// crunch-run itself, to see its memory.
type cluster struct {
	*localcluster.Cluster
	dir string

	mtx      sync.Mutex
	firstPut time.Time // when the first large block was announced to Keep
}

func startCluster(ctx context.Context) (*cluster, error) {
	dir, err := os.MkdirTemp("", "bench-cluster-")
	if err != nil {
		return nil, err
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	c := &cluster{dir: dir}
	c.Cluster, err = localcluster.Start(ctx, localcluster.Options{Dir: dir, Log: log, Wrap: c.watchPuts})
	return c, err
}

func (c *cluster) close() {
	c.Stop()
	os.RemoveAll(c.dir)
}

func (c *cluster) watchPuts(server string, h http.Handler) http.Handler {
	if server != "keep" {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && r.ContentLength > 1<<20 {
			c.mtx.Lock()
			if c.firstPut.IsZero() {
				c.firstPut = time.Now()
			}
			c.mtx.Unlock()
		}
		h.ServeHTTP(w, r)
	})
}

func (c *cluster) keepURL() string { return "http://" + c.KeepAddress }

// keepSize is the number of bytes in Keep.
func (c *cluster) keepSize() (int64, error) { return folderSize(filepath.Join(c.dir, "keep")) }

// pull runs docker pull.
func (c *cluster) pull(ctx context.Context, ref, source string) (ran, error) {
	site := fmt.Sprintf("pull: {source: %s, registries: [\"127.0.0.1:*\"]}\n", source)
	return c.run(ctx, site, []string{"docker", "pull", ref}, nil)
}
