// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// buildBench is what the measurements of docker build have in common.
type buildBench struct {
	base   string  // an image that the engine and the registry have
	source sources // context of the ordinary build
	folder string  // the same for the docker CLI, with a Dockerfile
}

// recipe copies the context and has a step write 100 MiB that no other build
// has written.
func recipe(base string) string {
	return "FROM " + base + "\nCOPY . /app\n" +
		`RUN ["/app/bin/busybox", "dd", "if=/dev/urandom", "of=/data", "bs=1M", "count=100"]` + "\n"
}

// noCache has every step run, by us and by the CLI: of what one has built, the
// other would find the COPY in the engine's cache.
const noCache = "--no-cache"

// The two values of build.builder in the site file.
const (
	onEngine  = "engine"
	onPrivate = "private"
)

// buildSite is a site file. Registries on loopback must be listed.
func buildSite(builder, host string) string {
	return fmt.Sprintf(`{pull: {registries: ["127.0.0.1:*"]}, build: {builder: %s}, engine: {host: %q}}`, builder, host)
}

// buildFamily measures docker build: a base image of 160 MiB, a context of 50
// MiB in 500 files and a step that writes 100 MiB; and a context of 1 GB in
// 20,000 files.
func buildFamily(ctx context.Context) ([]figure, error) {
	reg, err := startRegistry(ctx)
	if err != nil {
		return nil, err
	}
	defer reg.stop()
	dir, err := os.MkdirTemp("", "bench-build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(os.Stderr, "making base image and context")
	b := &buildBench{base: reg.host + "/bench/base:1", source: sources{files: 500, size: 50 * mib}, folder: filepath.Join(dir, "context")}
	if err := b.source.inFolder(b.folder); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(b.folder, "Dockerfile"), []byte(recipe(b.base)), 0600); err != nil {
		return nil, err
	}
	defer removeImage(ctx, b.base)
	if _, err := docker(ctx, layerTar(21, 120*mib), "import", "-", b.base); err != nil {
		return nil, err
	}
	if _, err := docker(ctx, nil, "push", "-q", b.base); err != nil {
		return nil, err
	}
	var figures []figure
	for _, measure := range []func(context.Context) ([]figure, error){b.speed, b.unchanged, b.private, largeContext} {
		more, err := measure(ctx)
		if err != nil {
			return nil, err
		}
		figures = append(figures, more...)
	}
	return figures, nil
}

// buildCluster is a cluster that has the base image and the context in Keep.
type buildCluster struct {
	*cluster
	context string // portable data hash
}

func (b *buildBench) cluster(ctx context.Context) (*buildCluster, error) {
	c, err := startCluster(ctx)
	if err != nil {
		return nil, err
	}
	made := &buildCluster{cluster: c}
	if _, err = c.pull(ctx, b.base, "registry"); err == nil {
		made.context, err = b.source.inKeep(ctx, c)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return made, nil
}

func (c *buildCluster) build(ctx context.Context, site, dockerfile string, flags ...string) (ran, error) {
	return c.run(ctx, site, append([]string{"docker", "build", "/src"}, flags...), map[string]interface{}{
		"/src":            map[string]interface{}{"kind": "collection", "portable_data_hash": c.context},
		"/src/Dockerfile": map[string]interface{}{"kind": "text", "content": dockerfile},
	})
}

// speed compares with the docker CLI on the same engine, which has the base
// image already. Every build of ours has a Keep of its own, with nothing but
// base image and context in it.
func (b *buildBench) speed(ctx context.Context) ([]figure, error) {
	var ours, cli []float64
	var archive int64
	both := []func() error{
		func() error {
			c, err := b.cluster(ctx)
			if err != nil {
				return err
			}
			defer c.close()
			r, err := c.build(ctx, buildSite(onEngine, engineHost), recipe(b.base), noCache)
			ours = append(ours, r.seconds)
			return err
		},
		func() error {
			seconds, size, err := cliBuild(ctx, b.folder)
			cli, archive = append(cli, seconds), size
			return err
		},
	}
	for i := range rounds {
		for j := range both {
			if err := both[(i+j)%2](); err != nil {
				return nil, err
			}
		}
	}
	us, they := median(ours), median(cli)
	return []figure{newFigure("build.to_cli", us/they, "ratio", "<= 1.1",
		"docker build into Keep %.2f s, docker CLI build and save to nowhere (%d MiB) %.2f s", us, archive/mib, they)}, nil
}

// unchanged asks for the same build twice and counts what the second one asks
// of others.
func (b *buildBench) unchanged(ctx context.Context) ([]figure, error) {
	c, err := b.cluster(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	engine, err := startEngineProxy(filepath.Join(c.dir, "engine.sock"))
	if err != nil {
		return nil, err
	}
	defer engine.stop()
	api := startAPIProxy(c.cluster)
	defer api.stop()
	site := buildSite(onEngine, engine.host)
	first, err := c.build(ctx, site, recipe(b.base))
	if err != nil {
		return nil, err
	}
	if engine.connections.Load() == 0 || len(api.taken()) == 0 {
		return nil, fmt.Errorf("the first build asked neither the engine nor the API server: the proxies do not count")
	}
	before := engine.connections.Load()
	again, err := c.build(ctx, site, recipe(b.base))
	if err != nil {
		return nil, err
	}
	if first.hash != again.hash {
		return nil, fmt.Errorf("the second build made another image: %s, not %s", again.hash, first.hash)
	}
	calls := api.taken()
	return []figure{
		newFigure("build.unchanged_api_calls", float64(len(calls)), "calls", "<= 2",
			"with the container's token, after Running and before the output collection is made: %s (%.2f s in all, first build %.2f s)",
			strings.Join(calls, ", "), again.seconds, first.seconds),
		newFigure("build.unchanged_engine_calls", float64(engine.connections.Load()-before), "calls", "<= 0", "connections to the engine's socket"),
	}, nil
}

// private compares the two kinds of builder. A private one has no image of the
// engine's and must load the base, so the builds compared have no base; two more
// show what its load takes.
func (b *buildBench) private(ctx context.Context) ([]figure, error) {
	c, err := b.cluster(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	builders := []string{onEngine, onPrivate}
	seconds := map[string][]float64{}
	for i := range rounds {
		for j := range builders {
			builder := builders[(i+j)%2]
			r, err := c.build(ctx, buildSite(builder, engineHost), recipe("scratch"), noCache)
			if err != nil {
				return nil, err
			}
			seconds[builder] = append(seconds[builder], r.seconds)
		}
	}
	upon := map[string]float64{}
	for _, builder := range builders {
		r, err := c.build(ctx, buildSite(builder, engineHost), recipe(b.base), noCache)
		if err != nil {
			return nil, err
		}
		upon[builder] = r.seconds
	}
	engine, private := median(seconds[onEngine]), median(seconds[onPrivate])
	extra := private - engine
	return []figure{newFigure("build.private_extra_s", extra, "s", "<= 5",
		"without a base: engine %.2f s, private %.2f s; upon a base of 160 MiB: %.2f s and %.2f s, so its load takes %.2f s",
		engine, private, upon[onEngine], upon[onPrivate], upon[onPrivate]-upon[onEngine]-extra)}, nil
}
