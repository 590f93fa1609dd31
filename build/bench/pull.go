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
	"slices"
	"time"
)

const mib = 1 << 20

// rounds is how often each way is measured; the medians count.
const rounds = 3

// pullFamily measures docker pull: an image of 440 MiB compressed in 4 layers,
// registry and Keep on loopback.
func pullFamily(ctx context.Context) ([]figure, error) {
	reg, err := startRegistry(ctx)
	if err != nil {
		return nil, err
	}
	defer reg.stop()
	fmt.Fprintln(os.Stderr, "making images")
	image := reg.host + "/bench/app:1"
	if err := pushImage(ctx, image, []uint64{1, 2, 3, 4}, []int64{200 * mib, 120 * mib, 80 * mib, 40 * mib}); err != nil {
		return nil, err
	}
	var figures []figure
	for _, measure := range []func(context.Context, *registry, string) ([]figure, error){pullSpeed, pullMemory, pullSharing} {
		more, err := measure(ctx, reg, image)
		if err != nil {
			return nil, err
		}
		figures = append(figures, more...)
	}
	return figures, nil
}

// pullSpeed compares with the ceiling, with crane and with the engine. Every
// measurement has a Keep of its own, so that nothing is there already.
func pullSpeed(ctx context.Context, reg *registry, image string) ([]figure, error) {
	var ours, ceiling, crane, engine, firstBlock, first64 []float64
	for range rounds {
		p, err := pullOnce(ctx, image, "registry")
		if err != nil {
			return nil, err
		}
		ours, firstBlock = append(ours, p.seconds), append(firstBlock, p.firstBlock)
		seconds, printed, err := ceilingOnce(ctx, image)
		if err != nil {
			return nil, err
		}
		ceiling, first64 = append(ceiling, seconds), append(first64, printed)
		file := filepath.Join(os.TempDir(), fmt.Sprintf("bench-crane-%d.tar", os.Getpid()))
		seconds, _, err = step(ctx, "step-crane", image, file)
		os.Remove(file)
		if err != nil {
			return nil, err
		}
		crane = append(crane, seconds)
	}
	p, err := pullOnce(ctx, image, "engine") // once: it takes half a minute
	if err != nil {
		return nil, err
	}
	engine = append(engine, p.seconds)
	us := median(ours)
	return []figure{
		newFigure("pull.of_ceiling", median(ceiling)/us, "ratio", ">= 0.8", "ceiling %.2f s, docker pull into Keep %.2f s", median(ceiling), us),
		newFigure("pull.to_crane", us/median(crane), "ratio", "<= 1.6", "crane pull to a file %.2f s", median(crane)),
		newFigure("pull.engine_speedup", median(engine)/us, "ratio", ">= 8", "docker pull and save into Keep %.2f s", median(engine)),
		newFigure("pull.first_block", median(firstBlock)/median(first64), "ratio", "<= 1", "first block on its way after %.3f s, 64 MiB downloaded after %.3f s", median(firstBlock), median(first64)),
	}, nil
}

// pullMemory compares the peak memory of a pull with that of an image ten
// times as large.
func pullMemory(ctx context.Context, reg *registry, image string) ([]figure, error) {
	large := reg.host + "/bench/large:1"
	if err := pushImage(ctx, large, []uint64{11, 12, 13, 14}, []int64{2000 * mib, 1200 * mib, 800 * mib, 400 * mib}); err != nil {
		return nil, err
	}
	one, err := pullOnce(ctx, image, "registry")
	if err != nil {
		return nil, err
	}
	ten, err := pullOnce(ctx, large, "registry")
	if err != nil {
		return nil, err
	}
	return []figure{
		newFigure("pull.rss_mib", max(one.rssMiB, ten.rssMiB), "MiB", "<= 400", "peak of crunch-run, the larger of both images"),
		newFigure("pull.rss_growth", ten.rssMiB/one.rssMiB, "ratio", "<= 1.05", "%.0f MiB for 4400 MiB of image, %.0f MiB for 440 MiB", ten.rssMiB, one.rssMiB),
	}, nil
}

// pullSharing pulls five images that share four layers and add 20 MiB each.
func pullSharing(ctx context.Context, reg *registry, _ string) ([]figure, error) {
	shared, err := startRegistry(ctx)
	if err != nil {
		return nil, err
	}
	defer shared.stop()
	const own = 20 * mib
	for i := range 5 {
		name := fmt.Sprintf("%s/bench/app:%d", shared.host, i)
		err := pushImage(ctx, name, []uint64{1, 2, 3, 4, uint64(100 + i)}, []int64{200 * mib, 120 * mib, 80 * mib, 40 * mib, own})
		if err != nil {
			return nil, err
		}
	}
	host, fetched, stop := shared.countingProxy()
	defer stop()
	c, err := startCluster(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	var most int64
	for i := range 5 {
		before := fetched.Load()
		if _, err := c.pull(ctx, fmt.Sprintf("%s/bench/app:%d", host, i), "registry"); err != nil {
			return nil, err
		}
		if i > 0 {
			most = max(most, fetched.Load()-before)
		}
	}
	inKeep, err := c.keepSize()
	if err != nil {
		return nil, err
	}
	inRegistry, err := folderSize(filepath.Join(shared.dir, "store"))
	if err != nil {
		return nil, err
	}
	return []figure{
		newFigure("pull.dedup_to_registry", float64(inKeep)/float64(inRegistry), "ratio", "<= 1.05",
			"five images that share layers: %d MiB in Keep, %d MiB in the registry", inKeep/mib, inRegistry/mib),
		newFigure("pull.refetch_mib", float64(most-own)/mib, "MiB", "<= 1", "most that the second to fifth pull took beyond their new layer"),
	}, nil
}

func pullOnce(ctx context.Context, image, source string) (ran, error) {
	c, err := startCluster(ctx)
	if err != nil {
		return ran{}, err
	}
	defer c.close()
	return c.pull(ctx, image, source)
}

func ceilingOnce(ctx context.Context, image string) (seconds, printed float64, err error) {
	c, err := startCluster(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer c.close()
	return step(ctx, "step-ceiling", image, c.keepURL(), c.Tokens["user"])
}

// step runs one of steps in a process of its own.
func step(ctx context.Context, args ...string) (seconds, printed float64, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, 0, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	started := time.Now()
	err = cmd.Run()
	seconds = time.Since(started).Seconds()
	fmt.Fscan(&out, &printed)
	return seconds, printed, err
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
