// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"net/url"
	"path"
	"slices"
	"strings"
	"unicode"
)

// GitURL is a folder in a version of a git repository, as docker writes it:
// "https://host/path.git#ref:folder".
type GitURL struct {
	Repository string // "https://host/path.git"
	Ref        string // branch, tag, "refs/…" or commit in full; "" is HEAD
	Subdir     string // "" is all
}

// IsGitURL reports whether a context named on a command line is meant to be a
// URL, be it a proper one or not.
func IsGitURL(text string) bool {
	return strings.Contains(text, "://") || strings.HasPrefix(text, "git@")
}

// ParseGitURL takes a URL apart. Its errors do not repeat what may be a
// password or a token.
func ParseGitURL(text string) (GitURL, error) {
	const hint = "write it as https://host/path.git, https://host/path.git#ref or https://host/path.git#ref:folder"
	refuse := func(subject, cause, hint string) (GitURL, error) {
		return GitURL{}, refusal("read git URL", subject, cause, hint)
	}
	base, fragment, _ := strings.Cut(text, "#")
	u, err := url.Parse(base)
	if err != nil {
		return refuse("", "it is malformed", hint)
	}
	bare := (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
	switch {
	case u.User != nil:
		return refuse(bare, "it has a user name or a password", "leave them out: they would be on record; only public repositories can be read")
	case u.RawQuery != "" || u.ForceQuery:
		return refuse(bare, `it has a "?"`, hint)
	case u.Scheme != "https" || u.Hostname() == "":
		return refuse(bare, "it does not begin with https:// and a host", hint)
	case strings.Trim(u.Path, "/") == "":
		return refuse(bare, "it has no path", hint)
	}
	g := GitURL{Repository: strings.TrimRight(bare, "/")}
	ref, folder, _ := strings.Cut(fragment, ":")
	if strings.HasPrefix(ref, "-") || strings.Contains(ref, "..") || strings.ContainsAny(ref, `~^?*[\ `) || strings.ContainsFunc(ref, unicode.IsControl) {
		return refuse(g.Repository, "what comes after the # is no name of a branch or tag, and no commit", hint)
	}
	if slices.Contains(strings.Split(folder, "/"), "..") || strings.ContainsFunc(folder, unicode.IsControl) {
		return refuse(g.Repository, `the folder has a ".." or a control character`, hint)
	}
	g.Ref, g.Subdir = ref, strings.TrimPrefix(path.Clean("/"+folder), "/")
	return g, nil
}

// String is the URL again.
func (g GitURL) String() string {
	text := g.Repository
	if g.Ref != "" || g.Subdir != "" {
		text += "#" + g.Ref
	}
	if g.Subdir != "" {
		text += ":" + g.Subdir
	}
	return text
}
