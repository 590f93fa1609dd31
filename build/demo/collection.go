// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// store makes a collection of files, given by their paths.
func (c *cluster) store(ctx context.Context, name string, files map[string][]byte) (pdh string, err error) {
	pack := keepfile.NewPacker(ctx, keepfile.NewWriter(c.keep, 1, arvados.BlockWriteOptions{}))
	defer pack.Abort()
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if err := pack.Add(path, bytes.NewReader(files[path])); err != nil {
			return "", err
		}
	}
	packed, err := pack.Close()
	if err != nil {
		return "", err
	}
	var coll arvados.Collection
	err = c.call(ctx, &coll, "POST", "collections", map[string]interface{}{"collection": map[string]interface{}{
		"name": name, "manifest_text": keepfile.FormatManifest(packed)}})
	say("collection: %s (%s), %d files", coll.PortableDataHash, name, len(files))
	return coll.PortableDataHash, err
}

// readFiles are the files of a collection of small ones.
func (c *cluster) readFiles(ctx context.Context, uuid string) (map[string]string, error) {
	var coll arvados.Collection
	if err := c.call(ctx, &coll, "GET", "collections/"+uuid, nil); err != nil {
		return nil, err
	}
	files, err := keepfile.ParseManifest(coll.ManifestText)
	if err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for _, file := range files {
		r := keepfile.NewReader(ctx, c.keep, file)
		text, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil {
			return nil, err
		}
		texts[file.Path] = string(text)
	}
	return texts, nil
}

// showImage prints the collection that a pull or a build has made.
func showImage(coll arvados.Collection) error {
	files, err := keepfile.ParseManifest(coll.ManifestText)
	if err != nil || len(files) != 1 {
		return errors.Join(err, fmt.Errorf("the output has %d files, not one", len(files)))
	}
	properties, err := json.MarshalIndent(coll.Properties, "   ", "  ")
	if err != nil {
		return err
	}
	step("The image is in Keep")
	say("collection:         %s (%s)", coll.UUID, coll.Name)
	say("portable data hash: %s", coll.PortableDataHash)
	say("file:               %s, %d bytes", files[0].Path, files[0].Size())
	say("properties:         %s", properties)
	return nil
}
