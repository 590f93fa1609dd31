// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localcluster"
)

const (
	handOvers   = 25 // how many are timed
	locksListed = 200
	pullsAtOnce = 50
)

// frontFamily measures what crunch-run costs a node beside its work.
func frontFamily(ctx context.Context) ([]figure, error) {
	var figures []figure
	for _, measure := range []func(context.Context) ([]figure, error){frontOverhead, frontList, frontPulls} {
		more, err := measure(ctx)
		if err != nil {
			return nil, err
		}
		figures = append(figures, more...)
	}
	return figures, nil
}

// frontOverhead is what an ordinary container's start takes longer than without
// this program: until the stock one has it, and until that has ended. Where
// STOCK_CRUNCH_RUN names Arvados's own, that is behind the front; it looks at the
// container, which is not locked for it, and leaves it; so it does in a bundle.
// Else /bin/true is.
func frontOverhead(ctx context.Context) ([]figure, error) {
	c, err := startCluster(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	front, genuine := filepath.Join(filepath.Dir(self), "crunch-run"), os.Getenv("STOCK_CRUNCH_RUN")
	stock := genuine
	if genuine == "" {
		stock = "/bin/true"
	}
	site, err := c.siteFile("stock_crunch_run: " + stock + "\n")
	if err != nil {
		return nil, err
	}
	ways := [][]string{{stock}, {front, "-builtin-config", site}}
	if genuine != "" {
		bundle := filepath.Join(c.dir, "crunch-run-bundle")
		if out, err := exec.CommandContext(ctx, front, "-bundle", genuine, "-o", bundle).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, out)
		}
		ways = append(ways, []string{bundle})
	}
	uuid, err := c.ordinary(ctx)
	if err != nil {
		return nil, err
	}
	millis, calls := make([][]float64, len(ways)), make([]int64, len(ways))
	for range handOvers {
		for i, way := range ways {
			took, asked, err := c.handOver(ctx, append(way, "-stdin-config", uuid))
			if err != nil {
				return nil, err
			}
			millis[i], calls[i] = append(millis[i], took), max(calls[i], asked)
		}
	}
	alone, behind := median(millis[0]), median(millis[1])
	figures := []figure{
		newFigure("front.overhead_ms", behind-alone, "ms", "<= 50", "%s alone %.0f ms, behind crunch-run %.0f ms", filepath.Base(stock), alone, behind),
		newFigure("front.overhead_calls", float64(calls[1]-calls[0]), "calls", "<= 1", "of the API server, %d without crunch-run", calls[0]),
	}
	if genuine != "" {
		bundled := median(millis[2])
		figures = append(figures, newFigure("front.overhead_bundle_ms", bundled-alone, "ms", "<= 50", "%s alone %.0f ms, in a bundle %.0f ms", filepath.Base(stock), alone, bundled))
	}
	return figures, nil
}

// ordinary queues an ordinary container, and returns its UUID.
func (c *cluster) ordinary(ctx context.Context) (string, error) {
	image := storedImage(0)
	if err := c.fillWithImages(ctx, 0, 1); err != nil {
		return "", err
	}
	var cr arvados.ContainerRequest
	err := c.UserClient(localcluster.User).RequestAndDecodeContext(ctx, &cr, "POST", "arvados/v1/container_requests", nil, map[string]interface{}{
		"container_request": map[string]interface{}{
			"state":               "Committed",
			"priority":            1,
			"container_image":     image.pdh(),
			"command":             []string{"true"},
			"cwd":                 "/",
			"mounts":              map[string]interface{}{"/out": map[string]interface{}{"kind": "tmp", "capacity": 1}},
			"output_path":         "/out",
			"runtime_constraints": map[string]interface{}{"vcpus": 1, "ram": 1 << 28},
		}})
	return cr.ContainerUUID, err
}

// handOver runs a crunch-run that leaves the container as it is.
func (c *cluster) handOver(ctx context.Context, command []string) (millis float64, calls int64, err error) {
	stdin, err := c.stdin()
	if err != nil {
		return 0, 0, err
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Args[0] = "crunch-run" // by which Arvados's own knows what it is
	cmd.Stdin = bytes.NewReader(stdin)
	before, started := c.apiCalls.Load(), time.Now()
	out, err := cmd.CombinedOutput()
	millis, calls = time.Since(started).Seconds()*1000, c.apiCalls.Load()-before
	if err != nil && !strings.Contains(string(out), "Not locked by your token") { // as Arvados's own says
		return 0, 0, fmt.Errorf("%q: %w: %s", command, err, out)
	}
	return millis, calls, nil
}

// frontList lists many containers. This process stands for all of theirs.
func frontList(ctx context.Context) ([]figure, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	signal.Ignore(syscall.SIGUSR2) // which asks whether a process lives
	defer signal.Reset(syscall.SIGUSR2)
	for i := range locksListed {
		uuid := fmt.Sprintf("bench-dz642-%015d", i)
		lock, err := os.OpenFile("/var/lock/crunch-run-"+uuid+".lock", os.O_CREATE|os.O_RDWR, 0700)
		if err != nil {
			return nil, err
		}
		defer lock.Close()
		defer os.Remove(lock.Name())
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			_, err = fmt.Fprintf(lock, `{"UUID":%q,"PID":%d}`+"\n", uuid, os.Getpid())
		}
		if err != nil {
			return nil, err
		}
	}
	var millis []float64
	for range handOvers {
		started := time.Now()
		out, err := exec.CommandContext(ctx, filepath.Join(filepath.Dir(self), "crunch-run"), "--list").Output()
		if err != nil {
			return nil, err
		}
		millis = append(millis, time.Since(started).Seconds()*1000)
		if n := strings.Count(string(out), "bench-dz642-"); n != locksListed {
			return nil, fmt.Errorf("%d of %d containers were listed", n, locksListed)
		}
	}
	return []figure{newFigure("front.list_200_ms", median(millis), "ms", "<= 100", "crunch-run --list, %d containers", locksListed)}, nil
}

// frontPulls pulls many images at once on one node.
func frontPulls(ctx context.Context) ([]figure, error) {
	reg, err := startRegistry(ctx)
	if err != nil {
		return nil, err
	}
	defer reg.stop()
	c, err := startCluster(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	name := func(i int) string { return fmt.Sprintf("%s/bench/at-once:%d", reg.host, i) }
	for i := range pullsAtOnce {
		if err := pushImage(ctx, name(i), []uint64{1, uint64(1000 + i)}, []int64{4 * mib, 16 * mib}); err != nil {
			return nil, err
		}
	}
	var all sync.WaitGroup
	pulls, errs := make([]ran, pullsAtOnce), make([]error, pullsAtOnce)
	started := time.Now()
	for i := range pulls {
		all.Go(func() { pulls[i], errs[i] = c.pull(ctx, name(i), "registry") })
	}
	all.Wait()
	seconds := time.Since(started).Seconds()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var most float64
	hashes := map[string]bool{}
	for _, pull := range pulls {
		most, hashes[pull.hash] = max(most, pull.rssMiB), true
	}
	return []figure{
		newFigure("front.pulls_50", float64(len(hashes)), "images", fmt.Sprintf(">= %d", pullsAtOnce), "pulled at once on one node, in %.0f s", seconds),
		newFigure("front.pulls_50_rss_mib", most, "MiB", "<= 400", "peak of the crunch-run that had most"),
	}, nil
}
