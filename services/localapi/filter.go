// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Filter is one condition on records: [Attrs..., Op, Operand].
type Filter struct {
	Attrs   []string // one of them must do; "any" is all that are searched
	Op      string
	Operand any
}

// Where is a filter on one attribute, for handlers.
func Where(attr, op string, operand any) Filter {
	return Filter{Attrs: []string{attr}, Op: op, Operand: operand}
}

// parseFilters reads the parameter "filters". Controller refuses objects as
// operands itself.
func parseFilters(raw json.RawMessage) ([]Filter, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	value, err := decodeJSON(raw)
	if err != nil {
		return nil, refuseAsController(500, "transcode: %s", err)
	}
	list, ok := value.([]any)
	if !ok {
		return nil, refuseAsController(500, "transcode: filters must be an array")
	}
	var filters []Filter
	for _, item := range list {
		if expr, ok := item.(string); ok {
			// Short form of an expression filter.
			filters = append(filters, Where(expr, "=", true))
			continue
		}
		parts, ok := item.([]any)
		if !ok {
			return nil, refuseAsController(500, "transcode: invalid filter %v: not an array", item)
		}
		if len(parts) != 3 {
			return nil, refuseAsController(500, "transcode: invalid filter array: expected 3 elements, got %d", len(parts))
		}
		f := Filter{Operand: parts[2]}
		switch attr := parts[0].(type) {
		case string:
			f.Attrs = []string{attr}
		case []any:
			for _, one := range attr {
				name, _ := one.(string)
				f.Attrs = append(f.Attrs, name)
			}
		}
		op, isString := parts[1].(string)
		if len(f.Attrs) == 0 || !isString {
			return nil, refuseAsController(500, "transcode: invalid filter: attribute and operator must be strings")
		}
		f.Op = strings.ToLower(op)
		if object, ok := f.Operand.(map[string]any); ok {
			return nil, refuseAsController(500, "transcode: invalid filter operand %q", object)
		}
		filters = append(filters, f)
	}
	return filters, nil
}

// parseWhere reads the parameter "where", the older form of filters: an object
// of attributes and their values.
func parseWhere(raw json.RawMessage) ([]Filter, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	value, err := decodeJSON(raw)
	object, ok := value.(map[string]any)
	if err != nil || !ok {
		return nil, argumentError("Could not parse \"where\" param as an object")
	}
	var filters []Filter
	for attr, value := range object {
		op := "="
		if _, isList := value.([]any); isList {
			op = "in"
		}
		filters = append(filters, Where(attr, op, value))
	}
	return filters, nil
}

// condition is a filter in SQL.
func (tx *Tx) condition(k *kind, f Filter) (string, []any, error) {
	attrs := f.Attrs
	if len(attrs) == 1 && attrs[0] == "any" {
		if f.Op == "like" || f.Op == "ilike" {
			return tx.searched(k, f)
		}
		attrs = k.search
	}
	var terms []string
	var args []any
	for _, attr := range attrs {
		term, values, err := tx.oneCondition(k, attr, f.Op, f.Operand)
		if err != nil {
			return "", nil, err
		}
		terms, args = append(terms, "("+term+")"), append(args, values...)
	}
	if len(terms) == 0 {
		return "0", nil, nil
	}
	return strings.Join(terms, " OR "), args, nil
}

// searched matches a pattern with the text of all that is searched.
func (tx *Tx) searched(k *kind, f Filter) (string, []any, error) {
	var parts []string
	for _, name := range k.search {
		parts = append(parts, "ifnull("+tx.expr(k, name)+", '')")
	}
	if len(parts) == 0 {
		return "0", nil, nil
	}
	return like(strings.Join(parts, " || ' ' || "), f.Op, f.Operand)
}

func like(expr, op string, operand any) (string, []any, error) {
	pattern, ok := operand.(string)
	if !ok {
		return "", nil, invalidOperand(operand, op)
	}
	return fmt.Sprintf("pg_like(%s, ?, %d)", expr, map[string]int{"like": 0, "ilike": 1}[op]), []any{pattern}, nil
}

func (tx *Tx) oneCondition(k *kind, name, op string, operand any) (string, []any, error) {
	if attr, key, ok := strings.Cut(name, "."); ok {
		if a := k.attr(attr); a == nil || a.typ != hash || attr != "properties" {
			return "", nil, argumentError("Invalid attribute '%s' for subproperty filter", attr)
		}
		if strings.HasPrefix(key, "<") && strings.HasSuffix(key, ">") {
			key = key[1 : len(key)-1]
		}
		return propertyCondition(k, key, op, operand)
	}
	a := k.attr(name)
	if op == "exists" {
		if a == nil || name != "properties" {
			return "", nil, argumentError("Invalid attribute '%s' for operator '%s' in filter", name, op)
		}
		key, _ := operand.(string)
		return propertyCondition(k, key, op, true)
	}
	if a == nil || a.secret || a.name == "manifest_text" || a.name == "unsigned_manifest_text" {
		return "", nil, argumentError("Invalid attribute '%s' in filter", name)
	}
	expr := tx.expr(k, name)
	switch op {
	case "=", "!=", "<>", "<", "<=", ">", ">=":
		return compare(a, expr, op, operand)
	case "like", "ilike":
		return like(expr, op, operand)
	case "in", "not in":
		return among(a, expr, op, operand)
	case "contains":
		return containsKeys(k, a, operand)
	case "is_a":
		return isA(expr, operand)
	}
	return "", nil, argumentError("Invalid operator '%s'", op)
}

// compare takes null, as SQL does, for neither equal nor smaller; but "!="
// also finds records that have nothing.
func compare(a *attribute, expr, op string, operand any) (string, []any, error) {
	if op == "!=" {
		op = "<>"
	}
	if operand == nil {
		switch op {
		case "=":
			return expr + " IS NULL", nil, nil
		case "<>":
			return expr + " IS NOT NULL", nil, nil
		}
		return "", nil, invalidOperand(operand, op)
	}
	value, err := operandFor(a, op, operand)
	if err != nil {
		return "", nil, err
	}
	term := expr + " " + op + " ?"
	if op == "<>" {
		term += " OR " + expr + " IS NULL"
	}
	return term, []any{value}, nil
}

// operandFor makes an operand comparable with what is stored.
func operandFor(a *attribute, op string, operand any) (any, error) {
	switch v := operand.(type) {
	case string:
		switch a.typ {
		case boolean:
			switch strings.ToLower(v) {
			case "1", "t", "true", "y", "yes":
				return true, nil
			case "0", "f", "false", "n", "no":
				return false, nil
			}
			return nil, argumentError("Invalid operand '%s' for boolean attribute '%s'", v, a.name)
		case datetime:
			return parseTime(v)
		case integer, float:
			return nil, argumentError("Invalid operand '%s' for integer attribute '%s'", v, a.name)
		}
		return v, nil
	case bool:
		if a.typ == boolean && (op == "=" || op == "<>") {
			return v, nil
		}
	case int64:
		if a.typ == integer || a.typ == float {
			return v, nil
		}
	case float64:
		if a.typ == float {
			return v, nil
		}
		if a.typ == integer {
			return nil, argumentError("Invalid operand '%v' for integer attribute '%s'", v, a.name)
		}
	}
	return nil, invalidOperand(operand, op)
}

// parseTime makes a time that a client wrote one that compares with stored
// ones.
func parseTime(s string) (string, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC().Format(timeFormat), nil
		}
	}
	return "", argumentError("no time information in %q", s)
}

func among(a *attribute, expr, op string, operand any) (string, []any, error) {
	list, ok := operand.([]any)
	if !ok {
		return "", nil, invalidOperand(operand, op)
	}
	values, hasNull := []any{}, false
	for _, item := range list {
		if item == nil {
			hasNull = true
			continue
		}
		value, err := operandFor(a, "=", item)
		if err != nil {
			return "", nil, err
		}
		values = append(values, value)
	}
	// As one parameter, since lists may be longer than SQLite's limit.
	buf, err := json.Marshal(values)
	if err != nil {
		return "", nil, err
	}
	term := fmt.Sprintf("%s %s (SELECT value FROM json_each(?))", expr, strings.ToUpper(op))
	if op == "not in" {
		if hasNull {
			return "0", nil, nil // as in SQL: nothing is known to differ from null
		}
		term += " OR " + expr + " IS NULL"
	}
	return term, []any{string(buf)}, nil
}

// isA matches UUIDs of kinds: ["head_uuid","is_a","arvados#collection"].
func isA(expr string, operand any) (string, []any, error) {
	names, ok := operand.([]any)
	if !ok {
		names = []any{operand}
	}
	var infixes []string
	for _, name := range names {
		for _, k := range kinds {
			if k.arvadosKind() == name {
				infixes = append(infixes, "'"+k.infix+"'")
			}
		}
	}
	return fmt.Sprintf("substr(%s, 7, 5) IN (%s)", expr, strings.Join(infixes, ", ")), nil, nil
}

func invalidOperand(operand any, op string) error {
	class := map[string]string{"<nil>": "NilClass", "bool": "TrueClass", "string": "String", "int64": "Integer",
		"float64": "Float", "[]interface {}": "Array"}[fmt.Sprintf("%T", operand)]
	if operand == false {
		class = "FalseClass"
	}
	return argumentError("Invalid operand type '%s' for '%s' operator in filters", class, op)
}
