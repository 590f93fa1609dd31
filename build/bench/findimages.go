// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localapi"
	"git.arvados.org/arvados.git/services/localcluster"
)

// Names of many images.
const (
	builtHourly = "lab/hourly:latest"
	broughtIn   = "lab/old:latest"
)

// image is an image as it is stored: of 220 MiB in two layers.
type image struct {
	number       int
	name, digest string
	made, stored time.Time
}

// storedImage is the image of that number: first those of different names.
func storedImage(i int) image {
	img := image{number: i, name: fmt.Sprintf("lab/app%d:%d", i/10, i%10), digest: digestOf("manifest", i)}
	img.stored = time.Date(2026, 1, 1, 0, i, 0, 0, time.UTC)
	img.made = img.stored.Add(-10 * time.Minute)
	switch {
	case i >= imagesStored+imagesOfOne:
		n := i - imagesStored - imagesOfOne
		img.name, img.made = broughtIn, time.Date(2020, 1, 1, n, 0, 0, 0, time.UTC)
		img.stored = time.Date(2026, 6, 1, 0, 0, n, 0, time.UTC)
	case i >= imagesStored:
		img.name = builtHourly
		img.stored = time.Date(2026, 1, 1, i-imagesStored, 0, 0, 0, time.UTC)
		img.made = img.stored.Add(-10 * time.Minute)
	}
	return img
}

func digestOf(what string, i int) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256(fmt.Append(nil, what, i)))
}

func (img image) file() string { return dockerimage.FileName(digestOf("config", img.number)) }

func (img image) manifest() string {
	const blocks = 4
	var text strings.Builder
	text.WriteString(".")
	for b := range blocks {
		fmt.Fprintf(&text, " %032x+%d", img.number*blocks+b, 55*mib)
	}
	fmt.Fprintf(&text, " 0:%d:%s\n", blocks*55*mib, strings.Replace(img.file(), ":", `\072`, 1))
	return text.String()
}

func (img image) pdh() string { return arvados.PortableDataHash(img.manifest()) }

func (img image) properties() map[string]interface{} {
	return dockerimage.Properties{
		Hash: digestOf("config", img.number), RepoTags: []string{img.name}, Timestamp: img.made, Digests: []string{img.digest},
		Platform: "linux/amd64", Layers: []string{digestOf("layer", img.number), digestOf("layer", -img.number)}, Size: 600 * mib, PDH: img.pdh(),
	}.Map()
}

// fillWithImages stores the images of these numbers as the user's: the records
// alone, past the API server, since by requests it would take an hour.
func (c *cluster) fillWithImages(ctx context.Context, from, to int) error {
	user, err := c.UserClient(localcluster.User).CurrentUser()
	if err != nil {
		return err
	}
	store, err := localapi.OpenStore(ctx, filepath.Join(c.dir, "api"))
	if err != nil {
		return err
	}
	defer store.Close()
	const batch = 10_000
	for ; from < to; from += batch {
		err := store.Tx(ctx, func(tx *localapi.Tx) error {
			for i := from; i < min(from+batch, to); i++ {
				if err := tx.Put("collections", c.record(storedImage(i), user.UUID)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) record(img image, owner string) localapi.Record {
	// As the API server writes times, which it compares as text.
	stored := img.stored.Format("2006-01-02T15:04:05.000000000Z")
	properties := map[string]interface{}{}
	for key, value := range img.properties() {
		if list, ok := value.([]string); ok {
			var items []interface{}
			for _, item := range list {
				items = append(items, item)
			}
			value = items
		}
		properties[key] = value
	}
	// In no order, as the API server makes them.
	uuid := fmt.Sprintf("%s-4zz18-%.15s", c.ClusterID, digestOf("uuid", img.number)[len("sha256:"):])
	return localapi.Record{
		"uuid": uuid, "current_version_uuid": uuid, "version": 1, "owner_uuid": owner, "modified_by_user_uuid": owner,
		"created_at": stored, "modified_at": stored, "name": fmt.Sprintf("image %d", img.number), "properties": properties,
		"portable_data_hash": img.pdh(), "manifest_text": img.manifest(), "file_names": img.file() + "\n",
		"file_count": 1, "file_size_total": 220 * mib,
	}
}
