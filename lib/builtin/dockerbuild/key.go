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

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// keyVersion changes when the same inputs may make another image, or the key
// another number.
const keyVersion = 1

// contentKey is a SHA-256, in hex, over all that decides what the image will
// be, but for what RUN steps and ADD of a URL fetch. Of the build context, only
// what the recipe reads counts. Names and times of the image, and the values of
// secrets, have no part in it.
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
		Secrets    []string            // ids
		ImageID    dockerimage.ImageID `json:",omitempty"` // where it is not the default
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
	if b.Site.ImageID != dockerimage.ByConfig {
		key.ImageID = b.Site.ImageID
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
	// Most likely it is in the user's own project, where nobody else writes.
	for _, owner := range []string{b.Owner, ""} {
		found, err := dockerimage.FindByKey(ctx, b.API, key, owner)
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
			if owner == "" && !b.made(ctx, f.PDH, key) {
				continue
			}
			fmt.Fprintf(b.Stdout, "Status: the same recipe was built before, image %s is in collection %s, %s\n", f.Properties.Hash, f.UUID, f.PDH)
			return &f
		}
	}
	return nil
}

// made reports whether a build of the user's has made an image under the key. In
// a shared project others can write; what a container has done they cannot
// change.
func (b *build) made(ctx context.Context, pdh, key string) bool {
	var list struct {
		Items []struct {
			OutputProperties map[string]interface{} `json:"output_properties"`
		}
	}
	err := b.API.RequestAndDecodeContext(ctx, &list, http.MethodGet, "arvados/v1/containers", nil, arvados.ResourceListParams{
		Filters: []arvados.Filter{
			{Attr: "output", Operator: "=", Operand: pdh},
			{Attr: "runtime_user_uuid", Operator: "=", Operand: b.Owner},
			{Attr: "state", Operator: "=", Operand: arvados.ContainerStateComplete},
		},
		Select: []string{"uuid", "output_properties"},
		Count:  "none",
	})
	if err != nil {
		return false
	}
	for _, container := range list.Items {
		if dockerimage.ParseProperties(container.OutputProperties).Key == key {
			return true
		}
	}
	return false
}
