// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/services/localapi/containerrules"
)

var (
	keepLocator = regexp.MustCompile(`^[0-9a-f]{32}(\+[0-9]+)?(\+[A-Z][-A-Za-z0-9@_]*)*$`)
	bareHash    = regexp.MustCompile(`^[0-9a-f]+$`)
	shortHash   = regexp.MustCompile(`^sha256:[0-9a-f]{1,11}$`)
)

// resolveImage is the portable data hash of the image that the name means to
// the user, as package dockerimage decides. Where Arvados differs, this server
// keeps to Arvados: it looks at the content alone of what is named by its hash,
// takes a hash without "sha256:" for a repository, and any beginning of a hash.
func resolveImage(tx *Tx, user *Caller, name string) (string, error) {
	notFound := refuseBy(containerrules.Unresolvable(fmt.Sprintf("docker image %q not found", name)))
	if keepLocator.MatchString(name) {
		hash := strings.Join(strings.SplitN(name, "+", 3)[:min(2, strings.Count(name, "+")+1)], "+")
		found, err := tx.List(collections, Query{
			Filters: []Filter{Where("portable_data_hash", "=", hash)}, Reader: user, Limit: 1, Whole: true,
		})
		if err != nil {
			return "", err
		}
		if len(found) == 0 || !isImage(found[0]) {
			return "", notFound
		}
		return hash, nil
	}
	asked := name
	switch {
	case bareHash.MatchString(name):
		asked += ":latest"
	case shortHash.MatchString(name):
		var err error
		if asked, err = wholeHash(tx, user, name); err != nil {
			return "", err
		}
	}
	// The transaction ends with the context of the request.
	found, err := dockerimage.Resolve(context.Background(), imageAPI{tx, user}, asked, dockerimage.Policy{Links: true})
	switch {
	case errors.Is(err, dockerimage.ErrNotFound) && len(found.PassedOver) > 0:
		return "", refuseBy(containerrules.Unresolvable("Matching Docker image is incompatible with 'docker_image_formats' configuration."))
	case fault.SideOf(err) == fault.Request: // also names that are malformed
		return "", notFound
	}
	return found.PDH, err
}

// isImage leaves out collections that were copied from an image and changed.
func isImage(collection Record) bool {
	properties, _ := collection["properties"].(map[string]any)
	if made := properties[dockerimage.KeyPDH]; made != nil && made != collection["portable_data_hash"] {
		return false
	}
	return containerrules.IsImage(textOf(collection["manifest_text"]))
}

// wholeHash is the only hash of an image that begins so; what was given if
// there is none, or several.
func wholeHash(tx *Tx, user *Caller, start string) (string, error) {
	uuids, err := tx.withHash(dockerimage.KeyHash, start)
	if err != nil {
		return "", err
	}
	images, err := tx.List(collections, Query{Filters: []Filter{Where("uuid", "in", uuids)}, Reader: user})
	if err != nil {
		return "", err
	}
	named, err := tx.List(links, Query{
		Filters: []Filter{Where("link_class", "=", dockerimage.LinkHash), Where("name", "like", start+"%")}, Reader: user,
	})
	if err != nil {
		return "", err
	}
	var hashes []string
	for _, image := range images {
		properties, _ := image["properties"].(map[string]any)
		hashes = append(hashes, textOf(properties[dockerimage.KeyHash]))
	}
	for _, link := range named {
		hashes = append(hashes, textOf(link["name"]))
	}
	slices.Sort(hashes)
	if hashes = slices.Compact(hashes); len(hashes) == 1 {
		return hashes[0], nil
	}
	return start, nil
}

// withHash are the UUIDs of the collections that say by a property that they
// have, or are of, something whose hash begins so.
func (tx *Tx) withHash(key, start string) ([]any, error) {
	pairs, err := tx.pairs("SELECT uuid, '' FROM properties WHERE kind = ? AND key = ? AND tag = 's' AND value >= ? AND value < ?",
		collections, key, start, start+"~")
	uuids := []any{}
	for _, pair := range pairs {
		uuids = append(uuids, pair[0])
	}
	return uuids, err
}
