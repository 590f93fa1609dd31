// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package containerrules

import "maps"

// Fill puts defaults where the client of a container request left something
// out, before the request is validated: in all of a new one, and inside of
// runtime constraints and scheduling parameters always. Mounts that differ
// from the old ones by zero values only become the old ones.
func (r RequestChange) Fill(cfg Config) {
	if r.New {
		defaults := Record{
			"state": Uncommitted, "environment": map[string]any{}, "runtime_constraints": map[string]any{},
			"mounts": map[string]any{}, "secret_mounts": map[string]any{}, "cwd": ".",
			"container_count_max": cfg.MaxRetryAttempts, "scheduling_parameters": map[string]any{},
			"output_ttl": int64(0), "output_glob": []any{}, "priority": int64(0),
		}
		for attr, value := range defaults {
			if r.Is[attr] == nil {
				r.Is[attr] = value
			}
		}
	}
	if rc, ok := r.Is["runtime_constraints"].(map[string]any); ok {
		r.Is["runtime_constraints"] = fillConstraints(rc)
	}
	if sp, ok := r.Is["scheduling_parameters"].(map[string]any); ok {
		r.Is["scheduling_parameters"] = over(sp, map[string]any{
			"max_run_time": int64(0), "partitions": []any{}, "preemptible": false, "supervisor": false,
		})
	}
	committed := !r.New && r.Was["state"] != Uncommitted
	if committed && sameButZeros(asHash(r.Was["mounts"]), asHash(r.Is["mounts"])) {
		r.Is["mounts"] = r.Was["mounts"]
	}
}

func fillConstraints(rc map[string]any) map[string]any {
	rc = over(rc, map[string]any{
		"API": false, "gpu": map[string]any{}, "keep_cache_disk": int64(0), "keep_cache_ram": int64(0),
		"ram": int64(0), "vcpus": int64(0),
	})
	// What asks for GPUs in the way of Arvados 3.0 gets them in today's too.
	if cuda := asHash(rc["cuda"]); asInt(cuda["device_count"]) > 0 {
		rc["gpu"] = map[string]any{
			"device_count": cuda["device_count"], "driver_version": cuda["driver_version"],
			"hardware_target": []any{cuda["hardware_capability"]}, "stack": "cuda", "vram": int64(0),
		}
	}
	if gpu, ok := rc["gpu"].(map[string]any); ok {
		rc["gpu"] = over(gpu, map[string]any{
			"device_count": int64(0), "driver_version": "", "hardware_target": []any{}, "stack": "", "vram": int64(0),
		})
	}
	return rc
}

// over is values on top of defaults.
func over(values, defaults map[string]any) map[string]any {
	maps.Copy(defaults, values)
	return defaults
}

// Scrub removes secrets from a container request or container that is final.
func Scrub(record Record) {
	record["secret_mounts"] = map[string]any{}
	record["runtime_token"] = nil
}

// mountDefaults are the fields of a mount as replies have them.
var mountDefaults = map[string]any{
	"capacity": int64(0), "content": nil, "device_type": "", "exclude_from_output": false, "kind": "",
	"path": "", "portable_data_hash": "", "uuid": "", "writable": false,
}

// RequestReply is a container request as replies show it: without secrets,
// mounts with all of their fields, numbers that are not there as 0. Stored
// requests, and containers, keep mounts as they were given.
func RequestReply(request Record) Record {
	reply := maps.Clone(request)
	delete(reply, "secret_mounts")
	reply["runtime_token"] = ""
	all := map[string]any{}
	for target, spec := range asHash(request["mounts"]) {
		all[target] = over(asHash(spec), maps.Clone(mountDefaults))
	}
	reply["mounts"] = all
	for _, attr := range []string{"priority", "output_ttl", "cumulative_cost"} {
		if reply[attr] == nil {
			reply[attr] = int64(0)
		}
	}
	for _, attr := range []string{"use_existing", "service"} {
		if reply[attr] == nil {
			reply[attr] = false
		}
	}
	for _, attr := range []string{"description", "output_name", "container_uuid", "output_uuid", "log_uuid", "requesting_container_uuid"} {
		if reply[attr] == "" {
			reply[attr] = nil
		}
	}
	if reply["name"] == nil {
		reply["name"] = ""
	}
	return reply
}

// ContainerReply is a container as replies show it: without secrets.
func ContainerReply(container Record) Record {
	reply := maps.Clone(container)
	delete(reply, "secret_mounts")
	delete(reply, "secret_mounts_md5")
	delete(reply, "runtime_token")
	return reply
}
