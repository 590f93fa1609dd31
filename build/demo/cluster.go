// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
	"git.arvados.org/arvados.git/sdk/go/keepclient"
)

// cluster is a running embedded cluster and an ordinary user's access to it.
type cluster struct {
	dir    string
	cmd    *exec.Cmd
	client *arvados.Client
	keep   *keepclient.KeepClient

	cleaner *cleaner // is told of images that containers may be run of
}

// startCluster starts arvados-local on a new data folder and waits until it
// answers.
func startCluster(ctx context.Context, program string, cleaner *cleaner) (*cluster, error) {
	dir, err := os.MkdirTemp("", "arvados-demo-")
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir, cmd: exec.Command(program, "serve", "-data", dir), cleaner: cleaner}
	c.cmd.Stderr = os.Stderr
	// Its own group, so that Ctrl-C reaches it by stop only.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ready, err := c.cmd.StdoutPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	if _, err := ready.Read(make([]byte, 1)); err != nil { // it prints when it is up
		c.stop()
		return nil, fmt.Errorf("%s did not start: %w", program, err)
	}
	go io.Copy(io.Discard, ready)
	env, err := exec.CommandContext(ctx, program, "env", "-data", dir).Output()
	if err != nil {
		c.stop()
		return nil, err
	}
	c.client = &arvados.Client{Timeout: time.Minute, Insecure: true}
	for _, line := range strings.Split(string(env), "\n") {
		name, value, _ := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		switch name {
		case "ARVADOS_API_HOST":
			c.client.APIHost = value
		case "ARVADOS_API_TOKEN":
			c.client.AuthToken = value
		}
	}
	arv, err := arvadosclient.New(c.client)
	if err == nil {
		c.keep, err = keepclient.MakeKeepClient(arv)
	}
	if err != nil {
		c.stop()
	}
	return c, err
}

// site adds to the cluster's site file, which counts for containers from now on.
func (c *cluster) site(text string) error {
	f, err := os.OpenFile(filepath.Join(c.dir, "builtin.yml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func (c *cluster) stop() {
	c.cmd.Process.Signal(syscall.SIGTERM)
	c.cmd.Wait()
	os.RemoveAll(c.dir)
}

func (c *cluster) call(ctx context.Context, dst interface{}, method, path string, params map[string]interface{}) error {
	return c.client.RequestAndDecodeContext(ctx, dst, method, "arvados/v1/"+path, nil, params)
}
