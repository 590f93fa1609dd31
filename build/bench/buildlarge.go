// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"context"
	"fmt"
)

// largeContext streams a context of 1 GB in 20,000 files, and builds from it.
func largeContext(ctx context.Context) ([]figure, error) {
	c, err := startCluster(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	source := sources{files: 20000, size: 1e9}
	pdh, err := source.inKeep(ctx, c)
	if err != nil {
		return nil, err
	}
	steps := []string{"step-blocks", "step-context"}
	seconds := map[string][]float64{}
	for i := range rounds {
		for j := range steps {
			name := steps[(i+j)%2]
			took, _, err := step(ctx, name, c.APIAddress, c.Tokens["user"], pdh)
			if err != nil {
				return nil, err
			}
			seconds[name] = append(seconds[name], took)
		}
	}
	ceiling, stream := median(seconds["step-blocks"]), median(seconds["step-context"])
	before, err := c.keepSize()
	if err != nil {
		return nil, err
	}
	r, err := (&buildCluster{c, pdh}).build(ctx, buildSite(onEngine, engineHost), "FROM scratch\nCOPY . /\n")
	if err != nil {
		return nil, err
	}
	after, err := c.keepSize()
	if err != nil {
		return nil, err
	}
	if after-before < source.size {
		return nil, fmt.Errorf("the image has only brought %d bytes into Keep", after-before)
	}
	return []figure{
		newFigure("build.context_of_ceiling", ceiling/stream, "ratio", ">= 0.5", "1 GB in 20,000 files: blocks alone %.2f s, context stream %.2f s", ceiling, stream),
		newFigure("build.rss_mib", r.rssMiB, "MiB", "<= 400", "peak of crunch-run, building from 1 GB in 20,000 files in %.1f s; %d MiB into Keep", r.seconds, (after-before)/mib),
	}, nil
}
