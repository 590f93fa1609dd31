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
	"runtime"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imagesource/engine"
)

// nodeCheckTime is how long the whole of -check-builtin may take.
const nodeCheckTime = time.Minute

// nodeCheck prints what this node would do with containers, for -check-builtin. An
// error says that some of them could not run.
func nodeCheck(siteFile string, w io.Writer) error {
	ctx, cancel := context.WithTimeout(context.Background(), nodeCheckTime)
	defer cancel()
	say := func(subject, format string, args ...interface{}) {
		fmt.Fprintf(w, "%-16s %s\n", subject, fmt.Sprintf(format, args...))
	}
	say("builtin", "%q (%s)", builtin.Names(), runtime.Version())
	if _, err := os.Stat(siteFile); errors.Is(err, os.ErrNotExist) {
		say("site file", "%s is not there: all keys have their defaults", siteFile)
	} else {
		say("site file", "%s", siteFile)
	}
	site, err := builtin.LoadSite(siteFile)
	if err != nil {
		say("", "%v", err)
		return errors.New("no builtin command can run, and ordinary containers only if their program is found without it: mend the site file")
	}
	var wrong []string
	if err := checkStock(ctx, site, say); err != nil {
		say("stock", "%v", err)
		wrong = append(wrong, "ordinary containers cannot run")
	}
	say("image", "%s", strings.Join(append([]string{builtin.Image}, site.BuiltinImages...), ", "))
	say("links", "%s", site.Links)
	say("docker pull", "source %s; registries: %s", site.Pull.Source, registries(site))
	needed := site.Pull.Source == "engine" || site.Build.Enabled == nil || *site.Build.Enabled
	if err := checkEngine(ctx, site, say); err != nil {
		say("engine", "%v", err)
		if needed {
			wrong = append(wrong, "builds, and pulls that need the engine, cannot run")
		}
	}
	if len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "; "))
	}
	return nil
}

func checkStock(ctx context.Context, site builtin.Site, say func(string, string, ...interface{})) error {
	stock, err := findStock(site)
	if err != nil {
		return err
	}
	version, err := stock.version(ctx)
	if err != nil {
		return stock.cannotStart(err)
	}
	say("stock", "%s: %s", stock.path, version)
	return nil
}

func registries(site builtin.Site) string {
	if len(site.Pull.Registries) == 0 {
		return "all with public addresses"
	}
	return strings.Join(site.Pull.Registries, ", ")
}

// calledBy is what an engine with that image store calls an image that it has loaded.
func calledBy(store string) dockerimage.ImageID {
	if store == engine.StoreContainerd {
		return dockerimage.ByManifest
	}
	return dockerimage.ByConfig
}

func checkEngine(ctx context.Context, site builtin.Site, say func(string, string, ...interface{})) error {
	e, err := engine.New(site.Engine.Host)
	if err != nil {
		return err
	}
	defer e.Close()
	info, err := e.Ping(ctx)
	if err != nil {
		return err
	}
	say("engine", "%s: Docker Engine %s, API %s, image store %s, %s", site.Engine.Host, info.Version, info.APIVersion, info.Store, info.Platform)
	if called := calledBy(info.Store); called == site.ImageID {
		say("image_id", "%s", called)
	} else {
		say("image_id", "%s, but this engine calls loaded images by their %s: stock crunch-run cannot run, by Docker, what builtin commands make (set image_id: %s if all nodes are like this one)", site.ImageID, called, called)
	}
	if site.Build.Enabled != nil && !*site.Build.Enabled {
		say("docker build", "switched off")
		return nil
	}
	limits, err := e.LimitsWork(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("its BuildKit does not answer: %w", err)
	case limits || site.Build.Builder == "private":
		say("docker build", "builder %s; RAM and cores of the request hold", site.Build.Builder)
	default:
		say("docker build", "builder %s; RAM and cores of the request do not hold for RUN steps (build.limits.resources: %s)", site.Build.Builder, site.Build.Limits.Resources)
	}
	return nil
}
