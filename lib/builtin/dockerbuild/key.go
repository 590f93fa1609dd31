// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerbuild

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// keyVersion changes when the same inputs may make another image, or the key
// another number.
const keyVersion = 1

// contentKey is a SHA-256, in hex, over all that decides what the image will
// be, but for what RUN steps fetch. Of the build context, only what the recipe
// reads counts. Names and times of the image, and the values of secrets, have no
// part in it.
func (b *build) contentKey(ctx context.Context) (string, error) {
	b.Activity("computing the content key")
	files, err := b.tree.Select(b.recipe.ContextPaths).Digest(ctx)
	if err != nil {
		return "", err
	}
	type input struct{ Name, Platform, Hash string }
	key := struct {
		Version    int
		Dockerfile []byte
		Context    string // digest
		Bases      []input
		Args       map[string]string
		Labels     map[string]string
		Target     string
		Platform   string
		Network    string
		Secrets    []string // ids
	}{
		Version:    keyVersion,
		Dockerfile: b.recipe.Canonical(),
		Context:    files,
		Args:       b.passed,
		Labels:     b.labels,
		Target:     b.target,
		Platform:   b.targetPlatform(),
		Network:    b.network,
		Secrets:    slices.Sorted(maps.Keys(b.secret)),
	}
	for i, use := range b.recipe.Images {
		key.Bases = append(key.Bases, input{use.Name, use.Platform, b.bases[i].Hash})
	}
	text, err := json.Marshal(key) // maps in the order of their keys
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum256(text)), nil
}

// builtBefore is the user's collection with the image of this content key, nil
// if there is none or it is not wanted. Anybody may put the key on a
// collection, so others' do not count.
func (b *build) builtBefore(ctx context.Context, key string) *dockerimage.Found {
	if b.noCache {
		return nil
	}
	found, err := dockerimage.FindByKey(ctx, b.API, key)
	if err != nil {
		if ctx.Err() == nil {
			b.Log.Warnf("cannot look for an image of this content key: %v", err)
		}
		return nil
	}
	for _, f := range found {
		if err := f.Check(); err != nil {
			b.Log.Warnf("collection %s has this content key, but %v", f.UUID, err)
			continue
		}
		if f.Properties.PDH == "" || !b.owns(ctx, f.OwnerUUID) {
			continue
		}
		fmt.Fprintf(b.Stdout, "Status: the same recipe was built before, image %s is in collection %s, %s\n", f.Properties.Hash, f.UUID, f.PDH)
		return &f
	}
	return nil
}

// maxDepth is how deep in projects a collection of the user may lie.
const maxDepth = 20

// owns reports whether an owner is the user, or a project of theirs.
func (b *build) owns(ctx context.Context, owner string) bool {
	for range maxDepth {
		if owner == b.Owner {
			return true
		}
		if !strings.Contains(owner, "-j7d0g-") {
			return false
		}
		var project arvados.Group
		err := b.API.RequestAndDecodeContext(ctx, &project, http.MethodGet, "arvados/v1/groups/"+owner, nil,
			map[string]interface{}{"select": []string{"uuid", "owner_uuid"}})
		if err != nil {
			return false
		}
		owner = project.OwnerUUID
	}
	return false
}
