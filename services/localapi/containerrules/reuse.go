// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package containerrules

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"slices"
)

// identity are the attributes that must be equal for a container to be shared.
// Arvados does not compare users: who asks for the same gets the same.
var identity = []string{"command", "cwd", "environment", "output_path", "output_glob", "container_image", "mounts",
	"secret_mounts_md5"}

// FindReusable is the container among candidates that does what want (of
// NewContainer) would do, nil if there is none: one that is done well, the
// oldest first; else one that runs; else one that will. usable tells whether
// a collection of that hash exists, for a result that is gone is of no use.
func FindReusable(candidates []Record, want Record, usable func(pdh string) (bool, error)) (Record, error) {
	var done, running, waiting []Record
	for _, c := range candidates {
		if !alike(c, want) {
			continue
		}
		switch c["state"] {
		case Complete:
			if ok, err := isResult(c, usable); err != nil {
				return nil, err
			} else if ok {
				done = append(done, c)
			}
		case Running:
			if _, failing := asHash(c["runtime_status"])["error"]; !failing && asInt(c["priority"]) > 0 {
				running = append(running, c)
			}
		case Locked, Queued:
			if !isPreemptible(c) || isPreemptible(want) {
				waiting = append(waiting, c)
			}
		}
	}
	slices.SortStableFunc(done, func(a, b Record) int { return byTime(a, b, "finished_at") })
	slices.SortStableFunc(running, func(a, b Record) int {
		return cmp.Or(cmp.Compare(asFloat(b["progress"]), asFloat(a["progress"])), byTime(a, b, "started_at"))
	})
	slices.SortStableFunc(waiting, func(a, b Record) int {
		return cmp.Or(
			cmp.Compare(str(a["state"]), str(b["state"])), // Locked comes first
			cmp.Compare(asInt(b["priority"]), asInt(a["priority"])),
			byTime(a, b, "created_at"))
	})
	for _, found := range [][]Record{done, running, waiting} {
		if len(found) > 0 {
			return found[0], nil
		}
	}
	return nil, nil
}

func isResult(c Record, usable func(pdh string) (bool, error)) (bool, error) {
	if c["exit_code"] != int64(0) {
		return false, nil
	}
	for _, attr := range []string{"log", "output"} {
		if str(c[attr]) == "" {
			return false, nil
		}
		if ok, err := usable(str(c[attr])); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func byTime(a, b Record, attr string) int { return cmp.Compare(str(a[attr]), str(b[attr])) }

func isPreemptible(c Record) bool {
	return asHash(c["scheduling_parameters"])["preemptible"] == true
}

func alike(c, want Record) bool {
	for _, attr := range identity {
		if !same(c[attr], want[attr]) {
			return false
		}
	}
	return equal(constraintsThatCount(c, want), constraintsThatCount(want, want))
}

// constraintsThatCount are a container's constraints without what makes no difference:
// no GPUs, however that is said, and the size of Keep's cache, where it is the
// one wanted or a usual one.
func constraintsThatCount(c, want Record) map[string]any {
	wanted := asHash(want["runtime_constraints"])
	rc := map[string]any{}
	for key, value := range asHash(c["runtime_constraints"]) {
		switch key {
		case "gpu", "cuda":
			if asInt(asHash(value)["device_count"]) == 0 {
				continue
			}
		case "keep_cache_disk":
			usual := []any{int64(0), keepCacheDisk(asInt(wanted["ram"])), keepCacheDisk(0), keepCacheDisk(1 << 60)}
			if contains(usual, value) || equal(value, wanted[key]) {
				continue
			}
		case "keep_cache_ram":
			if isZero(value) || equal(value, wanted[key]) {
				continue
			}
		}
		rc[key] = value
	}
	return rc
}

// secretsHash stands for secret mounts when they are gone.
func secretsHash(secrets any) string {
	h := asHash(secrets)
	if h == nil {
		h = map[string]any{}
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(h); err != nil {
		panic("containerrules: " + err.Error()) // records are made of JSON
	}
	sum := md5.Sum(bytes.TrimSuffix(text.Bytes(), []byte("\n")))
	return hex.EncodeToString(sum[:])
}
