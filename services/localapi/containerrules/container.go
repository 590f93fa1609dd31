// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package containerrules

import (
	"fmt"
	"slices"
)

// ContainerCaller is who changes a container.
type ContainerCaller struct {
	Admin bool
	Token string // UUID of the caller's token
	Own   bool   // the token is the container's
}

// ContainerChange is what a client wants to make of a container. Prepare comes
// first, then Validate.
type ContainerChange struct {
	Was, Is Record
	Given   Given // what the client wrote
	Caller  ContainerCaller
	// OutputUnknown: Is has another output than Was, of which the caller can
	// read no collection.
	OutputUnknown bool
}

// Prepare fills in what a change of state brings with it. now is a time in
// TimeFormat.
func (r ContainerChange) Prepare(cfg Config, now string) *Refusal {
	was, is := str(r.Was["state"]), str(r.Is["state"])
	if was != is && is == Running && r.Is["started_at"] == nil {
		r.Is["started_at"] = now
	}
	if was != is && IsFinal(r.Is) && r.Is["finished_at"] == nil {
		r.Is["finished_at"] = now
	}
	if was == Queued && is == Locked {
		if asInt(r.Is["priority"]) <= 0 {
			return LockFailed("cannot lock when priority<=0")
		}
		r.Is["lock_count"] = asInt(r.Is["lock_count"]) + 1
	}
	if was == Locked && is == Queued {
		if r.Was["locked_by_uuid"] != r.Caller.Token {
			return PermissionDenied("locked by a different token")
		}
		if asInt(r.Is["lock_count"]) >= cfg.MaxDispatchAttempts {
			r.Is["state"] = Cancelled
			r.Is["finished_at"] = now
			r.Is["runtime_status"] = map[string]any{"error": fmt.Sprintf(
				"Failed to start container.  Cancelled after exceeding 'Containers.MaxDispatchAttempts' (lock_count=%d)", asInt(r.Is["lock_count"]))}
		}
	}
	return nil
}

// Validate is nil if the change may be made. It sets locked_by_uuid.
func (r ContainerChange) Validate() *Refusal {
	c := change{schema: Containers, was: r.Was, is: r.Is, given: r.Given}
	p := &problems{}
	for _, attr := range []string{"command", "container_image", "output_path", "cwd", "priority"} {
		if isBlank(c.is[attr]) {
			p.add(attr, "can't be blank")
		}
	}
	wholeNumber(p, "priority", c.is["priority"], -1)
	arrayOfStrings(p, "command", c.is["command"], true)
	mustBeHash(p, c.is, "environment", "mounts")
	arrayOfStrings(p, "output_glob", c.is["output_glob"], false)
	mustBeHash(p, c.is, "output_properties")
	arrayOfStrings(p, "output_storage_classes", c.is["output_storage_classes"], false)
	mustBeHash(p, c.is, "published_ports")
	arrayOfStrings(p, "runtime_auth_scopes", c.is["runtime_auth_scopes"], false)
	mustBeHash(p, c.is, "runtime_constraints", "runtime_status", "scheduling_parameters", "secret_mounts")
	for _, key := range []string{"error", "errorDetail", "warning", "warningDetail", "activity", "preemptionNotice"} {
		value, ok := asHash(c.is["runtime_status"])[key]
		if _, isString := value.(string); ok && !isString {
			p.add("runtime_status", fmt.Sprintf("'%s' value must be a string", key))
		}
	}
	c.state(p, containerTransitions)
	if refusal := r.permitted(c, p); refusal != nil {
		return refusal
	}
	r.holder(c, p)
	if r.OutputUnknown {
		p.add("output", "collection must exist and be readable by current user.")
	}
	if c.changed("auth_uuid") {
		p.add("auth_uuid", "is readonly")
	}
	return p.refusal()
}

// finalAttrs and progressAttrs are what a container's run leaves behind.
var (
	finalAttrs    = []string{"finished_at"}
	progressAttrs = []string{"progress", "runtime_status", "subrequests_cost", "cost", "log", "output",
		"output_properties", "exit_code"}
)

// permitted refuses changes that this caller must not make in this state.
func (r ContainerChange) permitted(c change, p *problems) *Refusal {
	was, is := str(c.was["state"]), str(c.is["state"])
	attrs := []string{"state"}
	switch is {
	case Locked:
		attrs = append(attrs, "priority", "runtime_status", "log", "lock_count")
	case Queued:
		attrs = append(attrs, "priority")
	case Running:
		attrs = append(append(attrs, "priority", "gateway_address"), progressAttrs...)
		if was != is {
			attrs = append(attrs, "started_at")
		}
		if c.was["interactive_session_started"] != true {
			attrs = append(attrs, "interactive_session_started")
		}
	case Complete:
		if was == Running {
			attrs = append(append(attrs, finalAttrs...), progressAttrs...)
		}
	case Cancelled:
		switch was {
		case Running:
			attrs = append(append(attrs, finalAttrs...), progressAttrs...)
		case Queued, Locked:
			attrs = append(attrs, "finished_at", "log", "runtime_status", "cost")
		}
	default:
		return nil // no such state, which has been said
	}
	holder := c.was["locked_by_uuid"]
	switch {
	case was == Running && r.Caller.Own:
		// The container itself must not touch what its user is told by log
		// and queue.
		attrs = without(append(attrs, finalAttrs...), []string{"log", "priority"})
	case !r.Caller.Admin:
		if refusal := p.refusal(); refusal != nil {
			return &Refusal{Status: 403, Messages: refusal.Messages}
		}
		return PermissionDenied("ArvadosModel::PermissionDeniedError")
	case holder != nil && holder != r.Caller.Token:
		attrs = without(attrs, progressAttrs)
	}
	c.onlyPermitted(p, attrs)
	return nil
}

// holder gives the lock to the caller, or takes it away.
func (r ContainerChange) holder(c change, p *problems) {
	var need any
	if HasToken(c.is) {
		if need = c.was["locked_by_uuid"]; need == nil {
			need = r.Caller.Token
		}
	}
	if c.changed("locked_by_uuid") && c.is["locked_by_uuid"] != need {
		p.add("locked_by_uuid", "can only change to "+str(need))
		return
	}
	c.is["locked_by_uuid"] = need
}

func without(attrs, unwanted []string) []string {
	return slices.DeleteFunc(slices.Clone(attrs), func(attr string) bool { return slices.Contains(unwanted, attr) })
}

// Settle is what else follows from a change that is valid.
func (r ContainerChange) Settle() {
	if r.Was["state"] == Locked && r.Is["state"] == Queued {
		r.Is["runtime_status"] = map[string]any{} // of the attempt that failed
	}
	if IsFinal(r.Is) && !IsFinal(r.Was) {
		Scrub(r.Is)
	}
}
