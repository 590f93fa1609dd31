// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepdocker

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/imageref"
)

var (
	// endsInTag is what the Python tool takes for a name that has its tag.
	endsInTag = regexp.MustCompile(`:\w[-.\w]{0,127}$`)
	// hashLike is what may be an image's hash, or the start of one.
	hashLike = regexp.MustCompile(`^(sha256:)?([0-9a-f]{1,64})$`)
	fullHash = regexp.MustCompile(`^(sha256:)?[0-9a-f]{64}$`)
)

// wanted is an image that the arguments name.
type wanted struct {
	lookup  string // what engine and Arvados are asked for
	written string // as the Python tool would register it: with a tag, and not normalised
	hash    string // its digits, if lookup may be a hash; "" if it cannot
	repoTag string // "alpine:3.22", the familiar form; "" for a name with a digest, and for a full hash
	ref     imageref.Ref
}

// parseWanted reads IMAGE and TAG.
func parseWanted(args []string) (wanted, error) {
	image, tag, tagged := args[0], "latest", endsInTag.MatchString(args[0])
	switch {
	case tagged && len(args) > 1:
		return wanted{}, wrong("TAG", fmt.Errorf("image %q has a tag already, so %q cannot be its tag", image, args[1]), "leave one of them out")
	case tagged:
		i := strings.LastIndexByte(image, ':')
		image, tag = image[:i], image[i+1:]
	case len(args) > 1:
		tag = args[1]
	}
	image = withoutStandardPort(image)
	w := wanted{written: image + ":" + tag}
	w.lookup = w.written
	if !tagged && len(args) == 1 && hashLike.MatchString(image) {
		w.lookup = image // a hash has no tag
	}
	if m := hashLike.FindStringSubmatch(w.lookup); m != nil {
		w.hash = m[2]
		if fullHash.MatchString(w.lookup) {
			return w, nil // no name is like this
		}
	}
	var err error
	if w.ref, err = imageref.Parse(w.written); err != nil {
		return wanted{}, err
	}
	switch {
	case w.ref.Digest != "":
	case w.ref.Tag != tag: // "3/22" would make the image a registry
		return wanted{}, wrong("TAG", fmt.Errorf("%q is not a tag", tag), "a tag is made of letters, digits, and the characters _ . -")
	default:
		w.repoTag = w.ref.RepoTag()
	}
	return w, nil
}

// withoutStandardPort leaves :443 out of a name with a registry, since docker
// does. What is left must still be a registry, and not somebody on Docker Hub.
func withoutStandardPort(image string) string {
	host, path, ok := strings.Cut(image, "/")
	bare, standard := strings.CutSuffix(host, ":443")
	if ok && standard && (strings.ContainsAny(bare, ".:") || bare == "localhost") {
		return bare + "/" + path
	}
	return image
}

// names are those that an image is to get, of which something has the given hash
// and names.
func (w wanted) names(hash string, has []string) names {
	byHash := w.hash != "" && strings.HasPrefix(strings.TrimPrefix(hash, "sha256:"), w.hash)
	switch {
	case w.repoTag == "" && w.hash != "", byHash && !slices.Contains(has, w.repoTag):
		return names{}
	case w.repoTag == "": // Older programs know images by such names.
		return names{title: w.written, links: []string{w.written}}
	}
	return names{title: w.written, repoTags: []string{w.repoTag}, links: []string{w.written}}
}

// names are what an image in Arvados is to be called.
type names struct {
	title    string   // in the collection's name
	repoTags []string // property, and links
	links    []string // further links: names as somebody has written them
}

// parseName reads NAME[:TAG] and TAG where it is a name to be given.
func parseName(args []string) (names, error) {
	w, err := parseWanted(args)
	if err != nil {
		return names{}, err
	}
	if w.repoTag == "" {
		return names{}, wrong("NAME", fmt.Errorf("%q is no name but a hash or has a digest", w.lookup), "write name:tag")
	}
	return names{title: w.written, repoTags: []string{w.repoTag}, links: []string{w.written}}, nil
}

// collectionName is as in the Python tool, the short hash with its prefix too. A
// collection's name must have no slashes.
func (n names) collectionName(hash string) string {
	short := hash[:min(12, len(hash))]
	if n.title == "" {
		return "Docker image " + short
	}
	return "Docker image " + strings.ReplaceAll(n.title, "/", " ") + " " + short
}
