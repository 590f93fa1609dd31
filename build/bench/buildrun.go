// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localcluster"
)

// ran is what one builtin command by crunch-run cost, and what it made.
type ran struct {
	seconds    float64 // from the start of the process to its end
	firstBlock float64 // seconds until the first large block was on its way into Keep
	rssMiB     float64 // peak memory of the process
	hash       string  // docker-image-hash
}

// run submits a request for a builtin command and runs crunch-run for it, as a
// dispatcher would. site is the text of the site file.
func (c *cluster) run(ctx context.Context, site string, command []string, mounts map[string]interface{}) (ran, error) {
	self, err := os.Executable()
	if err != nil {
		return ran{}, err
	}
	file, err := c.siteFile(site)
	if err != nil {
		return ran{}, err
	}
	all := map[string]interface{}{"/out": map[string]interface{}{"kind": "tmp"}}
	for path, mount := range mounts {
		all[path] = mount
	}
	var cr arvados.ContainerRequest
	err = c.UserClient(localcluster.User).RequestAndDecodeContext(ctx, &cr, "POST", "arvados/v1/container_requests", nil, map[string]interface{}{
		"container_request": map[string]interface{}{
			"state":               "Committed",
			"priority":            1,
			"container_image":     "arvados/builtin",
			"command":             command,
			"mounts":              all,
			"output_path":         "/out",
			"runtime_constraints": map[string]interface{}{"vcpus": 2, "ram": 1 << 30, "API": true},
			"container_count_max": 1,
			"use_existing":        false,
		}})
	if err != nil {
		return ran{}, err
	}
	root := c.Client(c.SystemRootToken)
	path := "arvados/v1/containers/" + cr.ContainerUUID
	if err := root.RequestAndDecodeContext(ctx, nil, "POST", path+"/lock", nil, nil); err != nil {
		return ran{}, err
	}
	config, err := c.stdin()
	if err != nil {
		return ran{}, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(self), "crunch-run"), "-stdin-config", "-builtin-config", file, cr.ContainerUUID)
	// Told to stop, it takes off the engine what it has put there.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(config), &stderr
	c.forgetPuts()
	started := time.Now()
	if err := cmd.Start(); err != nil {
		return ran{}, err
	}
	peak := peakMemory(cmd.Process.Pid)
	if err := cmd.Wait(); err != nil {
		return ran{}, fmt.Errorf("crunch-run: %w\n%s", err, &stderr)
	}
	result := ran{
		seconds:    time.Since(started).Seconds(),
		firstBlock: c.firstPut.Sub(started).Seconds(),
		rssMiB:     float64(<-peak) / 1024,
	}
	var ctr arvados.Container
	if err := root.RequestAndDecodeContext(ctx, &ctr, "GET", path, nil, nil); err != nil {
		return ran{}, err
	}
	if ctr.State != arvados.ContainerStateComplete || ctr.ExitCode != 0 || ctr.Output == "" {
		return ran{}, fmt.Errorf("%q ended %s with exit code %d: %v\n%s", command, ctr.State, ctr.ExitCode, ctr.RuntimeStatus, &stderr)
	}
	var outputs arvados.CollectionList
	err = root.RequestAndDecodeContext(ctx, &outputs, "GET", "arvados/v1/collections", nil, map[string]interface{}{
		"filters": [][]interface{}{{"portable_data_hash", "=", ctr.Output}}, "limit": 1,
	})
	if err == nil && len(outputs.Items) > 0 {
		result.hash, _ = outputs.Items[0].Properties["docker-image-hash"].(string)
	}
	if err == nil && result.hash == "" {
		err = fmt.Errorf("%q: output %s is no image", command, ctr.Output)
	}
	return result, err
}

// peakMemory sends, when the process has ended, the most KiB that it has had in
// memory. What wait4(2) says of that is no less than what this process had when
// it started the other one: exec(2) counts the memory that vfork(2) lent.
func peakMemory(pid int) <-chan int64 {
	result := make(chan int64, 1)
	go func() {
		var peak int64
		for ; ; time.Sleep(10 * time.Millisecond) {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			_, after, ok := bytes.Cut(status, []byte("VmHWM:"))
			if err != nil || !ok { // it has ended, or is a zombie without memory
				result <- peak
				return
			}
			fmt.Sscan(string(after), &peak)
		}
	}()
	return result
}
