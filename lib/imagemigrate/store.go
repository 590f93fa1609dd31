// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"context"
	"encoding/json"
	"errors"
	"iter"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// Store is where the links and collections of a cluster are. It shows what an
// administrator sees through the API without asking for the trash and old versions.
type Store interface {
	// Heads are the links of the classes docker_image_hash and
	// docker_image_repo+tag, those to one head together, in the store's order
	// of heads, from the first one after a head on ("" is before all).
	Heads(ctx context.Context, after string) iter.Seq2[[]arvados.Link, error]
	// LinksTo are all links of these classes to one head.
	LinksTo(ctx context.Context, head string) ([]arvados.Link, error)
	// Collections are those whose attribute, "uuid" or "portable_data_hash",
	// has one of some values.
	Collections(ctx context.Context, attr string, values []string) ([]Collection, error)
	// Properties are collections by UUID, with what it takes to write to them and
	// without manifests, which are most of what there is to read.
	Properties(ctx context.Context, uuids []string) ([]Collection, error)
	// Gone tells what has become of each collection that is not seen.
	Gone(ctx context.Context, uuids []string) (map[string]Kind, error)
	// Replacements are the portable data hashes of images that have replaced
	// those of the given ones, by what docker_image_migration links of the
	// system say; of several the newest.
	Replacements(ctx context.Context, pdhs []string) (map[string]string, error)
	// Frozen are those owners that are projects which take no changes.
	Frozen(ctx context.Context, owners []string) (map[string]bool, error)
	// Write writes properties, and tells done by the number of each change what
	// has become of it, as soon as that is known: nil, ErrChanged, ErrLocked, or
	// how the server has refused it or failed at it. It ends with an error if
	// going on makes no sense, or with done's. wait is called once for each
	// change before it is made, and returns when it is time for it.
	Write(ctx context.Context, changes []Planned, wait func(context.Context) error, done func(i int, err error) error) error
}

// Planned is a change that is to be made to a collection, given as it was read.
type Planned struct {
	Undo
	Read Collection
}

var (
	// ErrChanged says that somebody else has changed what a change was made
	// for, so that it has to be made anew.
	ErrChanged = errors.New("somebody else has been changing it all the time")
	// ErrLocked says that somebody else has locked it, and perhaps changes it.
	ErrLocked = errors.New("somebody else has kept it locked all the time")
)

// Collection is a collection with its properties as the server has written them:
// numbers may be longer than a float64.
type Collection struct {
	arvados.Collection
	Raw json.RawMessage `json:"properties"`
	// Obstacle is why nothing can be written to it in this way; "" if nothing is
	// in the way.
	Obstacle Kind `json:"-"`
}

// Decode reads Properties from Raw.
func (c *Collection) Decode() {
	properties, err := decode(c.Raw)
	c.Properties = properties
	if err != nil {
		c.Obstacle = NoObject
	}
}
