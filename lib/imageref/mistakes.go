// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imageref

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"git.arvados.org/arvados.git/lib/fault"
	"github.com/distribution/reference"
)

var (
	// identifier is the id of an image, which docker and Arvados take in
	// many places where they take a name.
	identifier = regexp.MustCompile(`^(sha256:)?[a-f0-9]{64}$`)
	// portableDataHash is the other way to name an image in Arvados.
	portableDataHash = regexp.MustCompile(`^[a-f0-9]{32}\+[0-9]+$`)
	scheme           = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)
	ipv6Host         = regexp.MustCompile(`^[a-fA-F0-9]*:[a-fA-F0-9:]*:[a-fA-F0-9:]*/`)
	digestStart      = regexp.MustCompile(`^(sha|md)[0-9]+:`)
)

// refused finds the mistakes that docker's grammar would misread or repeat
// word by word in its message, credentials included.
func refused(s string) error {
	switch {
	case s == "":
		return fail(s, "the name is empty", "name an image, for example alpine:3.22")
	case strings.IndexFunc(s, isSpaceOrControl) >= 0:
		return fail(s, "the name contains white space or control characters", "remove them; an image name is one word")
	case redacted(s) != s:
		return fail(s, "what follows the @ is not a digest", "write name@sha256:… or name:tag; registry credentials belong in the secret mount /root/.docker/config.json")
	case scheme.MatchString(s):
		return fail(s, "the name starts with a scheme", "drop "+scheme.FindString(s)+" and start with the registry's host name")
	case portableDataHash.MatchString(s):
		return fail(s, "this is a portable data hash", "name an image in a registry; the collection with this hash is in Arvados already")
	case identifier.MatchString(s):
		return ambiguous(s)
	}
	return nil
}

// mistake explains what the grammar refused.
func mistake(s string, err error) error {
	name, digest, hasDigest := strings.Cut(s, "@")
	// The last colon belongs to a tag unless a path follows it.
	tag, hasTag := "", false
	if i := strings.LastIndex(name, ":"); i >= 0 && !strings.Contains(name[i:], "/") {
		name, tag, hasTag = name[:i], name[i+1:], true
	}
	host, path, hasHost := strings.Cut(name, "/")
	if !hasHost {
		path = name
	}
	switch {
	case hasDigest && !validDigest.MatchString(digest):
		return badDigest(s)
	case ipv6Host.MatchString(s):
		return fail(s, "an IPv6 address must be in brackets", "write the registry as [::1] or [::1]:5000")
	case strings.HasPrefix(s, "/") || strings.HasSuffix(name, "/") || strings.Contains(name, "//"):
		return fail(s, "the name has an empty part", "remove the extra slash")
	case strings.HasSuffix(name, ":") || hasTag && strings.Contains(path, ":"):
		return fail(s, "the name has more than one colon after the registry", "write repository:tag with one colon")
	case hasTag && tag == "":
		return fail(s, "the tag is empty", "name a tag after the colon, or leave the colon out to mean "+defaultTag)
	case len(tag) > 128:
		return fail(s, "the tag is longer than 128 characters", "check the tag")
	case hasTag && !validTag.MatchString(tag):
		return fail(s, "the tag is malformed", "a tag is made of letters, digits, and the characters _ . -, and starts with none of . and -")
	case strings.ToLower(path) != path:
		return fail(s, "the repository name must be lower case", "write "+quote(strings.ToLower(path)))
	case errors.Is(err, reference.ErrNameTooLong):
		return fail(s, "the repository name is longer than 255 characters", "check the name")
	case hasHost && !validHost.MatchString(host) && strings.ContainsAny(host, ".:["):
		return fail(s, "the registry's host name is malformed", "write host or host:port before the first slash")
	}
	return fail(s, "the name is malformed", "write [registry/]repository[:tag][@sha256:…], where the repository is made of lower case letters, digits, and single . _ or - between them")
}

var (
	validTag    = regexp.MustCompile(`^` + reference.TagRegexp.String() + `$`)
	validHost   = regexp.MustCompile(`^` + reference.DomainRegexp.String() + `$`)
	validDigest = regexp.MustCompile(`^sha256:[a-f0-9]{64}$`)
)

func badDigest(s string) error {
	return fail(s, "the digest is malformed", "write @sha256: and 64 lower case hexadecimal digits")
}

func ambiguous(s string) error {
	return fail(s, "this is the id of an image, which no registry can look up", "write the repository, too: name:tag, or name@sha256:… with the digest of the manifest")
}

func fail(s, problem, hint string) error {
	return &fault.Error{Op: "read image name", Side: fault.Request, Subject: quote(s), Err: errors.New(problem), Hint: hint}
}

// quote makes s fit for a message: no control characters, no credentials, of
// moderate length.
func quote(s string) string {
	s = redacted(s)
	if runes := []rune(s); len(runes) > 300 {
		s = string(runes[:300]) + "…"
	}
	return strconv.Quote(s)
}

// redacted leaves out what stands before an @ that starts no digest: users
// paste URLs like https://user:secret@host/path.
func redacted(s string) string {
	if i := strings.LastIndex(s, "@"); i >= 0 && !digestStart.MatchString(s[i+1:]) {
		return "…" + s[i:]
	}
	return s
}

func isSpaceOrControl(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
