// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package containerrules

import (
	"fmt"
	"reflect"
	"slices"
)

// States of container requests and containers.
const (
	Uncommitted = "Uncommitted"
	Committed   = "Committed"
	Final       = "Final"

	Queued    = "Queued"
	Locked    = "Locked"
	Running   = "Running"
	Complete  = "Complete"
	Cancelled = "Cancelled"
)

// The states that may follow a state; "" stands for a record that is new.
var (
	requestTransitions = map[string][]string{
		"":          {Uncommitted, Committed},
		Uncommitted: {Committed},
		Committed:   {Final},
	}
	containerTransitions = map[string][]string{
		"":       {Queued},
		Queued:   {Locked, Cancelled},
		Locked:   {Queued, Running, Cancelled},
		Running:  {Complete, Cancelled},
		Complete: {Cancelled},
	}
)

// IsFinal tells whether a container will never run (again).
func IsFinal(container Record) bool {
	return container["state"] == Complete || container["state"] == Cancelled
}

// HasToken tells whether a container in this state has a token that works.
func HasToken(container Record) bool {
	return container["state"] == Locked || container["state"] == Running
}

// change is one record before and after.
type change struct {
	schema  Schema
	was, is Record
	given   Given // what the client wrote, for messages; nil where the order of keys is lost
}

func (c change) changed(attr string) bool { return !same(c.was[attr], c.is[attr]) }

// state checks the step from one state to the next.
func (c change) state(p *problems, transitions map[string][]string) {
	if !c.changed("state") {
		return
	}
	was, is := str(c.was["state"]), str(c.is["state"])
	if !slices.Contains(transitions[was], is) {
		p.add("state", fmt.Sprintf("cannot change from %s to %s", was, is))
	}
}

// onlyPermitted refuses changes of all attributes but the permitted ones.
func (c change) onlyPermitted(p *problems, permitted []string) {
	for _, a := range c.schema.attributes {
		if slices.Contains(permitted, a.name) || !c.changed(a.name) {
			continue
		}
		p.add(a.name, fmt.Sprintf("cannot be modified in state '%s' (%s, %s)",
			str(c.is["state"]), a.inspectWas(c.was[a.name]), c.inspectIs(a)))
	}
}

func (a attribute) inspectWas(v any) string {
	switch a.kind {
	case moment:
		return inspectTime(v)
	case number:
		return inspect(castNumber(v), byName) // a whole one is stored without its point
	case jsonbHash, jsonbList:
		return inspect(v, byLength)
	}
	return inspect(v, byName)
}

func (c change) inspectIs(a attribute) string {
	raw, ok := c.given[a.name]
	switch {
	case a.kind == moment:
		return inspectTime(c.is[a.name])
	case ok && isNested(c.is[a.name]):
		return inspectWritten(raw)
	}
	return inspect(c.is[a.name], byName)
}

func isNested(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

// same compares as Arvados does: nothing, an empty list and an empty hash are
// all the same, and so are 1 and 1.0.
func same(a, b any) bool {
	return isNothing(a) && isNothing(b) || equal(a, b)
}

func isNothing(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

func equal(a, b any) bool {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for key, item := range x {
			other, ok := y[key]
			if !ok || !equal(item, other) {
				return false
			}
		}
		return true
	case []any:
		y, ok := b.([]any)
		return ok && slices.EqualFunc(x, y, equal)
	case int64:
		if y, ok := b.(float64); ok {
			return float64(x) == y
		}
	case float64:
		if y, ok := b.(int64); ok {
			return x == float64(y)
		}
	}
	return reflect.DeepEqual(a, b)
}

// str is v if it is a string, else "".
func str(v any) string {
	s, _ := v.(string)
	return s
}

func asHash(v any) map[string]any {
	h, _ := v.(map[string]any)
	return h
}

func asList(v any) []any {
	l, _ := v.([]any)
	return l
}

func asInt(v any) int64 {
	i, _ := v.(int64)
	return i
}

func asFloat(v any) float64 {
	switch v := v.(type) {
	case float64:
		return v
	case int64:
		return float64(v)
	}
	return 0
}
