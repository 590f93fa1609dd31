// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	check "gopkg.in/check.v1"
)

func (s *building) TestSecrets(c *check.C) {
	const secret = "s3cr3t-of-a-build"
	req := s.request(c, "FROM BASE\nRUN --mount=type=secret,id=key sha256sum /run/secrets/key > /sum; test ! -s /nothing\n", nil)
	req.Secrets = map[string][]byte{"key": []byte(secret)}
	result, err := s.build(context.Background(), req)
	c.Assert(err, check.IsNil, check.Commentf("%s", s.log()))
	c.Check(strings.HasPrefix("sha256:"+result.files["sum"], digestOf([]byte(secret))), check.Equals, true)
	c.Check(strings.Contains(s.log()+string(result.archive.Image.Config), secret), check.Equals, false)
	for name, content := range result.files {
		c.Check(strings.Contains(content, secret), check.Equals, false, check.Commentf("%s", name))
	}
}

// What chooses another frontend chooses nothing.
func (s *building) TestSyntaxIsIgnored(c *check.C) {
	req := s.request(c, "# syntax=127.0.0.1:1/evil:1\nFROM BASE\nRUN echo ok > /ok\n", nil)
	req.Args = map[string]string{"BUILDKIT_SYNTAX": "127.0.0.1:1/evil:1"}
	result, err := s.build(context.Background(), req)
	c.Assert(err, check.IsNil)
	c.Check(result.files["ok"], check.Equals, "ok\n")
}

func (s *building) TestStagesAndTarget(c *check.C) {
	recipe := "FROM BASE AS one\nRUN echo 1 > /one\nFROM BASE AS two\nCOPY --from=one /one /\nCOPY --from=BASE /label /copied\nRUN --mount=type=bind,from=BASE,target=/m cat /m/label > /two\n"
	req := s.request(c, recipe, nil)
	result, err := s.build(context.Background(), req)
	c.Assert(err, check.IsNil, check.Commentf("%s", s.log()))
	c.Check(result.files["one"], check.Equals, "1\n")
	c.Check(result.files["copied"], check.Equals, s.base.label)
	c.Check(result.files["two"], check.Equals, s.base.label)
	c.Check(strings.Contains(s.log(), "arvados-builtin"), check.Equals, false, check.Commentf("%s", s.log()))

	req = s.request(c, recipe, nil)
	req.Target = "one"
	result, err = s.build(context.Background(), req)
	c.Assert(err, check.IsNil)
	c.Check(result.files["one"], check.Equals, "1\n")
	c.Check(result.files["two"], check.Equals, "")
}

// The Dockerfile and the context are two things, whatever the context has.
func (s *building) TestDockerfileOfTheContext(c *check.C) {
	req := s.request(c, "FROM BASE\nCOPY . /\n", map[string]string{"Dockerfile": "NONSENSE", "Dockerfile.dockerignore": "*", "a": "A"})
	result, err := s.build(context.Background(), req)
	c.Assert(err, check.IsNil)
	c.Check(result.files["Dockerfile"], check.Equals, "NONSENSE")
	c.Check(result.files["a"], check.Equals, "A")
}

func (s *building) TestNoLayers(c *check.C) {
	req := s.request(c, "FROM BASE\nENV A=b\n", nil)
	result, err := s.build(context.Background(), req)
	c.Assert(err, check.IsNil)
	c.Check(result.archive.Image.Layers, check.HasLen, 1)
	req = s.request(c, "FROM scratch\nCOPY a /\n", map[string]string{"a": "A"})
	req.Bases = nil
	result, err = s.build(context.Background(), req)
	c.Assert(err, check.IsNil)
	c.Check(result.files["a"], check.Equals, "A")
}

// With a scope, an unchanged step is not run again, and a changed one is; what
// was uploaded goes all the same. Without one, nothing is found again.
func (s *building) TestCacheScope(c *check.C) {
	build := func(scope, content string) string {
		req := s.request(c, "FROM BASE\nCOPY early /\nRUN cat /proc/sys/kernel/random/uuid > /first\nCOPY late /\nRUN cat /late > /second\n",
			map[string]string{"early": "E", "late": content})
		req.CacheScope = scope
		result, err := s.build(context.Background(), req)
		c.Assert(err, check.IsNil, check.Commentf("%s", s.log()))
		c.Check(result.files["second"], check.Equals, content)
		return result.files["first"]
	}
	alone := build("", "1")
	c.Check(build("", "1"), check.Not(check.Equals), alone)

	// Builds of other tests, at the same time and without a scope, may remove
	// what has come meanwhile.
	found := false
	for range 5 {
		scope := newOwner()
		first := build(scope, "1")
		for _, record := range s.usage(c) {
			if !s.before[record.ID] && !record.InUse {
				c.Check(record.Description, check.Not(check.Matches), `http url .*|copy /context /|local source .*`)
			}
		}
		s.lines = nil
		if found = build(scope, "2") == first; found {
			c.Check(s.log(), check.Matches, `(?s).*RUN cat /proc/sys/kernel/random/uuid > /first: cached.*`)
			break
		}
	}
	c.Check(found, check.Equals, true)
	s.forget(c)
}

// A step may have had somebody's secret or proxy, which do not make it another
// step: so it is nobody else's.
func (s *building) TestStepsAreNotShared(c *check.C) {
	build := func(scope string) string {
		req := s.request(c, "FROM BASE\nRUN cat /proc/sys/kernel/random/uuid > /first\n", nil)
		req.CacheScope = scope
		result, err := s.build(context.Background(), req)
		c.Assert(err, check.IsNil, check.Commentf("%s", s.log()))
		return result.files["first"]
	}
	seen := map[string]bool{}
	for _, scope := range []string{newOwner(), newOwner(), "", ""} {
		id := build(scope)
		c.Check(seen[id], check.Equals, false)
		seen[id] = true
	}
	s.forget(c)
}

// A cache that is kept does not grow beyond its size.
func (s *building) TestCacheSize(c *check.C) {
	req := s.request(c, "FROM BASE\nRUN dd if=/dev/urandom of=/file bs=1M count=8\n", nil)
	req.CacheScope, req.CacheSize = newOwner(), 4<<20
	_, err := s.build(context.Background(), req)
	c.Assert(err, check.IsNil, check.Commentf("%s", s.log()))
	for _, record := range s.usage(c) {
		c.Check(record.Size < 8<<20 || s.before[record.ID] || record.InUse || record.Shared, check.Equals, true, check.Commentf("%+v", record))
	}
	s.forget(c)
}

// forget removes what scopes have kept.
func (s *building) forget(c *check.C) {
	client, err := s.engine.buildkit(context.Background())
	c.Assert(err, check.IsNil)
	defer client.Close()
	c.Check((&build{Engine: s.engine, client: client, records: s.before}).forget(context.Background(), nil), check.IsNil)
}

// Cache mounts are shared within a scope only.
func (s *building) TestCacheMounts(c *check.C) {
	build := func(scope string) string {
		req := s.request(c, "FROM BASE\nRUN --mount=type=cache,target=/cache,id=common cat /cache/* > /seen; echo "+newLabel()+" > /cache/mine\n", nil)
		req.CacheScope = scope
		result, err := s.build(context.Background(), req)
		c.Assert(err, check.IsNil, check.Commentf("%s", s.log()))
		return result.files["seen"]
	}
	anna, berta := newOwner(), newOwner()
	c.Check(build(anna), check.Equals, "")
	c.Check(build(berta), check.Equals, "")
	c.Check(build(""), check.Equals, "")
	c.Check(build(anna), check.Not(check.Equals), "")
	s.forget(c)
}

// Limits hold where LimitsWork says so, and are not claimed elsewhere.
func (s *building) TestLimits(c *check.C) {
	work, err := s.engine.LimitsWork(context.Background())
	c.Assert(err, check.IsNil)
	c.Logf("limits work: %v", work)
	req := s.request(c, "FROM BASE\nRUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max > /limit; true\n", nil)
	req.Memory, req.CPUs = 64<<20, 0.5
	result, err := s.build(context.Background(), req)
	c.Assert(err, check.IsNil)
	c.Check(result.image.Limited, check.Equals, work)
	c.Check(strings.Contains(s.log(), "does not limit"), check.Equals, !work)
	if !work {
		return
	}
	c.Check(result.files["limit"], check.Equals, "67108864\n")
	req = s.request(c, "FROM BASE\nRUN exec dd if=/dev/zero of=/dev/null bs=200M count=1\n", nil)
	req.Memory = 64 << 20
	_, err = s.build(context.Background(), req)
	s.checkFault(c, err, "build", false, `build: Dockerfile line 2: RUN exec dd .*: exit code 137 \(.*more memory than the 64 MiB of the request.*`)
}

func (s *building) TestSecondEngineLimits(c *check.C) {
	work, err := s.engine.LimitsWork(context.Background())
	c.Assert(err, check.IsNil)
	c.Check(work, check.Equals, s.host == secondHost)
}

// The same recipe gives the same image, where the engine can.
func (s *building) TestEpoch(c *check.C) {
	epoch := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	build := func() built {
		req := s.request(c, "FROM BASE\nRUN date > /dev/null; echo x > /x\n", nil)
		req.Epoch, req.NoCache = &epoch, true
		result, err := s.build(context.Background(), req)
		c.Assert(err, check.IsNil)
		return result
	}
	first := build()
	if s.info.Store != StoreContainerd {
		return // this engine knows no time but its own
	}
	time.Sleep(1100 * time.Millisecond)
	second := build()
	c.Check(second.image.ID, check.Equals, first.image.ID)
	var config ocispec.Image
	c.Assert(json.Unmarshal(second.archive.Image.Config, &config), check.IsNil)
	c.Check(config.Created.Equal(epoch), check.Equals, true)
}
