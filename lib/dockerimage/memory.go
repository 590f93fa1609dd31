// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"bufio"
	"bytes"
	"io/fs"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxBlocks: more blocks in flight than this gain nothing.
	maxBlocks = 4
	// memoryBase is what a program needs beside its blocks, and
	// memoryPerBlock what a block in flight costs together with all that
	// comes along with it.
	memoryBase     = 64 << 20
	memoryPerBlock = 80 << 20
)

// BlocksFor is how many Keep blocks may be in flight in limit bytes of memory:
// one to four.
func BlocksFor(limit int64) int {
	return int(max(1, min(maxBlocks, (limit-memoryBase)/memoryPerBlock)))
}

// BlocksInFlight is BlocksFor the memory that this process may use by its
// cgroup.
func BlocksInFlight() int { return BlocksFor(memoryLimit(os.DirFS("/"))) }

// memoryLimit is the lowest memory limit of the process's cgroups, in bytes,
// whether the system has cgroups v1, v2 or both. root is the file system.
func memoryLimit(root fs.FS) int64 {
	limit := int64(math.MaxInt64)
	self, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return limit // no Linux
	}
	for lines := bufio.NewScanner(bytes.NewReader(self)); lines.Scan(); {
		// "hierarchy:controllers:path"; v2 has hierarchy 0 and no controllers
		parts := strings.SplitN(lines.Text(), ":", 3)
		if len(parts) != 3 {
			continue
		}
		mount, file := "sys/fs/cgroup", "memory.max"
		if parts[0] != "0" {
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
			if !slices.Contains(strings.Split(parts[1], ","), "memory") {
				continue
			}
		}
		// Limits of the cgroups above hold too. Within a container the
		// path may be the host's and lead nowhere but for the mount.
		for dir := path.Join("/", parts[2]); ; dir = path.Dir(dir) {
			if text, err := fs.ReadFile(root, path.Join(mount, dir, file)); err == nil {
				// not a number: "max"
				if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
					limit = min(limit, n)
				}
			}
			if dir == "/" {
				break
			}
		}
	}
	return limit
}
