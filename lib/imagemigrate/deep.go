// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"cmp"
	"context"
	"maps"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"golang.org/x/sync/errgroup"
)

// maxDeep is how many bytes of one image are read for its properties at most. Its
// headers and metadata are some 100 KiB where a block begins with each layer; of
// blocks that begin anywhere all is read up to the last header in them. The ends
// of layers, for their sizes, take up to a block of 64 MiB each.
const maxDeep = 512 << 20

// Keys of properties that only the image itself tells.
const (
	keyPDH      = "arv:docker-image-pdh"
	keySize     = "arv:docker-image-size"
	keyPlatform = "arv:docker-image-platform"
	keyLayers   = "arv:docker-image-layers"
)

// deepen adds to changes what the images tell in which something is missing.
func (r *run) deepen(ctx context.Context, jobs []*job) error {
	if r.Deep == nil {
		return nil
	}
	readers, reading := errgroup.WithContext(ctx)
	readers.SetLimit(cmp.Or(r.Parallel, defaultParallel))
	for _, j := range jobs {
		if j.coll.UUID != "" && !j.change.Left && lacks(j.coll.Properties) {
			readers.Go(func() error { return r.deepenOne(reading, j) })
		}
	}
	return readers.Wait()
}

// lacks reports whether properties may be missing that the image tells. Digests and
// layers are missing of many images that have none, so they are no reason to read
// one whose other properties are there.
func lacks(properties map[string]interface{}) bool {
	return properties[keyPDH] == nil || properties[keyPlatform] == nil || properties[keySize] == nil
}

func (r *run) deepenOne(ctx context.Context, j *job) error {
	told, err := dockerimage.Describe(ctx, r.Deep, j.coll.foundIn(), maxDeep)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	p := &plan{Change: j.change}
	if err != nil {
		p.note(NotRead, "%v", err)
		j.change = p.Change
		return nil
	}
	if told.Size == 0 {
		p.note(NoSize, "")
	}
	deeper := p.Properties
	if deeper == nil {
		deeper = maps.Clone(j.coll.Properties)
	}
	if deeper == nil {
		deeper = map[string]interface{}{}
	}
	written := told.Map()
	for _, key := range []string{keyPDH, keySize, keyPlatform, keyLayers, keyDigest} {
		if value, ok := written[key]; ok && deeper[key] == nil {
			deeper[key] = value
			p.Properties = deeper
		}
	}
	j.change = p.Change
	return nil
}
