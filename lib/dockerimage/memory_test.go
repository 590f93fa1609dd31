// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"math"
	"testing/fstest"

	check "gopkg.in/check.v1"
)

type memorySuite struct{}

var _ = check.Suite(&memorySuite{})

func (*memorySuite) TestBlocksFor(c *check.C) {
	for limit, want := range map[int64]int{
		-1: 1, 0: 1, 64 * MiB: 1, 143 * MiB: 1, 223 * MiB: 1, 224 * MiB: 2,
		303 * MiB: 2, 304 * MiB: 3, 384 * MiB: 4, 400 * MiB: 4, 1 << 40: 4, math.MaxInt64: 4,
	} {
		c.Check(BlocksFor(limit), check.Equals, want, check.Commentf("%d", limit))
	}
	n := BlocksInFlight()
	c.Check(n >= 1 && n <= 4, check.Equals, true)
}

func (*memorySuite) TestMemoryLimit(c *check.C) {
	for label, trial := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"no cgroups": {nil, math.MaxInt64},
		"v2": {map[string]string{
			"proc/self/cgroup":                        "0::/user.slice/job\n",
			"sys/fs/cgroup/user.slice/job/memory.max": "300\n",
		}, 300},
		"v2, unlimited": {map[string]string{
			"proc/self/cgroup":             "0::/job\n",
			"sys/fs/cgroup/job/memory.max": "max\n",
		}, math.MaxInt64},
		"v2, limit further up": {map[string]string{
			"proc/self/cgroup":               "0::/a/b/c\n",
			"sys/fs/cgroup/a/memory.max":     "500\n",
			"sys/fs/cgroup/a/b/memory.max":   "200\n",
			"sys/fs/cgroup/a/b/c/memory.max": "max\n",
			"sys/fs/cgroup/other/memory.max": "1\n",
		}, 200},
		"v2, within a container": {map[string]string{
			"proc/self/cgroup":         "0::/\n",
			"sys/fs/cgroup/memory.max": "400\n",
		}, 400},
		"v1": {map[string]string{
			"proc/self/cgroup": "12:cpu,cpuacct:/job\n4:memory:/docker/job\n1:name=systemd:/job\n",
			"sys/fs/cgroup/memory/docker/job/memory.limit_in_bytes": "600\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":            "9223372036854771712\n",
		}, 600},
		"v1, within a container": {map[string]string{
			"proc/self/cgroup":                           "4:memory:/docker/job\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "700\n",
		}, 700},
		"both": {map[string]string{
			"proc/self/cgroup": "4:cpuset,memory:/job\n0::/job\n",
			"sys/fs/cgroup/memory/job/memory.limit_in_bytes": "700\n",
			"sys/fs/cgroup/job/memory.max":                   "800\n",
		}, 700},
		"odd": {map[string]string{
			"proc/self/cgroup":         "\nnonsense\n0::\n4:memory:relative\n",
			"sys/fs/cgroup/memory.max": "oops\n",
		}, math.MaxInt64},
	} {
		root := fstest.MapFS{}
		for name, content := range trial.files {
			root[name] = &fstest.MapFile{Data: []byte(content)}
		}
		c.Check(memoryLimit(root), check.Equals, trial.want, check.Commentf(label))
	}
}
