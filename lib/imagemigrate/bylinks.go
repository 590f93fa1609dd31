// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"cmp"
	"context"
	"path"
	"regexp"
	"slices"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// candidate is a collection that links give a name to, and its place in the order
// of API servers that look at links: by the time that its oldest link tells, in
// seconds, zero if that is none; then by when that link was made.
type candidate struct {
	Collection
	links   []arvados.Link // with the name, oldest first
	made    int64
	created time.Time
}

// byLinks are the candidates for a name, best first, given the links with the name
// and the collections that they point to.
func byLinks(links []arvados.Link, colls map[string]Collection) []candidate {
	var found []candidate
	for _, link := range slices.Backward(newestFirst(links)) {
		coll, ok := colls[link.HeadUUID]
		if !ok {
			continue
		}
		at := slices.IndexFunc(found, func(c candidate) bool { return c.UUID == link.HeadUUID })
		if at >= 0 {
			found[at].links = append(found[at].links, link)
			continue
		}
		c := candidate{Collection: coll, links: []arvados.Link{link}, created: link.CreatedAt}
		if t, _ := readTime(link.Properties[linkTime]); !t.IsZero() {
			c.made = t.Unix()
		}
		found = append(found, c)
	}
	slices.SortStableFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.made, a.made), b.created.Compare(a.created))
	})
	return found
}

// fits are files that API servers take for images with the format v2 alone, which
// is the default.
var fits = regexp.MustCompile(`^sha256:[0-9A-Fa-f]{64}\.tar$`)

func isCompatible(manifest string) bool {
	files, err := keepfile.ParseManifest(manifest)
	return err == nil && len(files) == 1 && fits.MatchString(path.Base(files[0].Path))
}

// verification is a Verification under way for a few names.
type verification struct {
	*Verification
	colls map[string]Collection // by UUID
	later map[string]Collection // what has replaced images, by portable data hash of those
}

// read reads the collections that links point to.
func (v *verification) read(ctx context.Context, names []group) error {
	var uuids []string
	for _, g := range names {
		for _, link := range g.links {
			if isCollection(link.HeadUUID) && isLocal(link) {
				uuids = append(uuids, link.HeadUUID)
			}
		}
	}
	slices.Sort(uuids)
	store := ByAPI(v.API, v.Parallel)
	colls, err := store.Collections(ctx, "uuid", slices.Compact(uuids))
	if err != nil {
		return err
	}
	v.colls, v.later = map[string]Collection{}, map[string]Collection{}
	var unfit []string
	for _, coll := range colls {
		v.colls[coll.UUID] = coll
		if !isCompatible(coll.ManifestText) {
			unfit = append(unfit, coll.PortableDataHash)
		}
	}
	if len(unfit) == 0 {
		return nil
	}
	to, err := store.Replacements(ctx, unfit)
	if err != nil {
		return err
	}
	for from, pdh := range to {
		found, err := store.Collections(ctx, "portable_data_hash", []string{pdh})
		if err != nil {
			return err
		}
		if len(found) > 0 && isCompatible(found[0].ManifestText) {
			v.later[from] = found[0]
		}
	}
	return nil
}

// old is the answer by links, and the candidate that it is from; nil if there is
// none.
func (v *verification) old(links []arvados.Link) (*Collection, *candidate) {
	for _, c := range byLinks(links, v.colls) {
		if isCompatible(c.ManifestText) {
			return &c.Collection, &c
		}
		if later, ok := v.later[c.PortableDataHash]; ok {
			return &later, &c
		}
	}
	return nil, nil
}

// foundIn is a collection as lookups by properties see it.
func (c *Collection) foundIn() dockerimage.Found { return dockerimage.FoundIn(c.Collection) }
