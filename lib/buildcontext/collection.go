// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// emptyPDH is the collection without files. It exists even where nobody has
// made one.
const emptyPDH = "d41d8cd98f00b204e9800998ecf8427e+0"

// collections reads collections for contexts.
type collections struct {
	api  API
	keep keepfile.BlockReader
	seen map[string]*Tree // by id
}

func newCollections(api API, keep keepfile.BlockReader) *collections {
	return &collections{api: api, keep: keep, seen: map[string]*Tree{}}
}

// FromCollection is the files of a collection, given by its portable data hash
// or UUID. Nothing is read from Keep yet.
func FromCollection(ctx context.Context, api API, keep keepfile.BlockReader, id string) (*Tree, error) {
	return newCollections(api, keep).read(ctx, id, "collection "+id)
}

// read is FromCollection. subject is what errors name.
func (c *collections) read(ctx context.Context, id, subject string) (*Tree, error) {
	if t := c.seen[id]; t != nil {
		return t, nil
	}
	var coll arvados.Collection
	switch {
	case id == emptyPDH:
	case arvados.PDHMatch(id), arvados.UUIDMatch(id) && id[6:11] == "4zz18":
		err := c.api.RequestAndDecodeContext(ctx, &coll, http.MethodGet, "arvados/v1/collections/"+id, nil, map[string]interface{}{
			"select": []string{"portable_data_hash", "manifest_text"},
		})
		if err != nil {
			return nil, apiFault(id, subject, err)
		}
	default:
		return nil, refusal("read", subject, "it is not named by a portable data hash or the UUID of a collection", "")
	}
	t, err := c.tree(coll.ManifestText)
	if err != nil {
		return nil, &fault.Error{Op: "read", Side: fault.Request, Subject: subject, Err: err}
	}
	c.seen[id] = t
	return t, nil
}

// tree is the files of a manifest.
func (c *collections) tree(manifest string) (*Tree, error) {
	files, err := keepfile.ParseManifest(manifest)
	if err != nil {
		return nil, err
	}
	b := newBuilder()
	for _, file := range files {
		e := fileInKeep(file.Path, c.keep, file)
		if name, ok := strings.CutSuffix(file.Path, "/"); ok {
			e = folder(name)
		}
		if err := b.add(e); err != nil {
			return nil, err
		}
	}
	return b.tree(), nil
}

// apiFault makes err an error of the API server, or of who named a collection
// that is not there for him.
func apiFault(id, subject string, err error) error {
	e := &fault.Error{Op: "read", Side: fault.API, Subject: subject, Err: err, Transient: true}
	var refused *arvados.TransactionError
	if !errors.As(err, &refused) {
		return e
	}
	if refused.StatusCode == http.StatusNotFound {
		return refusal("read", subject, "there is no collection "+id+" that you may read", "check its name, its sharing, and that it is not in the trash")
	}
	e.Transient = passes(refused.StatusCode)
	return e
}
