// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
)

// engineHost is the Docker Engine that build/need-engine makes sure of.
const engineHost = "unix:///var/run/docker.sock"

// cleaner removes from the engine what the demo has brought there: images that
// containers were run of, and results of steps in the build cache.
type cleaner struct {
	cli    *client.Client
	before map[string]bool // ids of images and cache records that were there
	images []string        // ids of images that the engine may have been given
}

func newCleaner(ctx context.Context) (*cleaner, error) {
	cli, err := client.NewClientWithOpts(client.WithHost(engineHost), client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	has, err := cli.DiskUsage(ctx, types.DiskUsageOptions{Types: []types.DiskUsageObject{types.ImageObject, types.BuildCacheObject}})
	if err != nil {
		return nil, fmt.Errorf("the Docker Engine does not say what it has: %w", err)
	}
	c := &cleaner{cli: cli, before: map[string]bool{}}
	for _, img := range has.Images {
		c.before[img.ID] = true
	}
	for _, record := range has.BuildCache {
		c.before[record.ID] = true
	}
	return c, nil
}

// note takes note of an image. Engines go by the digest of its config or by
// that of its manifest.
func (c *cleaner) note(coll arvados.Collection) {
	if hash, ok := coll.Properties["docker-image-hash"].(string); ok {
		c.images = append(c.images, hash)
	}
	digests, _ := coll.Properties["arv:docker-image-digest"].([]interface{})
	for _, digest := range digests {
		if digest, ok := digest.(string); ok {
			c.images = append(c.images, digest)
		}
	}
}

// clean removes what was not there before, also when the demo was interrupted.
func (c *cleaner) clean() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	defer c.cli.Close()
	return errors.Join(c.removeImages(ctx), c.cleanCache(ctx))
}

func (c *cleaner) removeImages(ctx context.Context) error {
	var errs []error
	for _, id := range c.images {
		if c.before[id] {
			continue
		}
		if _, err := c.cli.ImageRemove(ctx, id, image.RemoveOptions{Force: true, PruneChildren: true}); err != nil && !cerrdefs.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// cleanCache removes the results of the example's steps, and what they were
// made from. One goes only after those that build on it.
func (c *cleaner) cleanCache(ctx context.Context) error {
	has, err := c.cli.DiskUsage(ctx, types.DiskUsageOptions{Types: []types.DiskUsageObject{types.BuildCacheObject}})
	if err != nil {
		return err
	}
	ours := c.ours(has.BuildCache)
	for left := -1; len(ours) > 0 && len(ours) != left; {
		left = len(ours)
		for id := range ours {
			report, err := c.cli.BuildCachePrune(ctx, build.CachePruneOptions{All: true, Filters: filters.NewArgs(filters.Arg("id", id))})
			if err != nil {
				return err
			}
			for _, gone := range report.CachesDeleted {
				delete(ours, gone)
			}
		}
	}
	return nil
}

// ours are the ids of the new records that name the example, and of the new
// ones that these build on.
func (c *cleaner) ours(records []*build.CacheRecord) map[string]bool {
	ours := map[string]bool{}
	for grown := true; grown; {
		grown = false
		for _, record := range records {
			if c.before[record.ID] || !ours[record.ID] && !strings.Contains(record.Description, example) {
				continue
			}
			//lint:ignore SA1019 engines before API 1.42 know one parent only
			for _, id := range append(record.Parents, record.Parent, record.ID) {
				grown = grown || !ours[id]
				ours[id] = true
			}
		}
	}
	maps.DeleteFunc(ours, func(id string, _ bool) bool { return id == "" || c.before[id] })
	return ours
}
