// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerpull

import (
	"context"
	"errors"
	"fmt"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagesource/engine"
	"git.arvados.org/arvados.git/lib/imagesource/registry"
)

// pull is one run of the command.
type pull struct {
	*builtin.Job
	request
	credentials []byte // docker config.json, nil for none
	report      *builtin.Report
}

// fromAnywhere pulls from the source that the site wants.
func (p *pull) fromAnywhere(ctx context.Context) (*dockerimage.Saved, error) {
	if p.Site.Pull.Source == "engine" {
		return p.fromEngine(ctx)
	}
	saved, err := p.fromRegistry(ctx)
	if err == nil || p.Site.Pull.Source == "registry" || ctx.Err() != nil || !p.engineMayDoBetter(err) {
		return saved, err
	}
	p.Log.Warnf("straight from the registry it cannot be had, trying the node's Docker Engine: %v", err)
	saved, engineErr := p.fromEngine(ctx)
	if engineErr == nil || fault.SideOf(engineErr) == fault.Request {
		return saved, engineErr // such as an image that is too large: no other try gets on
	}
	p.Log.Warnf("nor by the Docker Engine: %v", engineErr)
	return nil, err // about the way that the user can see
}

// engineMayDoBetter reports whether a mirror or route that only the engine
// knows might help: the registry could not be reached, or refused somebody
// without credentials. What our own rules refused, the engine must not fetch.
func (p *pull) engineMayDoBetter(err error) bool {
	if fault.SideOf(err) != fault.Registry {
		return false
	}
	return fault.Transient(err) || p.credentials == nil && errors.Is(err, registry.ErrUnauthorized)
}

// fromRegistry streams the image from its registry.
func (p *pull) fromRegistry(ctx context.Context) (*dockerimage.Saved, error) {
	source, err := registry.New(registry.Options{
		Credentials: p.credentials,
		Registries:  p.Site.Pull.Registries,
		Log:         p.Log,
	})
	if err != nil {
		return nil, err
	}
	defer source.Close()
	p.Activity("resolving " + p.ref.Familiar())
	image, err := source.Resolve(ctx, p.ref, p.platform)
	if err != nil {
		return nil, err
	}
	p.report.Found(p.ref.Familiar(), image.Platform, image.Digests)
	var total int64
	for _, layer := range image.Layers {
		total += layer.Size
	}
	if limit := int64(p.Site.Pull.MaxSize); limit > 0 && total > limit {
		return nil, &fault.Error{Op: "pull", Side: fault.Request, Subject: p.ref.Familiar(),
			Err: fmt.Errorf("the image has %s", builtin.Size(total)), Hint: fmt.Sprintf("this site allows %s (pull.max_size)", builtin.Size(limit))}
	}
	return p.Saver(p.report.Progress).Save(ctx, image.Image)
}

// fromEngine lets the node's engine pull the image, and normalises what it
// saves while it streams.
func (p *pull) fromEngine(ctx context.Context) (saved *dockerimage.Saved, err error) {
	if err := registry.CheckHost(ctx, p.ref, p.Site.Pull.Registries); err != nil {
		return nil, err // the engine must not fetch what we would not
	}
	eng, err := engine.New(p.Site.Engine.Host)
	if err != nil {
		return nil, err
	}
	defer eng.Close()
	err = eng.Pull(ctx, engine.PullRequest{
		Ref:         p.ref,
		Platform:    p.platform,
		Credentials: p.credentials,
		Owner:       p.UUID,
		Progress:    func(line string) { p.Activity("engine: " + line) },
	}, func(ctx context.Context, image engine.PulledImage) error {
		p.report.Found(p.ref.Familiar(), image.Platform, []string{image.Digest})
		stream, err := image.Open(ctx)
		if err != nil {
			return err
		}
		defer stream.Close()
		saved, err = p.SaveArchive(ctx, stream, p.Site.Pull.MaxSize, fault.Error{Op: "pull", Side: fault.Request, Subject: p.ref.Familiar(),
			Hint: "this site allows no more (pull.max_size), as the node's Docker Engine hands it over"}, p.report.Progress)
		return err
	})
	return saved, err
}
