// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun

import (
	"context"
	"encoding/json"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/keepfile/keepaccess"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// HasLabel reports whether the image in the collection of that portable data hash
// is one for builtin commands, by its own config: anybody may give any image a
// name. Of most layers it reads the beginnings at most, but zstd ones, as docker
// pull may have stored them, it reads from end to end; the caller's ctx limits how
// long that takes. Images that are built upon such an image have the label too.
func HasLabel(ctx context.Context, client *arvados.Client, pdh string) (bool, error) {
	var coll arvados.Collection
	err := builtin.CallAPI(ctx, client, &coll, "GET", "collections/"+pdh, map[string]interface{}{
		"select": []string{"uuid", "portable_data_hash", "manifest_text"},
	})
	if err != nil {
		return false, err
	}
	kc, err := keepaccess.Open(ctx, client)
	if err != nil {
		return false, err
	}
	img, err := dockerimage.Open(ctx, kc, dockerimage.Found{PDH: pdh, ManifestText: coll.ManifestText})
	if err != nil {
		return false, err
	}
	var config struct {
		Config struct{ Labels map[string]string }
	}
	if err := json.Unmarshal(img.Config, &config); err != nil {
		return false, err
	}
	_, ok := config.Config.Labels[builtin.Label]
	return ok, nil
}
