// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerbuild

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"git.arvados.org/arvados.git/lib/dockerfile"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagesource/engine"
)

// onBuilder builds the image on the builder that the site wants.
func (b *build) onBuilder(ctx context.Context) (*dockerimage.Saved, error) {
	node, err := engine.New(b.Site.Engine.Host)
	if err != nil {
		return nil, err
	}
	defer node.Close()
	if !b.wantsPrivate() {
		return b.on(ctx, node, false)
	}
	b.Activity("starting a private builder")
	private, err := node.StartPrivate(ctx, engine.PrivateOptions{
		Owner:   b.UUID,
		Memory:  b.RAM,
		CPUs:    float64(b.VCPUs),
		Network: b.network,
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := private.Stop(ctx); err != nil {
			b.Log.Warnf("the private builder is not gone completely: %v", err)
		}
	}()
	return b.on(ctx, private.Engine, true)
}

// wantsPrivate: what an engine fetches for ADD it fetches as the node does, from
// the node's loopback and metadata services as well, and goes wherever it is
// redirected to. Only a private builder is kept from that.
func (b *build) wantsPrivate() bool {
	if b.Site.Build.Builder == "private" {
		return true
	}
	if len(b.recipe.RemoteURLs) == 0 {
		return false
	}
	b.Log.Infof("%s line %d: ADD of a URL needs a private builder, so that it reaches only what it may", b.name, b.recipe.RemoteURLs[0].Line)
	return true
}

// on builds the image on an engine and stores it.
func (b *build) on(ctx context.Context, eng *engine.Engine, private bool) (saved *dockerimage.Saved, err error) {
	if err := b.checkEngine(ctx, eng, private); err != nil {
		return nil, err
	}
	names := map[string]string{}
	var bases []engine.Base
	for i, found := range b.bases {
		name := engine.BaseName(b.UUID, i)
		use := b.recipe.Images[i]
		names[use.Name+" "+use.Platform] = name
		bases = append(bases, engine.Base{Name: name, Shown: use.Name, Image: found.image})
	}
	text, err := b.recipe.Rewrite(func(use dockerfile.Use) string { return names[use.Name+" "+use.Platform] })
	if err != nil {
		return nil, err
	}
	req := engine.BuildRequest{
		Owner:      b.UUID,
		Context:    b.tree.Open,
		Dockerfile: text,
		Target:     b.target,
		Platform:   b.platform,
		Args:       b.passed,
		Labels:     b.labels,
		NoCache:    b.noCache,
		Network:    b.network,
		Secrets:    b.secret,
		Bases:      bases,
		Epoch:      b.epoch,
		Log:        func(line string) { fmt.Fprintln(b.Stdout, line) },
		Activity:   b.Activity,
	}
	if !private { // there the whole builder has the limits
		req.Memory, req.CPUs = b.RAM, float64(b.VCPUs)
		if b.Site.Build.Cache == "user" {
			req.CacheScope, req.CacheSize = b.Owner, int64(b.Site.Build.CacheSize)
		}
	}
	err = eng.Build(ctx, req, func(ctx context.Context, image engine.BuiltImage) error {
		stream, err := image.Open(ctx)
		if err != nil {
			return err
		}
		defer stream.Close()
		saved, err = b.SaveArchive(ctx, stream, b.Site.Build.Limits.Size, fault.Error{Side: fault.Build,
			Hint: "this site allows no more (build.limits.size): leave out what the image does not need"}, b.report.Progress)
		return err
	})
	if err != nil {
		return nil, b.explain(err)
	}
	if limit := b.Site.Build.Limits.Layers; limit > 0 && saved.LayerCount > limit {
		return nil, &fault.Error{Side: fault.Build, Err: fmt.Errorf("the image has %d layers", saved.LayerCount),
			Hint: fmt.Sprintf("this site allows %d (build.limits.layers)", limit)}
	}
	return saved, nil
}

// checkEngine sees to it that the engine reads the recipe as it was checked, and
// holds steps to their limits if the site insists.
func (b *build) checkEngine(ctx context.Context, eng *engine.Engine, private bool) error {
	info, err := eng.Ping(ctx)
	if err != nil {
		return err
	}
	b.Log.Infof("building on Docker Engine %s, API %s, image store %s", info.Version, info.APIVersion, info.Store)
	if err := b.checkDialect(info.RecentDockerfile()); err != nil {
		return err
	}
	if private || b.Site.Build.Limits.Resources != "refuse" { // else the build says so
		return nil
	}
	works, err := eng.LimitsWork(ctx)
	if err != nil || works {
		return err
	}
	return &fault.Error{Op: "limit RUN steps on", Side: fault.Engine, Subject: b.Site.Engine.Host, Transient: true,
		Err:  errors.New("this engine cannot hold them to the RAM and cores of the request"),
		Hint: "the site wants that (build.limits.resources): set build.builder to private, or use a newer engine"}
}

// explain adds to the error of a failed step what it printed last: that is what
// users look for first.
func (b *build) explain(err error) error {
	var failed *engine.BuildError
	var f *fault.Error
	if !errors.As(err, &failed) || !errors.As(err, &f) || len(failed.Output) == 0 {
		return err
	}
	told := *f
	told.Err = &stepError{failed}
	return &told
}

// stepError is a failed step with its last lines.
type stepError struct {
	*engine.BuildError
}

func (e *stepError) Error() string {
	return e.BuildError.Error() + "\n" + strings.Join(e.Output, "\n")
}

func (e *stepError) Unwrap() error { return e.BuildError }
