// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"crypto/md5"
	"fmt"
	"sort"
)

// RootSorter has services in the order in which a block is looked for: all
// clients have the same order for the same block, and each service comes first
// for its share of blocks (rendezvous hashing).
type RootSorter struct {
	sorted []string
}

// NewRootSorter orders base URLs by the weight of their services' UUIDs for a
// block, the heaviest first. The weight is the MD5 of the hash and the last
// 15 characters of the UUID, as hex. What has not the length of a UUID counts
// in full.
func NewRootSorter(serviceRoots map[string]string, hash string) *RootSorter {
	weights := map[string]string{}
	uuids := make([]string, 0, len(serviceRoots))
	for uuid := range serviceRoots {
		suffix := uuid
		if len(uuid) == 27 {
			suffix = uuid[12:]
		}
		weights[uuid] = fmt.Sprintf("%x", md5.Sum([]byte(hash+suffix)))
		uuids = append(uuids, uuid)
	}
	sort.Slice(uuids, func(i, j int) bool {
		a, b := uuids[i], uuids[j]
		if weights[a] != weights[b] {
			return weights[a] > weights[b]
		}
		return a < b
	})
	rs := &RootSorter{}
	for _, uuid := range uuids {
		rs.sorted = append(rs.sorted, serviceRoots[uuid])
	}
	return rs
}

// GetSortedRoots is the base URLs, the one to try first in front.
func (rs RootSorter) GetSortedRoots() []string {
	return rs.sorted
}
