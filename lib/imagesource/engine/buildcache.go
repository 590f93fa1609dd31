// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	apibuild "github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/filters"
	bkclient "github.com/moby/buildkit/client"
	"github.com/tonistiigi/fsutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A builder lets go of its cache records a little after it has answered.
const (
	releaseTime = 3 * time.Second
	releaseTick = 200 * time.Millisecond
)

// uploads are the cache records of build contexts as they came, unpacked ones,
// and Dockerfiles: nobody's build finds them again, so they are removed also when
// another build, which was killed, has left them.
var uploads = bkclient.WithFilter([]string{
	`description~="^http url http://buildkit-session/"`,
	`description=="copy /context /"`,
	`description~="^local source for ` + sourcePrefix + `"`,
})

// remember notes which cache records there are of those that forget looks at. An
// engine with one damaged record cannot tell; then nothing is removed.
func (b *build) remember(ctx context.Context) {
	var which bkclient.Filter // all
	if b.req.CacheScope != "" {
		which = uploads
	}
	usage, err := b.client.DiskUsage(ctx, which)
	if b.warn("list", "the build cache", err); err != nil {
		return
	}
	b.records = map[string]bool{}
	for _, record := range usage {
		b.records[record.ID] = true
	}
}

// cleanup removes what the build has left. What cannot be removed is logged: the
// image itself may be safe in Keep.
func (b *build) cleanup(ctx context.Context) {
	ctx, cancel := detached(ctx)
	defer cancel()
	if !b.streams() {
		b.warn("remove", b.private, b.untag(ctx, b.private))
	}
	b.unload(ctx)
	if b.records != nil {
		if b.req.CacheScope == "" {
			b.warn("remove", "the build cache", b.forget(ctx, nil))
		}
		b.warn("remove", "the build context", b.forget(ctx, uploads))
	}
	if most := b.req.CacheSize; b.req.CacheScope != "" && most > 0 {
		// Old engines know the first figure only.
		b.warn("shrink", "the build cache", b.pruneCache(ctx, apibuild.CachePruneOptions{KeepStorage: most, ReservedSpace: most, MaxUsedSpace: most}))
	}
}

// forget removes the cache records that match the filter; without one, those that
// have come since remember. A record goes only after those that build on it, and
// once the builder has let it go: what it holds on to for releaseTime stays.
func (b *build) forget(ctx context.Context, which bkclient.Filter) error {
	var end time.Time
	for left := -1; ; {
		usage, err := b.client.DiskUsage(ctx, which)
		if err != nil {
			return err
		}
		var free []*bkclient.UsageInfo
		parents := map[string]bool{}
		busy := 0
		for _, record := range usage {
			switch {
			case b.records[record.ID] && (which == nil || record.InUse):
			case record.InUse:
				busy++
			default:
				free = append(free, record)
				for _, parent := range record.Parents {
					parents[parent] = true
				}
			}
		}
		switch all := len(free) + busy; {
		case all == 0:
			return nil
		case left < 0 || all < left: // it goes on
			left, end = all, time.Now().Add(releaseTime)
		case time.Now().After(end):
			return fmt.Errorf("%d records stay until the engine removes them, %d of them in use by this build or another one", all, busy)
		default:
			time.Sleep(releaseTick)
		}
		for _, record := range free {
			if parents[record.ID] {
				continue // in the next round
			}
			if err := b.pruneCache(ctx, apibuild.CachePruneOptions{All: true, Filters: filters.NewArgs(filters.Arg("id", record.ID))}); err != nil {
				return err
			}
		}
	}
}

// pruneCache goes through the engine, not its builder: old builders that are
// asked directly hold on to a lock for ever when their client goes away
// meanwhile, and no build is possible any more until the engine is started again.
func (e *Engine) pruneCache(ctx context.Context, opts apibuild.CachePruneOptions) error {
	_, err := e.cli.BuildCachePrune(ctx, opts)
	return err
}

// LimitsWork reports whether the engine holds RUN steps to the memory and CPUs of
// a BuildRequest. It tries: a builder that knows limits refuses one that is no
// number, and any other ignores it. (Known since BuildKit 0.31; Docker Engine 28
// has an older one.)
func (e *Engine) LimitsWork(ctx context.Context) (bool, error) {
	client, err := e.buildkit(ctx)
	if err != nil {
		return false, err
	}
	defer client.Close()
	if _, err := client.Info(ctx); status.Code(err) == codes.Unimplemented {
		return false, nil // before BuildKit 0.11; a failing build takes it seconds
	} else if err != nil {
		return false, e.fault("ask the builder of", "", err)
	}
	source := sourcePrefix + newNonce()
	_, err = client.Solve(ctx, nil, bkclient.SolveOpt{
		Frontend: frontend,
		FrontendAttrs: map[string]string{"memory": "no number", "cmdline": frontend, "filename": filename,
			"dockerfilekey": source, "contextkey": source},
		LocalMounts: map[string]fsutil.FS{source: oneFile("FROM scratch\n")},
	}, nil)
	if err != nil && strings.Contains(err.Error(), "invalid memory value") {
		return true, nil
	}
	if err != nil && (ctx.Err() != nil || status.Code(err) == codes.Unavailable) {
		return false, e.fault("ask the builder of", "", err)
	}
	return false, nil // the next build removes what this one has left
}
