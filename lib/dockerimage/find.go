// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// maxFound is how many collections a lookup returns at most: they hold the same
// thing, so more of them only help where some are damaged.
const maxFound = 3

// Found is an image collection that a lookup has found.
type Found struct {
	UUID         string
	OwnerUUID    string
	PDH          string
	ManifestText string // signed for the token of the lookup
	Properties   Properties
}

// FindByDigest finds the image collections that say they were made from the
// image with the given index or manifest digest; newest first, at most a few.
// If owner is not empty, only those that it owns. Anybody may set properties:
// see Check, and Validate.
func FindByDigest(ctx context.Context, api API, digest, owner string) ([]Found, error) {
	filters := []arvados.Filter{{Attr: "properties." + keyDigest, Operator: "contains", Operand: digest}}
	if owner != "" {
		filters = append(filters, arvados.Filter{Attr: "owner_uuid", Operator: "=", Operand: owner})
	}
	return find(ctx, api, digest, filters)
}

// FindByLayer finds the image collections that say they have the layer with
// the given digest in blocks of its own; newest first, at most a few.
func FindByLayer(ctx context.Context, api API, digest string) ([]Found, error) {
	return find(ctx, api, digest, []arvados.Filter{{Attr: "properties." + keyLayers, Operator: "contains", Operand: digest}})
}

func find(ctx context.Context, api API, digest string, filters []arvados.Filter) ([]Found, error) {
	limit := maxFound
	var answer arvados.CollectionList
	err := api.RequestAndDecodeContext(ctx, &answer, http.MethodGet, "arvados/v1/collections", nil, arvados.ResourceListParams{
		Filters: filters,
		Select:  []string{"uuid", "owner_uuid", "portable_data_hash", "manifest_text", "properties"},
		Order:   "created_at desc",
		Limit:   &limit,
		Count:   "none",
	})
	if err != nil {
		return nil, apiFault("find image collections with", digest, err)
	}
	var found []Found
	for _, coll := range answer.Items {
		found = append(found, Found{
			UUID:         coll.UUID,
			OwnerUUID:    coll.OwnerUUID,
			PDH:          coll.PortableDataHash,
			ManifestText: coll.ManifestText,
			Properties:   ParseProperties(coll.Properties),
		})
	}
	return found, nil
}

// apiFault makes err an error of the API server. One that refuses for good
// says so by its status.
func apiFault(op, subject string, err error) error {
	e := &fault.Error{Op: op, Side: fault.API, Subject: subject, Err: err, Transient: true}
	var refusal *arvados.TransactionError
	if errors.As(err, &refusal) {
		switch refusal.StatusCode {
		case http.StatusRequestTimeout, http.StatusTooManyRequests:
		default:
			e.Transient = refusal.StatusCode >= 500
		}
	}
	return e
}

var imageFileName = regexp.MustCompile(`^(sha256:[0-9a-f]{64})\.tar$`)

// Check is nil if the collection can pass as an image that nobody has changed:
// it has exactly one file, whose name is that of an image and agrees with the
// recorded hash, and its portable data hash is the recorded one. What is not
// recorded disqualifies nothing: other programs record less. This guards
// against accidents, not against malice.
func (f Found) Check() error {
	file, err := f.file()
	if err != nil {
		return err
	}
	name := imageFileName.FindStringSubmatch(file.Path)
	switch {
	case name == nil:
		return fmt.Errorf("its file %.100q has not the name of an image", file.Path)
	case f.Properties.Hash != "" && f.Properties.Hash != name[1]:
		return fmt.Errorf("its file is %s but it claims to be image %.100s", file.Path, f.Properties.Hash)
	case f.Properties.PDH != "" && f.Properties.PDH != f.PDH:
		return fmt.Errorf("it was changed since it was made (portable data hash %s, at first %.100s)", f.PDH, f.Properties.PDH)
	}
	return nil
}

// file is the collection's only file.
func (f Found) file() (keepfile.File, error) {
	files, err := keepfile.ParseManifest(f.ManifestText)
	if err != nil {
		return keepfile.File{}, err
	}
	if len(files) != 1 || strings.HasSuffix(files[0].Path, "/") {
		return keepfile.File{}, fmt.Errorf("it has %d files and folders instead of one file", len(files))
	}
	return files[0], nil
}
