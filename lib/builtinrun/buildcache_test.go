// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"time"

	"github.com/docker/docker/client"
	bkclient "github.com/moby/buildkit/client"
	"gopkg.in/check.v1"
)

// buildCache is that of an engine.
type buildCache struct {
	*bkclient.Client
	docker *client.Client
}

func openBuildCache(c *check.C, host string) (cache buildCache) {
	opts := []client.Opt{client.WithAPIVersionNegotiation()}
	if host != "" {
		opts = append(opts, client.WithHost(host))
	}
	var err error
	cache.docker, err = client.NewClientWithOpts(opts...)
	c.Assert(err, check.IsNil)
	cache.Client, err = bkclient.New(context.Background(), "", bkclient.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return cache.docker.DialHijack(ctx, "/grpc", "h2c", nil)
	}))
	c.Assert(err, check.IsNil)
	return cache
}

// records are those in the cache. Those in use cannot be removed yet.
func (cache buildCache) records(c *check.C, inUse bool) records {
	usage, err := cache.DiskUsage(context.Background())
	c.Assert(err, check.IsNil)
	all := records{}
	for _, record := range usage {
		if inUse || !record.InUse {
			all[record.ID] = record
		}
	}
	return all
}

type records map[string]*bkclient.UsageInfo // by ID

// but are those that were not there before.
func (r records) but(before records) records {
	maps.DeleteFunc(r, func(id string, _ *bkclient.UsageInfo) bool { return before[id] != nil })
	return r
}

// forget removes what was not there before. A record goes after those that build on
// it, and once it is no longer in use.
func (cache buildCache) forget(c *check.C, before records) {
	for late := time.Now().Add(30 * time.Second); time.Now().Before(late); time.Sleep(200 * time.Millisecond) {
		var added bkclient.Filter
		for id := range cache.records(c, true).but(before) {
			added = append(added, "id=="+id)
		}
		if len(added) == 0 {
			return
		}
		c.Check(cache.Prune(context.Background(), nil, bkclient.PruneAll, added), check.IsNil)
	}
}

func (cache buildCache) close() {
	cache.Client.Close()
	cache.docker.Close()
}

// cacheWatch sees to it that builds leave nothing in the build caches of engines.
type cacheWatch map[string]records // from before, by the engine's host

// begin notes what there is, also what is in use and may be let go later.
func (watch cacheWatch) begin(c *check.C, host string) {
	if watch[host] != nil {
		return
	}
	cache := openBuildCache(c, host)
	defer cache.close()
	watch[host] = cache.records(c, true)
}

// end compares. An engine lets go of records a while after a build, and of those of
// a step that was cancelled minutes later; these it does not wait for.
func (watch cacheWatch) end(c *check.C) {
	for host, before := range watch {
		cache := openBuildCache(c, host)
		defer cache.close()
		added := cache.records(c, false).but(before)
		for late := time.Now().Add(30 * time.Second); len(added) > 0 && time.Now().Before(late); added = cache.records(c, false).but(before) {
			time.Sleep(200 * time.Millisecond)
		}
		for id, record := range added {
			c.Error(fmt.Sprintf("left in the build cache of the engine at %q: %s, %s, %q", host, id, record.RecordType, record.Description))
		}
	}
}

// With build.cache: user, what a build leaves in the cache stays, and steps that have
// not changed are not run again; else there is nothing to find.
func (s *buildSuite) TestCacheStays(c *check.C) {
	cache := openBuildCache(c, "")
	defer cache.close()
	before := s.caches[""]
	defer cache.forget(c, before)
	build := func(last string) ending {
		e := s.build(c, []string{"/src"}, s.steps(c, "RUN echo one > /one\nRUN echo "+last+" > /two\n"), nil)
		s.ok(c, e)
		return e
	}
	const cached = `(?s).*RUN echo one > /one: cached\n.*`
	build("two")
	c.Check(build("three").logs["stdout.txt"], check.Not(check.Matches), cached)
	s.setSite(c, "cache: user")
	c.Check(build("four").logs["stdout.txt"], check.Not(check.Matches), cached)
	c.Check(build("five").logs["stdout.txt"], check.Matches, cached)
	c.Check(cache.records(c, true).but(before), check.Not(check.HasLen), 0)
}
