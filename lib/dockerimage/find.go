// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

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
	CreatedAt    time.Time // of the collection, by the API server's clock
	ManifestText string    // signed for the token of the lookup
	Properties   Properties
}

// FindByDigest finds the image collections that say they were made from the
// image with the given index or manifest digest; newest first, at most a few.
// If owner is not empty, only those that it owns. Anybody may set properties:
// see Check, and Validate.
func FindByDigest(ctx context.Context, api API, digest, owner string) ([]Found, error) {
	filters := []arvados.Filter{{Attr: "properties." + KeyDigest, Operator: "contains", Operand: digest}}
	if owner != "" {
		filters = append(filters, arvados.Filter{Attr: "owner_uuid", Operator: "=", Operand: owner})
	}
	return find(ctx, api, digest, filters)
}

// FindByLayer finds the image collections that say they have the layer with
// the given digest in blocks of its own; newest first, at most a few.
func FindByLayer(ctx context.Context, api API, digest string) ([]Found, error) {
	return find(ctx, api, digest, []arvados.Filter{{Attr: "properties." + KeyLayers, Operator: "contains", Operand: digest}})
}

// maxByKey is how many collections FindByKey returns at most. Recipes that many
// people build are in many.
const maxByKey = 100

// FindByKey finds the image collections that say they were built under a
// content key, newest first. If owner is not empty, only those that it owns.
func FindByKey(ctx context.Context, api API, key, owner string) ([]Found, error) {
	filters := []arvados.Filter{{Attr: "properties." + keyKey, Operator: "=", Operand: key}}
	if owner != "" {
		filters = append(filters, arvados.Filter{Attr: "owner_uuid", Operator: "=", Operand: owner})
	}
	limit := maxByKey
	found, _, err := page(ctx, api, key, wholeAttrs, arvados.ResourceListParams{Filters: filters, Limit: &limit})
	return found, err
}

func find(ctx context.Context, api API, digest string, filters []arvados.Filter) ([]Found, error) {
	limit := maxFound
	found, _, err := page(ctx, api, digest, wholeAttrs, arvados.ResourceListParams{Filters: filters, Limit: &limit})
	return found, err
}

// What a page has of each collection: all of a Found, or all but the manifest,
// which is as large as the rest.
var (
	bareAttrs  = []string{"uuid", "owner_uuid", "portable_data_hash", "created_at", "properties"}
	wholeAttrs = append([]string{"manifest_text"}, bareAttrs...)
)

// page is a page of the image collections for which params.Filters hold, newest
// first if params do not say otherwise, and whether there may be more of them.
// subject is what is looked for, for messages.
func page(ctx context.Context, api API, subject string, attrs []string, params arvados.ResourceListParams) (found []Found, more bool, err error) {
	params.Select = attrs
	params.Order = cmp.Or(params.Order, "created_at desc")
	params.Count = "none"
	var answer arvados.CollectionList
	if err := api.RequestAndDecodeContext(ctx, &answer, http.MethodGet, "arvados/v1/collections", nil, params); err != nil {
		return nil, false, apiFault("find image collections with", subject, err)
	}
	for _, coll := range answer.Items {
		found = append(found, Found{
			UUID:         coll.UUID,
			OwnerUUID:    coll.OwnerUUID,
			PDH:          coll.PortableDataHash,
			CreatedAt:    coll.CreatedAt,
			ManifestText: coll.ManifestText,
			Properties:   ParseProperties(coll.Properties),
		})
	}
	return found, isFull(len(answer.Items), answer.Limit, *params.Limit), nil
}

// isFull reports whether a page of n records may not be the last one. A server
// that gives fewer than were asked for at a time says so by its limit.
func isFull(n, limit, asked int) bool {
	if limit > 0 {
		asked = min(asked, limit)
	}
	return n > 0 && n >= asked
}

// apiFault makes err an error of the API server. One that refuses for good
// says so by its status.
func apiFault(op, subject string, err error) error {
	e := &fault.Error{Op: op, Side: fault.API, Subject: subject, Err: err, Transient: true}
	var refusal *arvados.TransactionError
	if errors.As(err, &refusal) {
		e.Transient = mayPass(refusal.StatusCode)
	}
	return e
}

// mayPass reports whether a request that got this HTTP status may succeed later.
func mayPass(status int) bool {
	return status >= 500 || status == http.StatusRequestTimeout || status == http.StatusTooManyRequests
}

var imageFileName = regexp.MustCompile(`^(sha256:[0-9a-f]{64})\.tar$`)

// Check is nil if the collection can pass as an image that nobody has changed:
// it has exactly one file, whose name is that of an image and agrees with the
// recorded hash, and its portable data hash is the recorded one. What is not
// recorded disqualifies nothing: other programs record less. This guards
// against accidents, not against malice.
func (f Found) Check() error {
	file, hash, err := f.image()
	switch {
	case err != nil:
		return err
	case f.Properties.Hash != "" && f.Properties.Hash != hash:
		return fmt.Errorf("its file is %s but it claims to be image %.100s", file.Path, f.Properties.Hash)
	case f.Properties.PDH != "" && f.Properties.PDH != f.PDH:
		return fmt.Errorf("it was changed since it was made (portable data hash %s, at first %.100s)", f.PDH, f.Properties.PDH)
	}
	return nil
}

// image is the collection's only file, which must have the name of an image,
// and the hash in that name.
func (f Found) image() (keepfile.File, string, error) {
	file, err := f.file()
	if err != nil {
		return file, "", err
	}
	name := imageFileName.FindStringSubmatch(file.Path)
	if name == nil {
		return file, "", fmt.Errorf("its file %.100q has not the name of an image", file.Path)
	}
	return file, name[1], nil
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
