// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// Lengths of an image's hash in digits. What docker shows has minHash; less
// would soon mean several images.
const (
	minHash = 12
	maxHash = 64
)

var (
	// pdhWithHints: Keep locators, which Arvados takes for collections, may
	// have hints that say nothing about content.
	pdhWithHints = regexp.MustCompile(`^([0-9a-f]{32}\+[0-9]+)(\+[A-Z][-A-Za-z0-9@_]*)*$`)
	hashOrPart   = regexp.MustCompile(`^(sha256:)?([0-9a-fA-F]{1,64})$`)
)

// lookup is one meaning that a name may have, and how images of it are found.
type lookup struct {
	collections []arvados.Filter  // each finds some of the images
	links       []arvados.Filter  // links for which all hold name some, too; nil if none can
	is          func(Found) bool  // whether it is meant at all; nil if all are that are found
	check       func(Found) error // why it cannot be used
	open        bool              // it is no matter who owns it
}

// lookupsFor are the meanings of a name. The first one that finds an image is
// the one.
func lookupsFor(name string) ([]lookup, error) {
	if m := pdhWithHints.FindStringSubmatch(name); m != nil {
		return []lookup{{
			collections: []arvados.Filter{{Attr: "portable_data_hash", Operator: "=", Operand: m[1]}},
			// The content was named, and no property changes that.
			check: func(f Found) error { _, _, err := f.image(); return err },
			open:  true,
		}}, nil
	}
	m := hashOrPart.FindStringSubmatch(name)
	if m == nil || m[1] == "" && len(m[2]) < minHash {
		return byName(name)
	}
	if len(m[2]) < minHash {
		return nil, &fault.Error{Op: "read image name", Side: fault.Request, Subject: strconv.Quote(name),
			Err: errors.New("this is too short a part of an image's hash"), Hint: "give at least its first 12 digits"}
	}
	lookups := byHash(strings.ToLower(m[2]))
	if m[1] == "" && len(m[2]) < maxHash {
		// Also a name that docker takes, but whoever gives it to an image
		// must not get in the way of a hash.
		if named, err := byName(name); err == nil {
			lookups = append(lookups, named...)
		}
	}
	return lookups, nil
}

// byHash looks for the hash in names of files, which every image has, and only
// then for manifests of that digest, by which some engines know their images.
// Children mention the digests of their bases and layers, too, so the pattern
// is that of a whole file name, in which manifests may escape the colon.
func byHash(hex string) []lookup {
	start := "sha256:" + hex
	named := lookup{
		collections: []arvados.Filter{{Attr: "any", Operator: "ilike", Operand: "%" + hex + strings.Repeat("_", maxHash-len(hex)) + ".tar%"}},
		links: []arvados.Filter{
			{Attr: "link_class", Operator: "=", Operand: LinkHash},
			{Attr: "name", Operator: "like", Operand: start + "%"},
		},
		is: func(f Found) bool {
			file, err := f.file()
			return err == nil && strings.HasPrefix(file.Path, start)
		},
		check: Found.Check,
	}
	if len(hex) == maxHash {
		return []lookup{named, byDigest(start)}
	}
	described := lookup{
		collections: []arvados.Filter{{Attr: "any", Operator: "ilike", Operand: "%" + start + "%"}},
		is: func(f Found) bool {
			return slices.ContainsFunc(f.Properties.Digests, func(d string) bool { return strings.HasPrefix(d, start) })
		},
		check: Found.Check,
	}
	return []lookup{named, described}
}

// byDigest looks for the image of an index or manifest. Links do not know it.
func byDigest(digest string) lookup {
	return lookup{
		collections: []arvados.Filter{{Attr: "properties." + KeyDigest, Operator: "contains", Operand: digest}},
		check:       Found.Check,
	}
}

func byName(name string) ([]lookup, error) {
	ref, err := imageref.Parse(name)
	if err != nil {
		return nil, err
	}
	if ref.Digest != "" {
		return []lookup{byDigest(ref.Digest)}, nil
	}
	// arv-keepdocker registers names as its user has written them.
	written := name
	if !strings.HasSuffix(name, ":"+ref.Tag) {
		written += ":" + ref.Tag
	}
	return []lookup{{
		collections: []arvados.Filter{{Attr: "properties." + KeyRepoTag, Operator: "contains", Operand: ref.RepoTag()}},
		links: []arvados.Filter{
			{Attr: "link_class", Operator: "=", Operand: LinkName},
			{Attr: "name", Operator: "in", Operand: slices.Compact([]string{ref.RepoTag(), written, ref.String()})},
		},
		check: Found.Check,
	}}, nil
}
