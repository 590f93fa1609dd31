// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package containerrules

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Config is what the cluster's configuration says about containers.
type Config struct {
	MaxRetryAttempts    int64 // Containers.MaxRetryAttempts
	MaxDispatchAttempts int64 // Containers.MaxDispatchAttempts
	DefaultKeepCacheRAM int64 // Containers.DefaultKeepCacheRAM
}

// DefaultConfig is Arvados's default.
var DefaultConfig = Config{MaxRetryAttempts: 3, MaxDispatchAttempts: 10}

// Images of requests that run a builtin command instead of a container. They
// stand for themselves in the container record, and with them a request may do
// without mounts.
var builtinImages = []string{"arvados/builtin", "arvados/none"}

// IsBuiltinImage tells whether an image as a request names it is the name of
// the builtin commands.
func IsBuiltinImage(name string) bool { return slices.Contains(builtinImages, name) }

// What may change in a request: always, before it is committed, and after.
var (
	requestAlways = []string{"owner_uuid", "state", "name", "description", "properties"}
	requestBefore = []string{"command", "container_count_max", "container_image", "cwd", "environment", "filters",
		"mounts", "output_path", "output_glob", "priority", "runtime_token", "runtime_constraints", "container_uuid",
		"use_existing", "scheduling_parameters", "secret_mounts", "output_name", "output_ttl",
		"output_storage_classes", "output_properties", "service", "published_ports"}
	requestAfter = []string{"priority", "container_count_max", "container_uuid", "container_count"}
)

// NewRequest is a container request of which nothing has been said yet.
func NewRequest() Record {
	return Record{
		"properties": map[string]any{}, "command": []any{},
		"container_count": int64(0), "use_existing": true, "output_ttl": int64(0),
		"secret_mounts": map[string]any{}, "output_storage_classes": []any{"default"},
		"output_properties": map[string]any{}, "cumulative_cost": 0.0, "output_glob": []any{},
		"service": false, "published_ports": map[string]any{},
	}
}

// RequestChange is what a client wants to make of a container request.
type RequestChange struct {
	Was, Is Record // Is as Requests.Assign and FillRequest have left it
	New     bool   // Was is NewRequest
	Admin   bool   // the client is an admin
	// NotFound are attributes whose UUID names nothing that the client can
	// read.
	NotFound []string
	// TokenFails: Is has a runtime_token of its own, which is not good.
	TokenFails bool
}

// Validate is nil if the change may be made.
func (r RequestChange) Validate() *Refusal {
	c := change{schema: Requests, was: r.Was, is: r.Is}
	p := &problems{}
	for _, attr := range r.NotFound {
		p.add(attr, "'"+str(c.is[attr])+"' not found")
	}
	for _, attr := range []string{"command", "container_image", "output_path", "cwd"} {
		if isBlank(c.is[attr]) {
			p.add(attr, "can't be blank")
		}
	}
	wholeNumber(p, "output_ttl", c.is["output_ttl"], -1)
	wholeNumber(p, "priority", c.is["priority"], 1000)
	arrayOfStrings(p, "command", c.is["command"], true)
	mustBeHash(p, c.is, "environment", "mounts")
	arrayOfStrings(p, "output_glob", c.is["output_glob"], false)
	mustBeHash(p, c.is, "output_properties")
	arrayOfStrings(p, "output_storage_classes", c.is["output_storage_classes"], false)
	mustBeHash(p, c.is, "published_ports", "properties", "runtime_constraints", "scheduling_parameters", "secret_mounts")
	// Records that stay as they are must not fail for rules made later.
	if r.New || c.is["state"] == Committed {
		environment(p, asHash(c.is["environment"]))
		mounts(p, c.is)
		runtimeConstraints(p, c.is)
		schedulingParameters(p, c)
	}
	c.state(p, requestTransitions)
	c.onlyPermitted(p, r.permitted())
	for _, target := range sortedKeys(asHash(c.is["secret_mounts"])) {
		if _, both := asHash(c.is["mounts"])[target]; both {
			p.add("secret_mounts", "conflict with non-secret mounts")
			break
		}
	}
	if r.TokenFails {
		p.add("runtime_token", "failed validation")
	}
	publishedPorts(p, c.is)
	if len(p.messages) == 0 {
		r.assignment(p)
	}
	return p.refusal()
}

func (r RequestChange) permitted() []string {
	permitted := slices.Clone(requestAlways)
	if r.New || r.Was["state"] == Uncommitted {
		permitted = append(permitted, requestBefore...)
	}
	switch {
	case r.Is["state"] == Committed:
		permitted = append(permitted, requestAfter...)
		if r.Admin {
			permitted = append(permitted, "log_uuid")
		}
	case r.Is["state"] == Final && r.Was["state"] == Committed:
		permitted = append(permitted, "priority")
		if r.Admin {
			permitted = append(permitted, "output_uuid", "log_uuid")
		}
	}
	return permitted
}

// assignment checks who may choose a request's container, and that nobody
// counts them but the server.
func (r RequestChange) assignment(p *problems) {
	uuid := r.Is["container_uuid"]
	if !same(r.Was["container_uuid"], uuid) && uuid != nil && !r.Admin {
		p.add("container_uuid", "can only be updated to nil.")
	} else if !same(r.Was["container_count"], r.Is["container_count"]) {
		p.add("container_count", "cannot be updated directly.")
	}
}

func isBlank(v any) bool {
	if s, ok := v.(string); ok {
		return strings.TrimSpace(s) == ""
	}
	return isNothing(v)
}

// wholeNumber checks for 0 or more, and for no more than most unless that is
// negative.
func wholeNumber(p *problems, attr string, v any, most int64) {
	n, ok := v.(int64)
	_, fraction := v.(float64)
	switch {
	case fraction:
		p.add(attr, "must be an integer")
	case !ok:
		p.add(attr, "is not a number")
	case n < 0:
		p.add(attr, "must be greater than or equal to 0")
	case most >= 0 && n > most:
		p.add(attr, fmt.Sprintf("must be less than or equal to %d", most))
	}
}

func arrayOfStrings(p *problems, attr string, v any, emptyToo bool) {
	items, ok := v.([]any)
	for _, item := range items {
		s, isString := item.(string)
		ok = ok && isString && (s != "" || emptyToo)
	}
	if ok {
		return
	}
	if emptyToo {
		p.add(attr, "must be an array of strings")
	} else {
		p.add(attr, "must be an array of non-empty strings")
	}
}

func mustBeHash(p *problems, record Record, attrs ...string) {
	for _, attr := range attrs {
		if _, ok := record[attr].(map[string]any); !ok {
			p.add(attr, "must be a hash")
		}
	}
}

func sortedKeys(m map[string]any) []string {
	return slices.Sorted(maps.Keys(m))
}
