// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package containerrules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// runtimeConstraints checks that a committed request says what it needs, and
// any request that it says nothing that Arvados does not know.
func runtimeConstraints(p *problems, request Record) {
	const attr = "runtime_constraints"
	if p.attrs[attr] {
		return
	}
	rc := asHash(request[attr])
	if request["state"] == Committed {
		for _, key := range []string{"vcpus", "ram"} {
			if asInt(rc[key]) <= 0 {
				p.add(attr, fmt.Sprintf("[%s]=%s must be a positive integer", key, inspect(rc[key], byName)))
			}
		}
		if gpu, ok := rc["gpu"].(map[string]any); ok {
			gpus(p, gpu)
		} else {
			p.add(attr, "[gpu] must be a hash")
		}
	}
	extraKeys(p, attr, rc, "API", "gpu", "keep_cache_disk", "keep_cache_ram", "ram", "vcpus", "cuda")
}

func gpus(p *problems, gpu map[string]any) {
	const attr = "runtime_constraints"
	bad := func(key, want string) {
		p.add(attr, fmt.Sprintf("[gpu.%s]=%s %s", key, inspect(gpu[key], byName), want))
	}
	extraKeys(p, attr, gpu, "device_count", "driver_version", "hardware_target", "stack", "vram")
	if !slices.Contains([]any{nil, "", "cuda", "rocm"}, gpu["stack"]) {
		bad("stack", "must be one of 'cuda' or 'rocm' or be empty")
	}
	for _, key := range []string{"device_count", "vram"} {
		if n, ok := gpu[key].(int64); !ok || n < 0 {
			bad(key, "must be a positive or zero integer")
		}
	}
	if asInt(gpu["device_count"]) <= 0 {
		return
	}
	if version, ok := gpu["driver_version"].(string); !ok || castNumber(version) == 0.0 {
		bad("driver_version", "must be a string in format 'X.Y'")
	}
	targets, ok := gpu["hardware_target"].([]any)
	for _, target := range targets {
		_, isString := target.(string)
		ok = ok && isString
	}
	if !ok {
		bad("hardware_target", "must be an array of strings")
	}
}

// schedulingParameters checks how long and where a container may run.
// Embedded clusters have no preemptible instances.
func schedulingParameters(p *problems, c change) {
	const attr = "scheduling_parameters"
	if p.attrs[attr] {
		return
	}
	sp := asHash(c.is[attr])
	if partitions := sp["partitions"]; partitions != nil {
		items, ok := partitions.([]any)
		for _, item := range items {
			_, isString := item.(string)
			ok = ok && isString
		}
		if !ok {
			p.add(attr, "partitions must be an array of strings")
		}
	}
	if seconds, ok := sp["max_run_time"].(int64); !ok || seconds < 0 {
		p.add(attr, "max_run_time must be positive integer")
	}
	extraKeys(p, attr, sp, "max_run_time", "partitions", "preemptible", "supervisor")
	preemptible := sp["preemptible"] != nil && sp["preemptible"] != false
	if preemptible && c.is["state"] == Committed && c.changed("state") {
		p.add(attr, "preemptible instances are not configured in InstanceTypes")
	}
}

func extraKeys(p *problems, attr string, h map[string]any, allowed ...string) {
	extra := []any{}
	for _, key := range sortedKeys(h) {
		if !slices.Contains(allowed, key) {
			extra = append(extra, key)
		}
	}
	if len(extra) > 0 {
		p.add(attr, "contains unexpected keys "+inspect(extra, byName))
	}
}

// environment checks names and values for what no process can be given.
func environment(p *problems, env map[string]any) {
	const attr = "environment"
	if p.attrs[attr] {
		return
	}
	for _, key := range sortedKeys(env) {
		if strings.ContainsAny(key, "\x00=") {
			p.add(attr, fmt.Sprintf("key %s contains an invalid character NUL or '='", inspectString(key)))
		}
		if key == "" {
			p.add(attr, "key cannot be empty")
		}
		if value, ok := env[key].(string); !ok {
			p.add(attr, fmt.Sprintf("[%s]: incompatible value type: string required", key))
		} else if strings.Contains(value, "\x00") {
			p.add(attr, fmt.Sprintf("value for %s contains invalid character NUL", inspectString(key)))
		}
	}
}

// publishedPorts checks what a service lets the world see.
func publishedPorts(p *problems, request Record) {
	const attr = "published_ports"
	if request["service"] == true && request["use_existing"] == true {
		p.add("use_existing", "cannot be true if 'service' is true")
	}
	ports := asHash(request[attr])
	for _, port := range sortedKeys(ports) {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			p.add(attr, fmt.Sprintf("entry %s must be a decimal port number in the range 1-65535", port))
			continue
		}
		spec, ok := ports[port].(map[string]any)
		if !ok {
			p.add(attr, fmt.Sprintf("entry %s must be an hash: %s", port, inspect(ports[port], byName)))
			continue
		}
		for _, key := range sortedKeys(spec) {
			if !slices.Contains([]string{"access", "label", "initial_path"}, key) {
				p.add(attr, fmt.Sprintf("entry %s has invalid key: %s", port, inspectString(key)))
			}
		}
		if access := spec["access"]; access != "private" && access != "public" {
			p.add(attr, fmt.Sprintf("entry %s 'access' must be one of 'public' or 'private' but was: %s", port, inspect(access, byName)))
		}
		if label, ok := spec["label"].(string); !ok {
			p.add(attr, fmt.Sprintf("entry %s 'label' must be a string but was: %s", port, inspect(spec["label"], byName)))
		} else if label == "" {
			p.add(attr, fmt.Sprintf("entry %s 'label' cannot be empty", port))
		}
		if _, ok := spec["initial_path"].(string); !ok {
			p.add(attr, fmt.Sprintf("entry %s 'initial_path' must be a string but was: %s", port, inspect(spec["initial_path"], byName)))
		}
	}
}
