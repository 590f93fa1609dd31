// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"
)

// registry is a docker-registry on loopback.
type registry struct {
	host string // 127.0.0.1:port
	dir  string // its storage
	cmd  *exec.Cmd
}

func startRegistry(ctx context.Context) (*registry, error) {
	dir, err := os.MkdirTemp("", "bench-registry-")
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &registry{host: listener.Addr().String(), dir: dir}
	listener.Close()
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s/store}}\nhttp: {addr: %q}\n", dir, r.host)
	if err := os.WriteFile(config, []byte(text), 0600); err != nil {
		return nil, err
	}
	r.cmd = exec.Command("docker-registry", "serve", config)
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get("http://" + r.host + "/v2/")
		if err == nil {
			resp.Body.Close()
			return r, nil
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			r.stop()
			return nil, fmt.Errorf("docker-registry does not answer: %w", err)
		}
	}
}

func (r *registry) stop() {
	r.cmd.Process.Kill()
	r.cmd.Wait()
	os.RemoveAll(r.dir)
}

// countingProxy passes requests on to the registry and counts the bytes that
// it answers with.
func (r *registry) countingProxy() (host string, count *atomic.Int64, stop func()) {
	count = new(atomic.Int64)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: r.host})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		proxy.ServeHTTP(countingWriter{w, count}, req)
	}))
	return server.Listener.Addr().String(), count, server.Close
}

type countingWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (w countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.n.Add(int64(n))
	return n, err
}

// folderSize is the sum of the sizes of all files below dir.
func folderSize(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}
