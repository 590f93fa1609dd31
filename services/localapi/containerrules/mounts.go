// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package containerrules

import (
	"fmt"
	"slices"
	"strings"
)

// mountFields are the fields that count for each kind of mount, beside kind.
var mountFields = map[string][]string{
	"collection": {"uuid", "portable_data_hash", "writable", "path", "exclude_from_output"},
	"tmp":        {"capacity", "device_type", "exclude_from_output"},
	"keep":       {"exclude_from_output"},
	"file":       {"path", "exclude_from_output"},
	"json":       {"content", "exclude_from_output"},
	"text":       {"content", "exclude_from_output"},
}

// mountTypes are the types of fields, in the order in which they are checked.
var mountTypes = []struct{ field, want string }{
	{"kind", "string"}, {"uuid", "string"}, {"portable_data_hash", "string"}, {"writable", "boolean"},
	{"path", "string"}, {"capacity", "integer"}, {"device_type", "value from list"}, {"exclude_from_output", "boolean"},
}

var deviceTypes = []any{"ram", "ssd", "disk", "network", ""}

// mounts checks mounts, secret mounts and the output path among them.
func mounts(p *problems, request Record) {
	for _, attr := range []struct {
		name    string
		streams []string
		kinds   []string
	}{
		{"mounts", []string{"stdin", "stdout", "stderr"}, []string{"collection", "tmp", "keep", "file", "json", "text"}},
		{"secret_mounts", []string{"stdin"}, []string{"json", "text"}},
	} {
		if p.attrs[attr.name] {
			continue
		}
		all := asHash(request[attr.name])
		for _, target := range sortedKeys(all) {
			if !slices.Contains(attr.streams, target) && !strings.HasPrefix(target, "/") {
				p.add(attr.name, fmt.Sprintf("[%s]: invalid target: must be %s or an absolute path", target, strings.Join(attr.streams, ", ")))
			}
			spec, ok := all[target].(map[string]any)
			if !ok {
				p.add(attr.name, fmt.Sprintf("[%s]: invalid mount specification: must be a hash, not a string", target))
				continue
			}
			mount(p, attr.name, target, spec, attr.kinds)
		}
	}
	path := str(request["output_path"])
	if _, ok := asHash(request["mounts"])[path]; !ok && !withoutMounts(request) {
		p.add("output_path", "must be a mount target")
	}
}

// withoutMounts is the shape in which builtin commands were first proposed to
// Arvados: nothing mounted, and so nowhere for the output to be.
func withoutMounts(request Record) bool {
	return IsBuiltinImage(str(request["container_image"])) &&
		request["output_path"] == "/" && len(asHash(request["mounts"])) == 0
}

func mount(p *problems, attr, target string, spec map[string]any, kinds []string) {
	kind, _ := spec["kind"].(string)
	if !slices.Contains(kinds, kind) {
		p.add(attr, fmt.Sprintf("[%s][kind]: unsupported value %s", target, inspect(spec["kind"], byName)))
		return
	}
	for _, t := range mountTypes {
		if value, ok := spec[t.field]; ok && !hasType(value, t.want) {
			p.add(attr, fmt.Sprintf("[%s][%s]: incompatible value type: %s required", target, t.field, t.want))
		}
	}
	if kind == "text" && !hasType(spec["content"], "string") {
		p.add(attr, fmt.Sprintf("[%s][content]: incompatible value type: string required", target))
	}
	for _, key := range sortedKeys(spec) {
		// Programs in Go send all fields, the unset ones as zeros.
		if key != "kind" && !slices.Contains(mountFields[kind], key) && !isZero(spec[key]) {
			p.add(attr, fmt.Sprintf("[%s][%s]: parameter is not supported for a %s mount", target, key, kind))
		}
	}
}

func hasType(v any, want string) (ok bool) {
	switch want {
	case "string":
		_, ok = v.(string)
	case "boolean":
		_, ok = v.(bool)
	case "integer":
		_, ok = v.(int64)
	default:
		ok = slices.Contains(deviceTypes, v)
	}
	return ok
}

// isZero tells whether v is what Go encodes for a field that is not set.
func isZero(v any) bool {
	return v == nil || v == "" || v == false || v == int64(0) || v == 0.0
}

// sameButZeros tells whether now differs from was only by zero values, as it
// does when a client sends back what it got.
func sameButZeros(was, now map[string]any) bool {
	if !slices.Equal(sortedKeys(was), sortedKeys(now)) {
		return false
	}
	for target, spec := range now {
		for key, value := range asHash(spec) {
			if !isZero(value) && !equal(asHash(was[target])[key], value) {
				return false
			}
		}
	}
	return true
}
