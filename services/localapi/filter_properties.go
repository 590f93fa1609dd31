// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"strings"

	"modernc.org/sqlite"
)

func init() {
	// PostgreSQL's LIKE and ILIKE; SQLite's own knows no case.
	sqlite.MustRegisterDeterministicScalarFunction("pg_like", 3, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		if args[0] == nil {
			return false, nil
		}
		return isLike(fmt.Sprint(args[0]), fmt.Sprint(args[1]), args[2] == int64(1)), nil
	})
}

// propertyCondition is a condition on one key of the properties. The semantics
// are those of PostgreSQL's jsonb as RailsAPI uses it: "=" matches a scalar but
// no member of a list, "contains" matches either; "!=" and "not in" also find
// records without the key.
func propertyCondition(k *kind, key, op string, operand any) (string, []any, error) {
	// rows are the rows of the index for this key that fulfil a condition.
	rows := func(condition string, args ...any) (string, []any) {
		return "t.uuid IN (SELECT p.uuid FROM properties p WHERE p.kind = ? AND p.key = ? AND " + condition + ")",
			append([]any{k.plural, key}, args...)
	}
	switch op {
	case "=", "!=":
		term, args, err := propertyEquals(rows, operand, "p.listed = 0")
		if op == "!=" {
			term = "NOT (" + term + ")"
		}
		return term, args, err
	case "contains":
		return propertyEquals(rows, operand, "1")
	case "in":
		list, ok := operand.([]any)
		if !ok {
			return "", nil, invalidOperand(operand, op)
		}
		terms, args := []string{"0"}, []any{}
		for _, item := range list {
			term, values, err := propertyEquals(rows, item, "p.listed = 0")
			if err != nil {
				return "", nil, err
			}
			terms, args = append(terms, term), append(args, values...)
		}
		return strings.Join(terms, " OR "), args, nil
	case "not in":
		list, ok := operand.([]any)
		if !ok {
			return "", nil, invalidOperand(operand, op)
		}
		texts := make([]string, len(list))
		for i, item := range list {
			texts[i] = fmt.Sprint(item)
		}
		buf, err := json.Marshal(texts)
		if err != nil {
			return "", nil, err
		}
		term, args := rows("p.listed = 0 AND p.tag <> 'z' AND CAST(p.value AS TEXT) IN (SELECT value FROM json_each(?))", string(buf))
		return "NOT " + term, args, nil
	case "<", "<=", ">", ">=":
		tag, value, err := propertyValue(operand)
		if err != nil {
			return "", nil, err
		}
		term, args := rows("p.listed = 0 AND p.tag = ? AND p.value "+op+" ?", tag, value)
		return term, args, nil
	case "like", "ilike":
		match, values, err := like("p.value", op, operand)
		if err != nil {
			return "", nil, err
		}
		term, args := rows("p.listed = 0 AND p.tag <> 'z' AND "+match, values...)
		return term, args, nil
	case "exists":
		term, args := rows("p.listed = 0")
		switch operand {
		case true:
			return term, args, nil
		case false:
			return "NOT " + term, args, nil
		}
		return "", nil, argumentError("Invalid operand '%v' for '%s' must be true or false", operand, op)
	}
	return "", nil, argumentError("Invalid operator for subproperty search '%s'", op)
}

// propertyEquals finds a scalar in rows that fulfil the condition, or lists
// that have all members of a list.
func propertyEquals(rows func(string, ...any) (string, []any), operand any, condition string) (string, []any, error) {
	list, isList := operand.([]any)
	if !isList {
		tag, value, err := propertyValue(operand)
		if err != nil {
			return "", nil, err
		}
		term, args := rows(condition+" AND p.tag = ? AND p.value = ?", tag, value)
		return term, args, nil
	}
	term, args := rows("p.listed = 0 AND p.tag = 'j' AND p.value LIKE '[%'")
	terms := []string{term}
	for _, item := range list {
		tag, value, err := propertyValue(item)
		if err != nil {
			return "", nil, err
		}
		term, values := rows("p.listed = 1 AND p.tag = ? AND p.value = ?", tag, value)
		terms, args = append(terms, term), append(args, values...)
	}
	return strings.Join(terms, " AND "), args, nil
}

// containsKeys is the filter ["properties","contains",KEYS]: all of the keys
// are there.
func containsKeys(k *kind, a *attribute, operand any) (string, []any, error) {
	if a.name != "properties" {
		return "", nil, argumentError("Invalid attribute '%s' for 'contains' operator", a.name)
	}
	keys, ok := operand.([]any)
	if !ok {
		keys = []any{operand}
	}
	if len(keys) == 0 {
		return "", nil, argumentError("Invalid operand '[]' for 'contains' operator")
	}
	var terms []string
	var args []any
	for _, key := range keys {
		name, ok := key.(string)
		if !ok {
			return "", nil, argumentError(`Invalid element in operand for "contains" operator (operand must be a string or array of strings)`)
		}
		term, values, err := propertyCondition(k, name, "exists", true)
		if err != nil {
			return "", nil, err
		}
		terms, args = append(terms, term), append(args, values...)
	}
	return strings.Join(terms, " AND "), args, nil
}
