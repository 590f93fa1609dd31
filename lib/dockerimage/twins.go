// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// withTwins are the keys that a strict vocabulary may not know. That of names is one
// that all servers reserve, so it has no twin.
var withTwins = []string{KeyHash, KeyTimestamp}

// WithTwins are the properties to write where an API server has refused to write
// raw with err: those of Twinned, if RefusesKeys. It is false if not.
func WithTwins(raw map[string]interface{}, err error) (map[string]interface{}, bool) {
	if !RefusesKeys(err) {
		return nil, false
	}
	return Twinned(raw)
}

// RefusesKeys reports whether an API server has refused properties of images because
// its vocabulary is strict.
func RefusesKeys(err error) bool {
	var refused *arvados.TransactionError
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusBadRequest {
		return false
	}
	said := strings.Join(refused.Errors, "\n")
	return slices.ContainsFunc(withTwins, func(key string) bool { return strings.Contains(said, strconv.Quote(key)) })
}

// Twinned are properties as servers with a strict vocabulary take them: those under
// keys that it may not know are under their twins. It is false if there are none.
func Twinned(raw map[string]interface{}) (map[string]interface{}, bool) {
	changed := false
	twinned := maps.Clone(raw)
	for _, key := range withTwins {
		if value, ok := raw[key]; ok {
			delete(twinned, key)
			twinned[Twin+key] = value
			changed = true
		}
	}
	return twinned, changed
}
