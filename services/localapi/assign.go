// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// sentBack are names in replies that are no attributes.
var sentBack = []string{"kind", "etag", "href", "self_link", "modified_by_client_uuid", "can_write", "can_manage", "writable_by"}

// assign puts what a client gave into a record.
func assign(k *kind, rec Record, given Given) error {
	for name, raw := range given {
		a := k.attr(name)
		if a == nil || a.secret {
			if slices.Contains(sentBack, name) {
				continue
			}
			// With what Ruby 3.4 adds to the message.
			return refuse(422, fmt.Sprintf("#<ActiveModel::UnknownAttributeError: unknown attribute '%s' for %s.\n\n"+
				"          raise UnknownAttributeError.new(self, k.to_s)\n          ^^^^^>", name, k.class))
		}
		if a.fixed {
			continue
		}
		value, err := decodeJSON(raw)
		if err != nil {
			return refuseAsController(400, "%s: %s", name, err)
		}
		if rec[name], err = cast(k, a, value); err != nil {
			return err
		}
	}
	return nil
}

// cast makes a value one of the attribute's type, where Arvados would.
func cast(k *kind, a *attribute, value any) (any, error) {
	if value == nil {
		switch a.typ {
		case hash, array:
			return a.null, nil
		}
		return nil, nil
	}
	s, isString := value.(string)
	switch a.typ {
	case text, longText:
		switch value.(type) {
		case string:
			return value, nil
		case int64, float64, bool:
			return fmt.Sprint(value), nil
		}
	case datetime:
		if t, err := parseTime(s); err == nil {
			return t, nil
		}
		return nil, nil
	case boolean:
		if isString {
			return !slices.Contains([]string{"", "false", "f", "0", "off"}, strings.ToLower(s)), nil
		}
		if value == int64(0) {
			return false, nil
		}
		return value != false, nil
	case integer:
		switch v := value.(type) {
		case int64:
			return v, nil
		case float64:
			return int64(v), nil
		case string:
			n, _ := strconv.ParseInt(v, 10, 64)
			return n, nil
		}
	case hash, array:
		if isString {
			if err := json.Unmarshal([]byte(s), &value); err != nil {
				return nil, refuseException(422, "Oj::ParseError", "unexpected character")
			}
			value = withoutNumbers(value)
		}
		_, isHash := value.(map[string]any)
		_, isArray := value.([]any)
		if isHash && a.typ == hash || isArray && a.typ == array {
			return value, nil
		}
		return nil, refuse(422, fmt.Sprintf("%s must be %s", human(a.name), map[valueType]string{hash: "a hash", array: "an array"}[a.typ]))
	}
	return nil, refuse(422, fmt.Sprintf("%s cannot be %T", human(a.name), value))
}

// human is an attribute's name as messages begin with it: "Owner uuid".
func human(name string) string {
	words := strings.ReplaceAll(name, "_", " ")
	return strings.ToUpper(words[:1]) + words[1:]
}

// checkProperties is controller's own look at properties.
func checkProperties(given Given) error {
	raw, ok := given["properties"]
	if !ok || string(raw) == "null" {
		return nil
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return refuseAsController(400, "%s", err)
	}
	if s, ok := value.(string); ok {
		var object map[string]any
		if err := json.Unmarshal([]byte(s), &object); err != nil {
			return refuseAsController(500, "%s", err)
		}
		return nil
	}
	if _, ok := value.(map[string]any); !ok {
		return refuseAsController(500, "unexpected properties type %T", value)
	}
	return nil
}

// notUnique is PostgreSQL's message about a unique index.
func notUnique(table, columns string, values ...any) string {
	shown := make([]string, len(values))
	for i, v := range values {
		shown[i] = fmt.Sprint(v)
	}
	return fmt.Sprintf("#<ActiveRecord::RecordNotUnique: PG::UniqueViolation: ERROR:  duplicate key value violates unique constraint \"index_%s_on_%s\"\n"+
		"DETAIL:  Key (%s)=(%s) already exists.\n>",
		table, strings.ReplaceAll(columns, ", ", "_and_"), columns, strings.Join(shown, ", "))
}
