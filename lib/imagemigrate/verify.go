// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"golang.org/x/sync/errgroup"
)

// Why the two lookups answer differently. All but Unexplained are meant: links
// were looked at by rules that had their faults.
type Reason string

const (
	Same Reason = "same" // they do not

	SameImage   Reason = "same-image"   // another collection with the same image
	InvalidName Reason = "invalid-name" // docker takes no such name
	LeftOut     Reason = "left-out"     // a name without a tag, or one that reads as a part of a hash, means something else
	Unusable    Reason = "unusable"     // what links mean cannot be run, or was changed since
	Spelling    Reason = "spelling"     // several spellings of one name, or a name that is in properties only
	BelievedLie Reason = "time-claimed" // links mean an image that claims to be made after it was stored
	Undated     Reason = "undated"      // to links, images without a time are the oldest
	OldestLink  Reason = "oldest-link"  // to links, the oldest one with the name tells the time, however wrong
	SameSecond  Reason = "same-second"  // links do not tell apart what was made within a second
	NotOwn      Reason = "not-own"      // the name is by links of somebody else, which the rules leave out

	Unexplained Reason = "unexplained"
)

// Verification compares, for each name that links have, what a lookup by links
// answers with what one by properties does.
type Verification struct {
	API      dockerimage.API
	Rules        // by which links were brought in
	Parallel int // lookups at a time; 0 means 4
	Report   func(Difference) error
}

// Difference is a name that the two lookups answer differently.
type Difference struct {
	Name         string `json:"name"`
	Reason       Reason `json:"reason"`
	ByLinks      Answer `json:"by_links"`
	ByProperties Answer `json:"by_properties"`
}

// Answer is what a lookup has found; the zero value is nothing.
type Answer struct {
	Collection       string `json:"collection,omitempty"`
	PortableDataHash string `json:"portable_data_hash,omitempty"`
}

// namesAtOnce is how many names are compared before more are read.
const namesAtOnce = 50

// Run compares all names, and counts them by reason.
func (v *Verification) Run(ctx context.Context) (map[Reason]int, error) {
	counts := map[Reason]int{}
	var names []group
	flush := func() error {
		differences, err := v.compare(ctx, names)
		if err != nil {
			return err
		}
		for _, d := range differences {
			counts[d.Reason]++
			if d.Reason != Same && v.Report != nil {
				if err := v.Report(d); err != nil {
					return err
				}
			}
		}
		names = nil
		return nil
	}
	for g, err := range groups(ctx, v.API, "name", "", className) {
		if err != nil {
			return counts, err
		}
		if names = append(names, g); len(names) == namesAtOnce {
			if err := flush(); err != nil {
				return counts, err
			}
		}
	}
	return counts, flush()
}

func (v *Verification) compare(ctx context.Context, names []group) ([]Difference, error) {
	now := &verification{Verification: v}
	if err := now.read(ctx, names); err != nil {
		return nil, err
	}
	var mtx sync.Mutex
	var all []Difference
	lookups, ctx := errgroup.WithContext(ctx)
	lookups.SetLimit(cmp.Or(v.Parallel, defaultParallel))
	for _, name := range names {
		if !strings.Contains(name.key, ":") {
			continue // lookups by links always ask for a tag
		}
		lookups.Go(func() error {
			d, err := now.one(ctx, name)
			mtx.Lock()
			defer mtx.Unlock()
			all = append(all, d)
			return err
		})
	}
	err := lookups.Wait()
	slices.SortFunc(all, func(a, b Difference) int { return cmp.Compare(a.Name, b.Name) })
	return all, err
}

// one compares the answers for one name.
func (v *verification) one(ctx context.Context, name group) (Difference, error) {
	d := Difference{Name: name.key}
	old, by := v.old(name.links)
	found, err := dockerimage.Resolve(ctx, v.API, name.key, dockerimage.Policy{})
	if err != nil && fault.SideOf(err) != fault.Request { // which says that the name means nothing
		return d, err
	}
	hash := ""
	if old != nil {
		d.ByLinks = Answer{old.UUID, old.PortableDataHash}
		hash, _ = old.foundIn().Hash() // "" is no digest
	}
	d.ByProperties = Answer{found.UUID, found.PDH}
	_, _, kind := readName(name.key, hash)
	switch {
	case d.ByLinks.PortableDataHash == d.ByProperties.PortableDataHash:
		d.Reason = Same
	case kind == BadName:
		d.Reason = InvalidName
	case kind == NoTag || kind == HashPart:
		d.Reason = LeftOut
	case old == nil:
		d.Reason = Spelling
	case old.foundIn().Check() != nil:
		d.Reason = Unusable
	case v.OwnNamesOnly && !old.has(name.key) && !slices.ContainsFunc(by.links, func(link arvados.Link) bool { return link.OwnerUUID == old.OwnerUUID }):
		d.Reason = NotOwn
	case found.UUID == "" || !old.has(name.key):
		d.Reason = Unexplained
	default:
		d.Reason = v.why(*old, *by, found.Found, name.links)
	}
	return d, nil
}

// has reports whether the properties have the name of a link, as a name or a digest.
func (c *Collection) has(link string) bool {
	found := c.foundIn()
	hash, _ := found.Hash() // "" is no digest
	name, digest, kind := readName(link, hash)
	return kind == HashAsName || slices.Contains(found.Properties.RepoTags, name) || slices.Contains(found.Properties.Digests, digest)
}

// why tells why found is preferred to old, which links prefer.
func (v *verification) why(old Collection, by candidate, found dockerimage.Found, links []arvados.Link) Reason {
	image, _ := old.foundIn().Hash() // it has been checked
	if hash, _ := found.Hash(); hash == image {
		return SameImage
	}
	candidates := byLinks(links, v.colls)
	at := slices.IndexFunc(candidates, func(c candidate) bool { return c.UUID == found.UUID })
	if at < 0 {
		return Spelling
	}
	other := candidates[at]
	switch {
	case dateless(by.made) || dateless(other.made):
		return Undated
	case time.Unix(by.made, 0).After(by.CreatedAt) || time.Unix(other.made, 0).After(other.CreatedAt):
		return BelievedLie
	case by.made == other.made:
		return SameSecond
	case other.foundIn().Properties.Timestamp.Unix() != other.made || by.foundIn().Properties.Timestamp.Unix() != by.made:
		return OldestLink
	}
	return Unexplained
}

// dateless reports whether a time is none that a lookup by properties believes.
func dateless(made int64) bool { return made == 0 || time.Unix(made, 0).UTC().Year() <= noYear }
