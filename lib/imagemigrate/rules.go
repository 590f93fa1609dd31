// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// Keys of properties. Names, digests and the time of naming are added to; all
// others are written where there is nothing, or not at all.
const (
	keyHash      = dockerimage.KeyHash
	keyNames     = dockerimage.KeyRepoTag
	keyTimestamp = dockerimage.KeyTimestamp
	keyDigest    = dockerimage.KeyDigest
	keyTagged    = dockerimage.KeyTagged
	twin         = dockerimage.Twin // where a strict vocabulary refuses a key without it
)

// Keys of properties that only the image itself tells.
const (
	keyPDH      = dockerimage.KeyPDH
	keySize     = dockerimage.KeySize
	keyPlatform = dockerimage.KeyPlatform
	keyLayers   = dockerimage.KeyLayers
)

// noYear and those before are no times of making: lookups do not believe them.
const noYear = dockerimage.NoYear

// Rules say what becomes of links. The zero value takes all names.
type Rules struct {
	// OwnNamesOnly leaves out names by links that belong to somebody else than
	// the collection: anybody can make a link to a collection that they can
	// read, but only who can change it can give it properties.
	OwnNamesOnly bool
}

// Change is what the rules make of a collection and the links to it.
type Change struct {
	Properties map[string]interface{} // to be written, all of them; nil if nothing is
	Names      []string               // those of them that are new
	Left       bool                   // it cannot pass as an image, with or without properties
	Cases      []Case
}

// plan is a Change in the making.
type plan struct {
	Change
	coll arvados.Collection
	has  dockerimage.Properties
}

// Plan is what is to be written, given a collection with manifest and properties,
// all links to it, and links to an old version of the image that a
// docker_image_migration link has replaced by this collection.
func (r Rules) Plan(coll arvados.Collection, links, inherited []arvados.Link) Change {
	p := &plan{coll: coll, has: dockerimage.ParseProperties(coll.Properties)}
	found := dockerimage.FoundIn(coll)
	hash, err := found.Hash()
	if err != nil {
		p.Left = true
		p.note(oddFile(coll.ManifestText), "%v", err)
		return p.Change
	}
	if err := found.Check(); err != nil {
		p.Left = true
		p.note(CannotPass, "%v", err)
		return p.Change
	}
	p.checkHashes(hash, links)
	if len(inherited) > 0 {
		p.note(Inherited, "%d links to the image that this one has replaced", len(inherited))
	}
	links, inherited = p.checkOwners(r, links), p.checkOwners(r, inherited)
	names, digests, tagged := p.names(hash, slices.Concat(links, inherited))
	made := p.made(links, inherited)
	p.merge(dockerimage.Properties{Hash: hash, RepoTags: names, Digests: digests, Timestamp: made, Tagged: tagged}.Map())
	return p.Change
}

func (p *plan) note(kind Kind, format string, args ...interface{}) {
	p.Cases = append(p.Cases, Case{Kind: kind, Detail: fmt.Sprintf(format, args...)})
}

// newestFirst are links in the order in which names are listed.
func newestFirst(links []arvados.Link) []arvados.Link {
	sorted := slices.Clone(links)
	slices.SortFunc(sorted, func(a, b arvados.Link) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.UUID, a.UUID))
	})
	return sorted
}

// anyImageFile are names that one or the other API server takes for an image's.
var anyImageFile = regexp.MustCompile(`^(sha256:)?[0-9A-Fa-f]{64}\.tar$`)

// oddFile tells why the files of a collection are not those of an image.
func oddFile(manifest string) Kind {
	files, err := keepfile.ParseManifest(manifest)
	if err != nil || len(files) != 1 {
		return NotAnImage
	}
	m := anyImageFile.FindStringSubmatch(path.Base(files[0].Path))
	switch {
	case m == nil:
		return NotAnImage
	case m[1] == "" && path.Dir(files[0].Path) == ".":
		return OldFormat
	}
	return UnusualFile
}

// checkHashes compares what links say with the name of the file, which alone
// decides what is run.
func (p *plan) checkHashes(hash string, links []arvados.Link) {
	hashes := 0
	for _, link := range links {
		if link.LinkClass != classHash {
			continue
		}
		hashes++
		if link.Name != hash {
			p.note(OtherHash, "link %s says %.100q", link.UUID, link.Name)
		}
	}
	switch {
	case hashes == 0:
		p.note(NoHashLink, "")
	case hashes > 1:
		p.note(SeveralHashLinks, "%d", hashes)
	}
}

// checkOwners are the links that count, newest first.
func (p *plan) checkOwners(r Rules, links []arvados.Link) []arvados.Link {
	links = newestFirst(links)
	for _, link := range links {
		if link.LinkClass == className && link.OwnerUUID != p.coll.OwnerUUID {
			p.note(OtherOwner, "link %s with the name %.200q belongs to %s", link.UUID, link.Name, link.OwnerUUID)
		}
	}
	if !r.OwnNamesOnly {
		return links
	}
	return slices.DeleteFunc(links, func(link arvados.Link) bool { return link.OwnerUUID != p.coll.OwnerUUID })
}

// names are the names and the digests that the collection is to have, nil where it
// has them all, and when the newest of those was given that are new.
func (p *plan) names(hash string, links []arvados.Link) (names, digests []string, tagged time.Time) {
	var said []string
	for _, link := range links {
		if link.LinkClass != className {
			continue
		}
		name, digest, kind := readName(link.Name, hash)
		if kind != "" {
			p.note(kind, "%.200q", link.Name)
		}
		switch {
		case digest != "" && !slices.Contains(digests, digest):
			digests = append(digests, digest)
		case name == "":
		case slices.Contains(said, name):
			p.note(RepeatedName, "%s", name)
		default:
			said = append(said, name)
			if !slices.Contains(p.has.RepoTags, name) {
				p.Names = append(p.Names, name)
				tagged = latest(tagged, link.CreatedAt)
			}
		}
	}
	if value, ok := p.coll.Properties[keyNames]; ok && value == nil {
		p.note(NullName, "")
	}
	names = said
	for _, name := range p.has.RepoTags {
		if !slices.Contains(names, name) {
			p.note(NameWithoutLink, "%s", name)
			names = append(names, name)
		}
	}
	if len(names) > 1 {
		p.note(SeveralNames, "%d", len(names))
	}
	if len(p.Names) == 0 {
		names = nil
	} else {
		tagged = latest(tagged, p.has.Tagged)
	}
	all := slices.Clone(p.has.Digests)
	for _, digest := range digests {
		if !slices.Contains(all, digest) {
			all = append(all, digest)
		}
	}
	if len(all) == len(p.has.Digests) {
		all = nil
	}
	return names, all, tagged
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// made is when the image was made: what the oldest link with its name tells, for
// that is what API servers go by, else what its oldest link with a hash tells; else
// likewise the links of what it has replaced. It is zero if the properties tell it
// or nothing does.
func (p *plan) made(links, inherited []arvados.Link) time.Time {
	var made time.Time
	var odd, other bool
	for _, link := range slices.Concat(byClass(links), byClass(inherited)) {
		said := link.Properties[linkTime]
		t, clear := readTime(said)
		if !clear && said != nil && !odd {
			odd = true
			p.note(OddTime, "link %s says %.100q", link.UUID, fmt.Sprint(said))
		}
		if made.IsZero() {
			made = t
		} else if !t.IsZero() && !t.Equal(made) {
			other = true
		}
	}
	if other {
		p.note(TimesDiffer, "%s is taken", made.Format(time.RFC3339Nano))
	}
	if p.coll.Properties[keyTimestamp] != nil || p.coll.Properties[twin+keyTimestamp] != nil {
		if !p.has.Timestamp.IsZero() && !made.IsZero() && !made.Equal(p.has.Timestamp) {
			p.note(TimeKept, "links say %s", made.Format(time.RFC3339Nano))
		}
		if p.has.Timestamp.IsZero() {
			p.note(OddProperty, "%s", keyTimestamp)
		}
		return time.Time{}
	}
	switch {
	case made.IsZero():
		p.note(NoTime, "")
	case made.Year() <= noYear:
		p.note(HiddenTime, "%s", made.Format(time.RFC3339Nano))
	case made.After(p.coll.CreatedAt):
		p.note(LaterThanCollection, "%s", made.Format(time.RFC3339Nano))
	}
	return made
}

// byClass are links with names, then those with hashes, the oldest first.
func byClass(newestFirst []arvados.Link) []arvados.Link {
	sorted := slices.Clone(newestFirst)
	slices.Reverse(sorted)
	slices.SortStableFunc(sorted, func(a, b arvados.Link) int { return cmp.Compare(b.LinkClass, a.LinkClass) })
	return sorted
}

// merge puts what is to be written into what is there.
func (p *plan) merge(written map[string]interface{}) {
	merged := maps.Clone(p.coll.Properties)
	if merged == nil {
		merged = map[string]interface{}{}
	}
	changed := false
	for key, value := range written {
		there := merged[key] != nil || !strings.HasPrefix(key, twin) && merged[twin+key] != nil
		switch {
		case key == keyNames, key == keyDigest, key == keyTagged:
		case there:
			continue
		}
		merged[key] = value
		changed = true
	}
	if changed {
		p.Properties = merged
	}
}
