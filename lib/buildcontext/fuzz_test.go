// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"context"
	"net/url"
	"testing"

	"git.arvados.org/arvados.git/lib/fault"
)

func FuzzParseGitURL(f *testing.F) {
	for _, text := range []string{"https://h/p.git#v1:a/b", "https://u:p@h/p.git", "https://[::1]:8443/%2e%2e/#:..", "git@h:p", "#:", "https://h/p?q#r"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		g, err := ParseGitURL(text)
		if err != nil {
			if fault.SideOf(err) != fault.Request || fault.Transient(err) {
				t.Fatalf("an error of no side: %v", err)
			}
			return
		}
		if again, err := ParseGitURL(g.String()); err != nil || again != g {
			t.Fatalf("%q becomes %+v, then %+v, %v", text, g, again, err)
		}
		if u, err := url.Parse(g.Repository); err != nil || u.User != nil || u.Scheme != "https" {
			t.Fatalf("%q leads to %q, %v", text, g.Repository, err)
		}
		if g.Subdir != "" && checkName(g.Subdir) != nil {
			t.Fatalf("%q leads to %q", text, g.Subdir)
		}
	})
}

// FuzzFilter: a pattern that was taken can be applied, and what is left is a
// tree.
func FuzzFilter(f *testing.F) {
	for _, text := range []string{"*\n!a/b", "**/x", "[", "!", "a\n!a\na", "\xef\xbb\xbf#\n", "[^a]/*", `\a`, "!!a", "*/../b"} {
		f.Add(text, "a/b/c", "x")
	}
	f.Fuzz(func(t *testing.T, text, one, two string) {
		b := newBuilder()
		for _, name := range []string{one, two, "a/b", "c"} {
			_ = b.add(plain(name)) // improper names are left out
		}
		ignore, err := ParseIgnore("f", []byte(text))
		if err != nil {
			if fault.SideOf(err) != fault.Request {
				t.Fatalf("an error of no side: %v", err)
			}
			return
		}
		filtered, err := b.tree().Filter(context.Background(), ignore)
		if err != nil {
			t.Fatal(err)
		}
		for e := range filtered.Entries() {
			if _, err := filtered.Lookup(parentOf(e.Path)); err != nil {
				t.Fatalf("%q is left without its folder", e.Path)
			}
		}
	})
}

func FuzzManifest(f *testing.F) {
	f.Add(". d41d8cd98f00b204e9800998ecf8427e+0 0:0:a\\000b\n")
	f.Add("./a d41d8cd98f00b204e9800998ecf8427e+0 0:0:\\056\n./b 900150983cd24fb0d6963f7d28e17f72+3 0:3:c 1:1:d\n")
	f.Add("./a d41d8cd98f00b204e9800998ecf8427e+0 0:0:b\\057c\n. d41d8cd98f00b204e9800998ecf8427e+0 0:0:a\\057b\n")
	f.Fuzz(func(t *testing.T, manifest string) {
		tree, err := newCollections(nil, nil).tree(manifest)
		if err != nil {
			return
		}
		planLoads(tree.entries)
		for e := range tree.Entries() {
			if checkName(e.Path) != nil {
				t.Fatalf("%q", e.Path)
			}
			if found, err := tree.Lookup(e.Path); err != nil || found.Path != e.Path {
				t.Fatalf("%q is found as %q, %v", e.Path, found.Path, err)
			}
		}
	})
}
