// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/services/localapi/containerrules"
)

// imageAPI is this server for package dockerimage: the lists that a user would
// get by HTTP, read in the transaction of the request for whose image they are.
// Manifests come unsigned, since nobody reads blocks by them here.
type imageAPI struct {
	tx   *Tx
	user *Caller
}

// searchedHash is how hashes are searched in the text of collections: of an
// image, as in the name of its file, or of its manifest.
var searchedHash = regexp.MustCompile(`^%(?:sha256:)?([0-9a-f]{12,64})(_*\.tar)?%$`)

// RequestAndDecodeContext answers lists of records alone.
func (a imageAPI) RequestAndDecodeContext(_ context.Context, dst any, method, path string, _ io.Reader, params any) error {
	k := kinds[strings.TrimPrefix(path, "arvados/v1/")]
	if method != "GET" || k == nil {
		return fmt.Errorf("%s %s: not a list", method, path)
	}
	sent, err := json.Marshal(params)
	if err != nil {
		return err
	}
	c := &Call{Method: method, Caller: a.user}
	if err := json.Unmarshal(sent, &c.Params); err != nil {
		return err
	}
	if err := a.searchByIndex(c.Params); err != nil {
		return err
	}
	result, err := list(a.tx, c, k)
	if err != nil {
		return err
	}
	found := result.(*page)
	for _, rec := range found.items {
		if manifest, ok := rec["manifest_text"].(string); ok {
			rec["manifest_text"] = containerrules.EscapeColons(manifest)
		}
	}
	answer, err := json.Marshal(map[string]any{"items": found.items, "limit": found.limit})
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, dst)
}

// searchByIndex replaces searches in the text of all collections, for which
// Arvados has an index that this server has not, by one in properties. What
// has a hash in neither its properties nor a link was found by it never.
func (a imageAPI) searchByIndex(p Params) error {
	var filters [][]any
	if err := json.Unmarshal(p["filters"], &filters); err != nil {
		return err
	}
	for i, f := range filters {
		pattern, _ := f[2].(string)
		m := searchedHash.FindStringSubmatch(pattern)
		if f[0] != "any" || m == nil {
			continue
		}
		key := dockerimage.KeyHash
		if m[2] == "" {
			key = dockerimage.KeyDigest
		}
		uuids, err := a.tx.withHash(key, "sha256:"+m[1])
		if err != nil {
			return err
		}
		filters[i] = []any{"uuid", "in", uuids}
	}
	var err error
	p["filters"], err = json.Marshal(filters)
	return err
}
