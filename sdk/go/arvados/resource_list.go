// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import (
	"encoding/json"
	"fmt"
)

// ResourceListParams ask for a page of records. What is left at its zero
// value is not sent, so the server's own default holds.
type ResourceListParams struct {
	Select             []string `json:"select,omitempty"`
	Filters            []Filter `json:"filters,omitempty"`
	IncludeTrash       bool     `json:"include_trash,omitempty"`
	IncludeOldVersions bool     `json:"include_old_versions,omitempty"`
	Limit              *int     `json:"limit,omitempty"`
	Offset             int      `json:"offset,omitempty"`
	Order              string   `json:"order,omitempty"`
	Distinct           bool     `json:"distinct,omitempty"`
	Count              string   `json:"count,omitempty"` // "exact" or "none"
}

// Filter is one condition on records; in JSON it is a list of three,
// ["name","=","x"].
type Filter struct {
	Attr     string
	Operator string
	Operand  interface{}
}

// MarshalJSON has a pointer receiver, as in the genuine SDK: a Filter in a
// slice or behind a pointer becomes a list, a bare Filter value does not.
func (f *Filter) MarshalJSON() ([]byte, error) {
	return json.Marshal([]interface{}{f.Attr, f.Operator, f.Operand})
}

// UnmarshalJSON also takes a lone string, "(a < b)", which stands for
// ["(a < b)","=",true].
func (f *Filter) UnmarshalJSON(data []byte) error {
	var comparison string
	if json.Unmarshal(data, &comparison) == nil {
		*f = Filter{Attr: comparison, Operator: "=", Operand: true}
		return nil
	}
	var parts []interface{}
	if err := json.Unmarshal(data, &parts); err != nil || len(parts) != 3 {
		return fmt.Errorf("invalid filter %s: want a list of attribute, operator and operand", data)
	}
	attr, isAttr := parts[0].(string)
	operator, isOperator := parts[1].(string)
	if !isAttr || !isOperator {
		return fmt.Errorf("invalid filter %s: attribute and operator must be strings", data)
	}
	if _, isObject := parts[2].(map[string]interface{}); isObject {
		return fmt.Errorf("invalid filter operand in %s: an object", data)
	}
	*f = Filter{Attr: attr, Operator: operator, Operand: parts[2]}
	return nil
}
