// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
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

	apiCalls atomic.Int64
}

func startCluster(ctx context.Context) (*cluster, error) {
	dir, err := os.MkdirTemp("", "bench-cluster-")
	if err != nil {
		return nil, err
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	c := &cluster{dir: dir}
	c.Cluster, err = localcluster.Start(ctx, localcluster.Options{Dir: dir, Log: log, Wrap: c.watch})
	return c, err
}

func (c *cluster) close() {
	c.Stop()
	os.RemoveAll(c.dir)
}

func (c *cluster) watch(server string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if server == "api" {
			c.apiCalls.Add(1)
		} else if r.Method == http.MethodPut && r.ContentLength > 1<<20 {
			c.mtx.Lock()
			if c.firstPut.IsZero() {
				c.firstPut = time.Now()
			}
			c.mtx.Unlock()
		}
		h.ServeHTTP(w, r)
	})
}

// forgetPuts makes the next large block the first.
func (c *cluster) forgetPuts() {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	c.firstPut = time.Time{}
}

// siteFile is a file with the given text, of its own for each process.
func (c *cluster) siteFile(text string) (string, error) {
	f, err := os.CreateTemp(c.dir, "builtin-*.yml")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(text)
	return f.Name(), errors.Join(err, f.Close())
}

// stdin is what a dispatcher gives crunch-run.
func (c *cluster) stdin() ([]byte, error) {
	return json.Marshal(map[string]interface{}{"Env": map[string]string{
		"ARVADOS_API_HOST": c.APIAddress, "ARVADOS_API_TOKEN": c.SystemRootToken, "ARVADOS_API_HOST_INSECURE": "1",
	}})
}

func (c *cluster) keepURL() string { return "http://" + c.KeepAddress }

// keepSize is the number of bytes in Keep.
func (c *cluster) keepSize() (int64, error) { return folderSize(filepath.Join(c.dir, "keep")) }

// pull runs docker pull.
func (c *cluster) pull(ctx context.Context, ref, source string) (ran, error) {
	site := fmt.Sprintf("pull: {source: %s, registries: [\"127.0.0.1:*\"]}\n", source)
	return c.run(ctx, site, []string{"docker", "pull", ref}, nil)
}
