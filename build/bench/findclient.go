// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"

	"git.arvados.org/arvados.git/services/localcluster"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/sirupsen/logrus"
)

// client is a call of arv-docker, as one user.
func client(ctx context.Context, c *localcluster.Cluster, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(self), "arv-docker"), args...)
	cmd.Env = append(os.Environ(), "ARVADOS_API_HOST="+c.APIAddress, "ARVADOS_API_TOKEN="+c.Tokens[localcluster.User], "ARVADOS_API_HOST_INSECURE=1")
	return cmd, nil
}

const imagesListed = 10_000

// findFirstLine lists many images, from the start of the process to the first of
// them.
func findFirstLine(ctx context.Context) ([]figure, error) {
	c, err := startCluster(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.fillWithImages(ctx, 0, imagesListed); err != nil {
		return nil, err
	}
	var first, all []float64
	for range rounds {
		cmd, err := client(ctx, c.Cluster, "images")
		if err != nil {
			return nil, err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		started := time.Now()
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		lines := 0
		for text := bufio.NewScanner(out); text.Scan(); lines++ {
			if lines == 1 { // the first is the heading
				first = append(first, time.Since(started).Seconds()*1000)
			}
		}
		if err := cmd.Wait(); err != nil || lines != imagesListed+1 {
			return nil, fmt.Errorf("arv-docker images: %d lines, %w", lines, err)
		}
		all = append(all, time.Since(started).Seconds())
	}
	return []figure{newFigure("find.images_first_line_ms", median(first), "ms", "<= 300",
		"from the start of arv-docker images to the first of %d images; to the last %.1f s", imagesListed, median(all))}, nil
}

// findAgain pulls an image twice, by arv-docker, and counts the requests of the
// second time.
func findAgain(ctx context.Context) ([]figure, error) {
	reg, err := startRegistry(ctx)
	if err != nil {
		return nil, err
	}
	defer reg.stop()
	var ofRegistry, ofAPI atomic.Int64
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: reg.host})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ofRegistry.Add(1)
		proxy.ServeHTTP(w, r)
	}))
	defer server.Close()
	if err := pushImage(ctx, reg.host+"/bench/again:1", []uint64{1}, []int64{8 * mib}); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench-cluster-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	site := filepath.Join(dir, "builtin.yml")
	if err := os.WriteFile(site, []byte("pull: {registries: [\"127.0.0.1:*\"]}\n"), 0600); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	var token atomic.Value // of the user
	cluster, err := localcluster.Start(ctx, localcluster.Options{
		Dir: filepath.Join(dir, "data"), Log: log,
		CrunchRun: filepath.Join(filepath.Dir(self), "crunch-run"), CrunchRunArgs: []string{"-builtin-config=" + site},
		Wrap: func(server string, h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if server == "api" && r.Header.Get("Authorization") == token.Load() {
					ofAPI.Add(1)
				}
				h.ServeHTTP(w, r)
			})
		},
	})
	if err != nil {
		return nil, err
	}
	defer cluster.Stop()
	token.Store("Bearer " + cluster.Tokens[localcluster.User])
	for _, existed := range []bool{false, true} {
		ofRegistry.Store(0)
		ofAPI.Store(0)
		cmd, err := client(ctx, cluster, "pull", "--json", server.Listener.Addr().String()+"/bench/again:1")
		if err != nil {
			return nil, err
		}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("arv-docker pull: %w\n%s", err, &stderr)
		}
		var pulled struct {
			Existed bool `json:"existed"`
		}
		if err := json.Unmarshal(out, &pulled); err != nil || pulled.Existed != existed {
			return nil, fmt.Errorf("arv-docker pull --json: %s %w", out, err)
		}
	}
	return []figure{newFigure("find.second_pull_requests", float64(max(ofRegistry.Load(), ofAPI.Load())), "requests", "<= 2",
		"the more of %d to the registry and %d to the API server", ofRegistry.Load(), ofAPI.Load())}, nil
}

// findDelta pulls an image whose base is in Keep.
func findDelta(ctx context.Context) ([]figure, error) {
	reg, err := startRegistry(ctx)
	if err != nil {
		return nil, err
	}
	defer reg.stop()
	if err := pushImage(ctx, reg.host+"/bench/base:1", []uint64{1, 2, 3}, []int64{100 * mib, 60 * mib, mib / 2}); err != nil {
		return nil, err
	}
	derived, seeds := reg.host+"/bench/derived:1", []uint64{1, 2, 3, 21, 22}
	if err := pushImage(ctx, derived, seeds, []int64{100 * mib, 60 * mib, mib / 2, 20 * mib, mib}); err != nil {
		return nil, err
	}
	tag, err := name.NewTag(derived)
	if err != nil {
		return nil, err
	}
	image, err := remote.Image(tag, remote.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	layers, err := image.Layers()
	if err != nil {
		return nil, err
	}
	var added int64
	for _, layer := range layers[3:] {
		size, err := layer.Size()
		if err != nil {
			return nil, err
		}
		added += size
	}
	host, fetched, stop := reg.countingProxy()
	defer stop()
	c, err := startCluster(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if _, err := c.pull(ctx, host+"/bench/base:1", "registry"); err != nil {
		return nil, err
	}
	before, err := c.keepSize()
	if err != nil {
		return nil, err
	}
	fetched.Store(0)
	if _, err := c.pull(ctx, host+"/bench/derived:1", "registry"); err != nil {
		return nil, err
	}
	after, err := c.keepSize()
	if err != nil {
		return nil, err
	}
	in, out := fetched.Load(), after-before
	return []figure{newFigure("find.delta_bytes_ratio", float64(max(in, out))/float64(added+mib), "ratio", "<= 1",
		"new layers of %.2f MiB upon a base in Keep: %.2f MiB from the registry, %.2f MiB into Keep",
		float64(added)/mib, float64(in)/mib, float64(out)/mib)}, nil
}
