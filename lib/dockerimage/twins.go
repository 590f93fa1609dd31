// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// WithTwins are the properties to write where an API server has refused to write
// raw with err, because its vocabulary is strict: those under keys that it may not
// know are under their twins then. It is false if that was not the reason. The key
// of names is one that all servers reserve.
func WithTwins(raw map[string]interface{}, err error) (map[string]interface{}, bool) {
	var refused *arvados.TransactionError
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusBadRequest {
		return nil, false
	}
	said := strings.Join(refused.Errors, "\n")
	changed := false
	twinned := maps.Clone(raw)
	for _, key := range []string{keyHash, keyTimestamp} {
		if value, ok := raw[key]; ok {
			delete(twinned, key)
			twinned[twin+key] = value
			changed = changed || strings.Contains(said, strconv.Quote(key))
		}
	}
	return twinned, changed
}
