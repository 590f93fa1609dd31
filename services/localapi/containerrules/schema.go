// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package containerrules

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kind is what an attribute holds, which decides how given values are taken,
// compared and shown.
type kind int

const (
	text kind = iota
	integer
	checked // integer; what is none is left for validation
	number
	boolean
	moment
	hash      // kept as text, keys sorted by name
	list      // kept as text
	jsonbHash // keys sorted by length
	jsonbList
)

type attribute struct {
	name string
	kind kind
}

// Schema is the attributes of one kind of record, in the order in which
// Arvados checks them.
type Schema struct {
	class      string // as messages name it
	attributes []attribute
	// asJSON may come as JSON in a string.
	asJSON []string
}

// Requests is the schema of container requests.
var Requests = Schema{
	class: "ContainerRequest",
	attributes: []attribute{
		{"uuid", text}, {"owner_uuid", text}, {"name", text}, {"description", text}, {"properties", jsonbHash},
		{"state", text}, {"requesting_container_uuid", text}, {"container_uuid", text},
		{"container_count_max", integer}, {"mounts", hash}, {"runtime_constraints", hash},
		{"container_image", text}, {"environment", hash}, {"cwd", text}, {"command", list}, {"output_path", text},
		{"priority", checked}, {"expires_at", moment}, {"filters", text}, {"container_count", integer},
		{"use_existing", boolean}, {"scheduling_parameters", hash}, {"output_uuid", text}, {"log_uuid", text},
		{"output_name", text}, {"output_ttl", checked}, {"secret_mounts", jsonbHash}, {"runtime_token", text},
		{"output_storage_classes", jsonbList}, {"output_properties", jsonbHash}, {"cumulative_cost", number},
		{"output_glob", list}, {"service", boolean}, {"published_ports", jsonbHash},
	},
	asJSON: []string{"properties", "environment", "mounts", "runtime_constraints", "command", "filters",
		"scheduling_parameters", "secret_mounts"},
}

// Containers is the schema of containers.
var Containers = Schema{
	class: "Container",
	attributes: []attribute{
		{"uuid", text}, {"owner_uuid", text}, {"state", text}, {"started_at", moment}, {"finished_at", moment},
		{"log", text}, {"environment", hash}, {"cwd", text}, {"command", list}, {"output_path", text},
		{"mounts", hash}, {"runtime_constraints", hash}, {"output", text}, {"container_image", text},
		{"progress", number}, {"priority", checked}, {"exit_code", integer}, {"auth_uuid", text},
		{"locked_by_uuid", text}, {"scheduling_parameters", hash}, {"secret_mounts", jsonbHash},
		{"secret_mounts_md5", text}, {"runtime_status", jsonbHash}, {"runtime_user_uuid", text},
		{"runtime_auth_scopes", jsonbList}, {"runtime_token", text}, {"lock_count", integer},
		{"gateway_address", text}, {"interactive_session_started", boolean}, {"output_storage_classes", jsonbList},
		{"output_properties", jsonbHash}, {"cost", number}, {"subrequests_cost", number}, {"output_glob", list},
		{"service", boolean}, {"published_ports", jsonbHash},
	},
	asJSON: []string{"environment", "mounts", "runtime_constraints", "runtime_status", "command",
		"scheduling_parameters"},
}

// ignored attributes are the server's own; clients that send back what they
// got are not told off for them.
var ignored = []string{"kind", "etag", "href", "created_at", "modified_at", "modified_by_user_uuid", "modified_by_client_uuid"}

// Given is what a client sends, by attribute, as it wrote it.
type Given map[string]json.RawMessage

// Assign is a copy of old with the given values. It fails only for what cannot
// be a value of that attribute at all; Validate functions do the rest.
func (s Schema) Assign(old Record, given Given) (Record, *Refusal) {
	record := Record{}
	for name, value := range old {
		record[name] = value
	}
	for name := range given {
		known := slices.ContainsFunc(s.attributes, func(a attribute) bool { return a.name == name })
		if !known && !slices.Contains(ignored, name) {
			// With what Ruby 3.4 adds to the message.
			return nil, exception(422, "ActiveModel::UnknownAttributeError", fmt.Sprintf("unknown attribute '%s' for %s.\n\n"+
				"          raise UnknownAttributeError.new(self, k.to_s)\n          ^^^^^", name, s.class))
		}
	}
	for _, a := range s.attributes {
		raw, ok := given[a.name]
		if !ok {
			continue
		}
		value, err := decode(raw)
		if err != nil {
			return nil, exception(422, "ArgumentError", a.name+": "+err.Error())
		}
		if inner, ok := value.(string); ok && slices.Contains(s.asJSON, a.name) {
			if value, err = decode([]byte(inner)); err != nil {
				return nil, exception(422, "Oj::ParseError", "unexpected character (after ) at line 1, column 1 [parse.c:809]")
			}
		}
		value, refusal := a.cast(value)
		if refusal != nil {
			return nil, refusal
		}
		record[a.name] = value
	}
	return record, nil
}

// decode reads one JSON value; whole numbers become int64 if they fit.
func decode(raw []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	return plain(v), nil
}

// plain replaces json.Number in v.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, item := range v {
			v[key] = plain(item)
		}
	case []any:
		for i, item := range v {
			v[i] = plain(item)
		}
	}
	return scalar(v)
}

// scalar turns a json.Number into int64 or float64.
func scalar(v any) any {
	n, ok := v.(json.Number)
	if !ok {
		return v
	}
	if i, err := n.Int64(); err == nil {
		return i
	}
	return parseFloat(string(n))
}

// parseFloat never is infinite, which no reply could say.
func parseFloat(digits string) float64 {
	f, _ := strconv.ParseFloat(digits, 64)
	return max(-math.MaxFloat64, min(f, math.MaxFloat64))
}

// cast makes a given value one of the attribute's kind, where that is what
// Arvados does; validations find the rest.
func (a attribute) cast(v any) (any, *Refusal) {
	switch a.kind {
	case hash, list:
		return a.castSerialized(v)
	case jsonbHash:
		if v == nil {
			return map[string]any{}, nil
		}
	case jsonbList:
		if v == nil {
			return []any{}, nil
		}
	case text:
		switch v := v.(type) {
		case int64, float64, bool:
			return fmt.Sprint(v), nil
		case map[string]any, []any:
			return inspect(v, byName), nil
		}
	case number:
		return castNumber(v), nil
	case integer:
		return castInteger(v), nil
	case checked:
		if s, ok := v.(string); ok && wholeNumberText.MatchString(s) {
			return castInteger(s), nil
		}
	case moment:
		s, _ := v.(string)
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return nil, nil
		}
		return t.UTC().Format(TimeFormat), nil
	case boolean:
		switch v {
		case "false", "f", "0", "off", int64(0):
			return false, nil
		case nil, "":
			return nil, nil
		}
		if _, ok := v.(bool); !ok {
			return true, nil
		}
	}
	return v, nil
}

func (a attribute) castSerialized(v any) (any, *Refusal) {
	want, class := any(map[string]any{}), "Hash"
	if a.kind == list {
		want, class = []any{}, "Array"
	}
	if v == nil {
		return want, nil
	}
	_, isHash := v.(map[string]any)
	_, isList := v.([]any)
	if isHash && a.kind == hash || isList && a.kind == list {
		return v, nil
	}
	return nil, exception(422, "TypeError", fmt.Sprintf("parameter %s must be a %s", a.name, class))
}

var (
	leadingFloat    = regexp.MustCompile(`^\s*[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?`)
	wholeNumberText = regexp.MustCompile(`^[-+]?[0-9]+$`)
	leadingInteger  = regexp.MustCompile(`^\s*[-+]?[0-9]+`)
)

// castNumber takes the number that a text begins with, 0 if there is none.
func castNumber(v any) any {
	switch v := v.(type) {
	case int64:
		return float64(v)
	case float64:
		return v
	case string:
		return parseFloat(strings.TrimSpace(leadingFloat.FindString(v)))
	}
	return nil
}

// castInteger likewise, cutting off fractions.
func castInteger(v any) any {
	switch v := v.(type) {
	case int64:
		return v
	case float64:
		return int64(max(-1<<62, min(v, 1<<62)))
	case bool:
		if v {
			return int64(1)
		}
		return int64(0)
	case string:
		i, _ := strconv.ParseInt(strings.TrimSpace(leadingInteger.FindString(v)), 10, 64)
		return i
	}
	return nil
}
