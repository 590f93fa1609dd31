// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"io"
	"strings"

	"git.arvados.org/arvados.git/lib/imageref"
	cerrdefs "github.com/containerd/errdefs"
)

// LocalImage is an image that the engine has.
type LocalImage struct {
	ID       string   // as the engine calls it; see StoreContainerd
	Platform string   // "linux/arm/v7", "" if the config does not say
	Names    []string // its tags, as docker shows them
	Digests  []string // names with the digest they were pulled by, "alpine@sha256:…"
}

// Image looks an image up by whatever docker takes for one: a name, a name with
// a digest, an id or the first digits of one. It is nil if the engine has none.
func (e *Engine) Image(ctx context.Context, name string) (*LocalImage, error) {
	img, err := e.cli.ImageInspect(ctx, name)
	if cerrdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, e.fault("look at image", name, err)
	}
	found := &LocalImage{ID: img.ID, Platform: platformOf(img)}
	// The containerd store lists a digest for images that nobody pulled, and
	// some engines <none> for no name.
	for _, tag := range img.RepoTags {
		if !strings.HasPrefix(tag, "<none>") {
			found.Names = append(found.Names, tag)
		}
	}
	for _, digest := range img.RepoDigests {
		if !strings.HasPrefix(digest, "<none>") {
			found.Digests = append(found.Digests, digest)
		}
	}
	return found, nil
}

// Save starts the stream of "docker save" of an image that the engine has, for
// the platform that Image says. It is like PulledImage.Open: it must be closed,
// its dialect differs from engine to engine, and one that is cut ends with an
// error.
func (e *Engine) Save(ctx context.Context, img LocalImage) (io.ReadCloser, error) {
	info, err := e.Ping(ctx)
	if err != nil {
		return nil, err
	}
	return e.save(ctx, img.ID, img.Platform, info)
}

// Fetch has the engine pull an image for its own platform and keep it, as docker
// pull does. Unlike Pull, it removes nothing afterwards.
func (e *Engine) Fetch(ctx context.Context, ref imageref.Ref, credentials []byte, progress func(line string)) error {
	auth, err := credentialsFor(credentials, ref)
	if err != nil {
		return err
	}
	p := &pull{Engine: e, req: PullRequest{Ref: ref}, auth: auth, report: progress, digest: ref.Digest}
	if _, err := p.stream(ctx); err != nil {
		return e.pullFault(ref, auth, err)
	}
	return nil
}
