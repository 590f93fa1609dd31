// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
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

// pulled is what one docker pull by crunch-run cost.
type pulled struct {
	seconds    float64 // from the start of the process to its end
	firstBlock float64 // seconds until the first large block was on its way into Keep
	rssMiB     float64 // peak memory of the process
	pdh        string  // of the output
	hash       string  // docker-image-hash
}

// pull submits a request and runs crunch-run for it, as a dispatcher would.
func (c *cluster) pull(ctx context.Context, ref, source string) (pulled, error) {
	self, err := os.Executable()
	if err != nil {
		return pulled{}, err
	}
	site := filepath.Join(c.dir, "builtin.yml")
	text := fmt.Sprintf("pull: {source: %s, registries: [\"127.0.0.1:*\"]}\n", source)
	if err := os.WriteFile(site, []byte(text), 0600); err != nil {
		return pulled{}, err
	}
	var cr arvados.ContainerRequest
	err = c.UserClient(localcluster.User).RequestAndDecodeContext(ctx, &cr, "POST", "arvados/v1/container_requests", nil, map[string]interface{}{
		"container_request": map[string]interface{}{
			"state":               "Committed",
			"priority":            1,
			"container_image":     "arvados/builtin",
			"command":             []string{"docker", "pull", ref},
			"mounts":              map[string]interface{}{"/out": map[string]interface{}{"kind": "tmp"}},
			"output_path":         "/out",
			"runtime_constraints": map[string]interface{}{"vcpus": 2, "ram": 1 << 30, "API": true},
			"container_count_max": 1,
			"use_existing":        false,
		}})
	if err != nil {
		return pulled{}, err
	}
	root := c.Client(c.SystemRootToken)
	path := "arvados/v1/containers/" + cr.ContainerUUID
	if err := root.RequestAndDecodeContext(ctx, nil, "POST", path+"/lock", nil, nil); err != nil {
		return pulled{}, err
	}
	config, err := json.Marshal(map[string]interface{}{"Env": map[string]string{
		"ARVADOS_API_HOST": c.APIAddress, "ARVADOS_API_TOKEN": c.SystemRootToken, "ARVADOS_API_HOST_INSECURE": "1",
	}})
	if err != nil {
		return pulled{}, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(self), "crunch-run"), "-stdin-config", "-builtin-config", site, cr.ContainerUUID)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(config), &stderr
	c.firstPut = time.Time{}
	started := time.Now()
	if err := cmd.Run(); err != nil {
		return pulled{}, fmt.Errorf("crunch-run: %w\n%s", err, &stderr)
	}
	result := pulled{
		seconds:    time.Since(started).Seconds(),
		firstBlock: c.firstPut.Sub(started).Seconds(),
		rssMiB:     float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) / 1024,
	}
	var ctr arvados.Container
	if err := root.RequestAndDecodeContext(ctx, &ctr, "GET", path, nil, nil); err != nil {
		return pulled{}, err
	}
	if ctr.State != arvados.ContainerStateComplete || ctr.ExitCode != 0 {
		return pulled{}, fmt.Errorf("pull of %s ended %s with exit code %d\n%s", ref, ctr.State, ctr.ExitCode, &stderr)
	}
	result.pdh = ctr.Output
	var output arvados.CollectionList
	err = root.RequestAndDecodeContext(ctx, &output, "GET", "arvados/v1/collections", nil, map[string]interface{}{
		"filters": [][]interface{}{{"portable_data_hash", "=", ctr.Output}}, "limit": 1,
	})
	if err == nil && len(output.Items) > 0 {
		result.hash, _ = output.Items[0].Properties["docker-image-hash"].(string)
	}
	return result, err
}
