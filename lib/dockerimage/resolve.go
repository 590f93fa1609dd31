// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// Policy says where Resolve looks and whom it trusts.
type Policy struct {
	// Links: names that only links say count as well. Sites switch it off
	// when no program that makes such links is left.
	Links bool

	Trust Trust
	Own   []string // UUIDs of the caller and of the project in question, if any
	Site  []string // UUIDs of the owners that the site trusts beside
}

// Trust says whose images a name may mean. Whoever can read a collection can be
// made to run it by its name, so this matters most for those who can read
// everybody's. Portable data hashes are not names and need no trust.
type Trust string

const (
	TrustAny  Trust = "any"  // what the caller can read; also the zero value
	TrustOwn  Trust = "own"  // what the caller or the project owns
	TrustSite Trust = "site" // that, and what the site's owners own
)

// owners are the only owners that count; nil for no limit.
func (p Policy) owners() []string {
	switch p.Trust {
	case TrustAny, "":
		return nil
	case TrustSite:
		return append(slices.Clone(p.Own), p.Site...)
	}
	return append([]string{}, p.Own...)
}

// byOwner limits filters to those that the policy trusts.
func (p Policy) byOwner(filters ...arvados.Filter) []arvados.Filter {
	if owners := p.owners(); owners != nil {
		filters = append(filters, arvados.Filter{Attr: "owner_uuid", Operator: "in", Operand: owners})
	}
	return filters
}

// Resolved is the image that a name means.
type Resolved struct {
	Found
	// PassedOver are collections that would have been preferred but cannot
	// pass as the image, best first. They are there as well when there is no
	// image.
	PassedOver []PassedOver
}

// PassedOver is a collection that has the name of an image but is none.
type PassedOver struct {
	Found  Found
	Reason error // a clause about "it"
}

// ErrNotFound is in the chain of the error of Resolve when Arvados has no image
// of the name.
var ErrNotFound = errors.New("there is no such image in Arvados that you can read")

// Resolve finds the image that a user means by name, which is a portable data
// hash, a name as docker takes it ("repo", "repo:tag", "repo@digest"; a digest
// goes before a tag), or an image's hash: all of it or at least 12 digits, with
// or without "sha256:". Of several images of one name it is the one made last,
// by the clock of its builder as far as that can be believed; the caller should
// tell the user if somebody else owns it.
//
// Names that are malformed, and those of no image (ErrNotFound), are errors of
// side Request. It takes one request to the API server; with Policy.Links one
// more, and another one if links name collections that do not have the name
// themselves; and some more where a name has over a hundred images, or a hash
// nothing but other meanings.
func Resolve(ctx context.Context, api API, name string, policy Policy) (Resolved, error) {
	lookups, err := lookupsFor(name)
	if err != nil {
		return Resolved{}, err
	}
	var passedOver []PassedOver
	for _, l := range lookups {
		s := newSearch(l, api, name, policy)
		if err := s.run(ctx); err != nil {
			return Resolved{}, err
		}
		best, refused, err := s.winner(ctx)
		if err != nil {
			return Resolved{}, err
		}
		passedOver = append(passedOver, refused...)
		if best != nil {
			return Resolved{Found: *best, PassedOver: passedOver}, nil
		}
	}
	return Resolved{PassedOver: passedOver}, notFound(name, policy, passedOver)
}

func notFound(name string, policy Policy, passedOver []PassedOver) error {
	e := &fault.Error{Op: "find image", Side: fault.Request, Subject: strconv.Quote(name), Err: ErrNotFound,
		Hint: "check the name, or bring the image into Arvados first, by a container request with the command docker pull"}
	switch {
	case len(passedOver) > 0:
		best := passedOver[0]
		e.Err = fmt.Errorf("%w; collection %s has this name but cannot be used: %w", ErrNotFound, best.Found.UUID, best.Reason)
		e.Hint = "store the image again"
	case arvados.UUIDMatch(name):
		e.Hint = "name a collection by its portable data hash, not by its UUID"
	case policy.owners() != nil:
		e.Hint += "; images of owners that the policy " + strconv.Quote(string(policy.Trust)) + " does not trust do not count"
	}
	return e
}
