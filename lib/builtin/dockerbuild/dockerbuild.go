// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package dockerbuild is the builtin command "docker build": it has a Docker
// Engine build an image from a recipe and a context that the request mounts,
// and streams the image into Keep. It registers itself.
//
// Everything that the recipe builds upon is found before anything runs, by
// Arvados's own rules, and pinned; the engine fetches no image. A recipe that
// was built before is not built again. The package never keeps anything of a
// build on the node's disk or engine, and never creates a collection.
package dockerbuild

import (
	"context"
	"errors"
	"fmt"
	"time"

	"git.arvados.org/arvados.git/lib/buildcontext"
	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/dockerfile"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagesource/registry"
)

func init() {
	builtin.Register("docker build", command{})
}

type command struct{}

// build is one run of the command.
type build struct {
	*builtin.Job
	request
	credentials []byte // docker config.json, nil for none
	registry    *registry.Source
	report      *builtin.Report

	tree   *buildcontext.Tree // what is sent to the builder
	name   string             // of the Dockerfile, for messages
	text   []byte             // of the Dockerfile
	recipe *dockerfile.Recipe
	given  map[string]string // environment and build args
	passed map[string]string // those of them that mean something to the recipe
	secret map[string][]byte // by id
	bases  []base            // one for each of recipe.Images
	epoch  *time.Time
}

// Run builds the image that job describes.
func (command) Run(ctx context.Context, job *builtin.Job) (*builtin.Result, error) {
	if enabled := job.Site.Build.Enabled; enabled != nil && !*enabled {
		return nil, builtin.Wrong("command", errors.New("this site does not allow docker build"), "ask the administrator to set build.enabled in the site file")
	}
	if limit := time.Duration(job.Site.Build.Limits.Time); limit > 0 {
		var cancel context.CancelFunc
		tooLong := &fault.Error{Side: fault.Build, Err: fmt.Errorf("it was not done after %s", limit),
			Hint: "this site allows no more (build.limits.time)"}
		ctx, cancel = context.WithTimeoutCause(ctx, limit, tooLong)
		defer cancel()
		result, err := run(ctx, job)
		if err != nil && errors.Is(context.Cause(ctx), tooLong) {
			return nil, tooLong
		}
		return result, err
	}
	return run(ctx, job)
}

func run(ctx context.Context, job *builtin.Job) (*builtin.Result, error) {
	b := &build{Job: job, report: builtin.NewReport(job)}
	var err error
	if b.request, err = parseArgs(job.Args, job.Env); err != nil {
		return nil, err
	}
	if job.Site.Build.Network == "none" {
		b.network = "none"
	}
	if b.credentials, err = job.Credentials(); err != nil {
		return nil, err
	}
	b.registry, err = registry.New(registry.Options{Credentials: b.credentials, Registries: job.Site.Pull.Registries, Log: job.Log})
	if err != nil {
		return nil, err
	}
	defer b.registry.Close()
	for _, step := range []func(context.Context) error{b.readContext, b.readRecipe, b.findBases, b.chooseArgs, b.readSecrets} {
		if err := step(ctx); err != nil {
			return nil, job.Refused(err, "arv-docker build --credentials FILE with the same arguments")
		}
	}
	key, err := b.contentKey(ctx)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(job.Stdout, "Content key: %s\n", key)
	properties := dockerimage.Properties{}
	if found := b.builtBefore(ctx, key); found != nil {
		properties = found.Properties
		properties.RepoTags, properties.Tagged = b.tags, time.Now()
		return &builtin.Result{ManifestText: found.ManifestText, Properties: properties.Map()}, nil
	}
	saved, err := b.onBuilder(ctx)
	if err != nil {
		return nil, err
	}
	properties = saved.Properties(b.tags, time.Now())
	properties.Key = key
	for _, base := range b.bases {
		properties.Bases = append(properties.Bases, base.Base)
	}
	b.report.Done(saved)
	return &builtin.Result{ManifestText: saved.ManifestText, Properties: properties.Map()}, nil
}
