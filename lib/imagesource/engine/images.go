// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// seen is an image as the engine shows it; the zero value is no image.
type seen struct {
	id       string
	platform string // "linux/arm/v7", "" if the config does not say
}

// inspect looks an image up by name or id, and says for which platform it is
// there: for the given one, if the store has that among several.
func (e *Engine) inspect(ctx context.Context, name, platform string, info Info) (seen, error) {
	img, err := e.cli.ImageInspect(ctx, name)
	if cerrdefs.IsNotFound(err) {
		return seen{}, nil
	}
	if err != nil {
		return seen{}, e.fault("look at image", name, err)
	}
	found := seen{id: img.ID, platform: platformOf(img)}
	if info.Store != StoreContainerd || !e.atLeast("1.49") {
		return found, nil
	}
	wanted := parsePlatform(platform)
	// Of the answer, the id is that of a part of the image.
	img, err = e.cli.ImageInspect(ctx, name, client.ImageInspectWithPlatform(&wanted))
	if err == nil {
		found.platform = platformOf(img)
	} else if !cerrdefs.IsNotFound(err) {
		return seen{}, e.fault("look at image", name, err)
	}
	if found.platform == "" { // nothing of it is there for the platform
		found.platform = "another platform"
	}
	return found, nil
}

func platformOf(img image.InspectResponse) string {
	return formatPlatform(ocispec.Platform{OS: img.Os, Architecture: img.Architecture, Variant: img.Variant})
}

// formatPlatform writes "os/arch" or "os/arch/variant", as far as known.
func formatPlatform(p ocispec.Platform) string {
	return strings.TrimRight(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// parsePlatform reads what formatPlatform writes.
func parsePlatform(s string) ocispec.Platform {
	parts := append(strings.SplitN(s, "/", 3), "", "")
	return ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
}

// matches reports whether an image for platform has can serve as wanted. Only
// what both of them say can differ.
func matches(wanted, has string) bool {
	w, h := parsePlatform(wanted), parsePlatform(has)
	same := func(a, b string) bool { return a == "" || b == "" || a == b }
	return same(w.OS, h.OS) && same(w.Architecture, h.Architecture) && same(w.Variant, h.Variant)
}

// atLeast reports whether the negotiated API has a version. It is only
// meaningful after the first request.
func (e *Engine) atLeast(version string) bool {
	return versions.GreaterThanOrEqualTo(e.cli.ClientVersion(), version)
}

// ImageExists reports whether the engine has an image of this id or name. An
// engine that does not answer has none.
func (e *Engine) ImageExists(ctx context.Context, image string) bool {
	_, err := e.cli.ImageInspect(ctx, image)
	return err == nil
}

// RemoveImage removes an image by id or name: it fails if a container uses it,
// or if other names than the given one mean it and it was given by id. It is no
// error if there is none.
func (e *Engine) RemoveImage(ctx context.Context, name string) error {
	_, err := e.cli.ImageRemove(ctx, name, image.RemoveOptions{PruneChildren: true})
	if err != nil && !cerrdefs.IsNotFound(err) {
		return e.fault("remove image", name, err)
	}
	return nil
}
