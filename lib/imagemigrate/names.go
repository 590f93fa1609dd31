// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"regexp"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/imageref"
)

// byHash are names that end in a digest: "repo@sha256:…", and "sha256:…", which
// arv-keepdocker makes of the words sha256 and hash.
var byHash = regexp.MustCompile(`^(.+@)?(sha256:[0-9a-f]{64})$`)

// partOfHash are names with the repository sha256 that lookups take for a part of an
// image's hash, or for one that is too short.
var partOfHash = regexp.MustCompile(`^sha256:[0-9a-fA-F]{1,64}$`)

// readName is the name that a link's name is in the properties, or the digest that
// it is, and what is special about it. hash is that of the image.
func readName(link, hash string) (name, digest string, kind Kind) {
	if m := byHash.FindStringSubmatch(link); m != nil && m[1] == "" {
		if m[2] == hash {
			return "", "", HashAsName
		}
		return "", m[2], DigestName
	}
	ref, err := imageref.Parse(link)
	switch {
	case partOfHash.MatchString(link):
		return "", "", HashPart
	case err != nil:
		return "", "", BadName
	case ref.Digest != "":
		return "", ref.Digest, DigestName
	case !strings.HasSuffix(link, ":"+ref.Tag):
		return "", "", NoTag
	case link != ref.RepoTag():
		return ref.RepoTag(), "", OtherSpelling
	}
	return link, "", ""
}

// otherTimes are forms that API servers read as times beside RFC 3339. Without a
// zone it is UTC.
var otherTimes = []string{
	"2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999",
	"2006-01-02 15:04:05.999999999 -0700", "2006-01-02 15:04:05.999999999 MST", "2006-01-02 15:04:05.999999999 -0700 MST",
}

// readTime is the time that a link tells, zero if it tells none. It is not clear if
// it is not in the form that it should have.
func readTime(value interface{}) (t time.Time, clear bool) {
	text, _ := value.(string)
	t, err := time.Parse(time.RFC3339Nano, text)
	clear = err == nil
	for i := 0; err != nil && i < len(otherTimes); i++ {
		t, err = time.Parse(otherTimes[i], strings.TrimSpace(text))
	}
	if err != nil || t.Year() <= 1 { // what Go programs write for a time that they do not know
		return time.Time{}, clear
	}
	return t.UTC(), clear
}
