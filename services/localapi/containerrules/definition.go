// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package containerrules

import (
	"maps"
	"time"
)

// Definition is what makes two containers do the same: what a request asks
// for, with image and mounts resolved to content.
type Definition struct {
	Image  string // portable data hash, or the name of a builtin image
	Mounts map[string]any
	// User is whose rights the container has, with Scopes.
	User   string
	Scopes []any
}

// NewContainer is the container for a request that shares none.
func NewContainer(request Record, def Definition, cfg Config) Record {
	return Record{
		"state": Queued, "priority": int64(0), "lock_count": int64(0),
		"command": request["command"], "cwd": request["cwd"], "environment": request["environment"],
		"output_path": request["output_path"], "output_glob": request["output_glob"],
		"container_image": def.Image, "mounts": def.Mounts,
		"runtime_constraints":   containerConstraints(asHash(request["runtime_constraints"]), cfg),
		"scheduling_parameters": request["scheduling_parameters"],
		"secret_mounts":         request["secret_mounts"], "secret_mounts_md5": secretsHash(request["secret_mounts"]),
		"runtime_token": request["runtime_token"], "runtime_user_uuid": def.User, "runtime_auth_scopes": def.Scopes,
		"output_storage_classes": request["output_storage_classes"],
		"service":                request["service"], "published_ports": request["published_ports"],
		"runtime_status": map[string]any{}, "output_properties": map[string]any{},
		"cost": 0.0, "subrequests_cost": 0.0, "interactive_session_started": false,
		"started_at": nil, "finished_at": nil, "log": nil, "output": nil, "progress": nil, "exit_code": nil,
		"auth_uuid": nil, "locked_by_uuid": nil, "gateway_address": nil,
	}
}

// ResolveMounts puts portable data hashes in the place of collections' UUIDs,
// so that the container record says what exactly was there. find is the hash
// of a collection that the user can read, "" if there is none.
func ResolveMounts(mounts map[string]any, find func(uuid string) (string, error)) (map[string]any, *Refusal, error) {
	resolved := map[string]any{}
	for _, target := range sortedKeys(mounts) {
		spec := maps.Clone(asHash(mounts[target]))
		resolved[target] = spec
		uuid := str(spec["uuid"])
		if spec["kind"] != "collection" {
			continue
		}
		delete(spec, "uuid")
		if uuid == "" || str(spec["portable_data_hash"]) != "" {
			continue
		}
		pdh, err := find(uuid)
		if err != nil {
			return nil, nil, err
		}
		if pdh == "" {
			return nil, Unresolvable("cannot mount collection " + inspectString(uuid) + ": not found"), nil
		}
		spec["portable_data_hash"] = pdh
	}
	return resolved, nil, nil
}

const gibibyte = 1 << 30

// containerConstraints says what a request leaves to the server.
func containerConstraints(rc map[string]any, cfg Config) map[string]any {
	rc = maps.Clone(rc)
	if isZero(rc["keep_cache_ram"]) {
		rc["keep_cache_ram"] = cfg.DefaultKeepCacheRAM
	}
	if isZero(rc["keep_cache_ram"]) && isZero(rc["keep_cache_disk"]) {
		rc["keep_cache_disk"] = keepCacheDisk(asInt(rc["ram"]))
	}
	return rc
}

// keepCacheDisk is as large as the container's memory, within 2 and 32 GiB.
func keepCacheDisk(ram int64) int64 { return max(2*gibibyte, min(ram, 32*gibibyte)) }

// priorityStep is 2^50, so that the request's own priority always outweighs
// its age in milliseconds.
const priorityStep = 1 << 50

// RequestPriority is what a request by a user contributes to the priority of
// its container: its own, and among equal ones the older first. 0 means that
// the request does not want its container now.
func RequestPriority(request Record) int64 {
	priority := asInt(request["priority"])
	if request["state"] != Committed || priority <= 0 {
		return 0
	}
	created, err := time.Parse(TimeFormat, str(request["created_at"]))
	if err != nil {
		return priority * priorityStep
	}
	return priority*priorityStep - roundedMillis(created)
}

func roundedMillis(t time.Time) int64 { return t.Round(time.Millisecond).UnixMilli() }

// CanRetry tells whether a request whose container was cancelled gets another
// one. parent is the container that submitted the request, nil if none did.
func CanRetry(request, parent Record) bool {
	return request["state"] == Committed && asInt(request["priority"]) > 0 &&
		asInt(request["container_count"]) < asInt(request["container_count_max"]) &&
		(parent == nil || parent["state"] == Running && asInt(parent["priority"]) > 0)
}

// Retry is the next container after a cancelled one, for requests that CanRetry.
// It has the cancelled one's secrets from before it was cancelled, but like in
// Arvados not its storage classes and ports.
func Retry(cancelled Record, requests []Record) Record {
	next := maps.Clone(NewContainer(cancelled, Definition{
		Image:  str(cancelled["container_image"]),
		Mounts: asHash(cancelled["mounts"]),
		User:   str(cancelled["runtime_user_uuid"]),
		Scopes: asList(cancelled["runtime_auth_scopes"]),
	}, Config{}))
	next["runtime_constraints"] = cancelled["runtime_constraints"]
	next["scheduling_parameters"] = commonScheduling(requests)
	next["output_storage_classes"] = []any{"default"}
	next["service"] = false
	next["published_ports"] = map[string]any{}
	return next
}

// commonScheduling suits all of the requests.
func commonScheduling(requests []Record) map[string]any {
	common := map[string]any{"partitions": []any{}, "preemptible": true, "supervisor": false, "max_run_time": int64(0)}
	for i, request := range requests {
		sp := asHash(request["scheduling_parameters"])
		partitions, so := asList(sp["partitions"]), asList(common["partitions"])
		limit, longest := asInt(sp["max_run_time"]), asInt(common["max_run_time"])
		switch {
		case i == 0:
			common["partitions"], common["max_run_time"] = partitions, limit
		default:
			common["partitions"] = union(so, partitions)
			if longest > 0 && limit > longest || limit == 0 {
				common["max_run_time"] = limit
			}
		}
		if sp["preemptible"] != true {
			common["preemptible"] = false
		}
		if sp["supervisor"] == true {
			common["supervisor"] = true
		}
	}
	return common
}

// union is everywhere ([]) if either is.
func union(a, b []any) []any {
	if len(a) == 0 || len(b) == 0 {
		return []any{}
	}
	all := append([]any{}, a...)
	for _, item := range b {
		if !contains(all, item) {
			all = append(all, item)
		}
	}
	return all
}

func contains(items []any, item any) bool {
	for _, other := range items {
		if equal(other, item) {
			return true
		}
	}
	return false
}
