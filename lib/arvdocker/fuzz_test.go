// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"strings"
	"testing"

	"git.arvados.org/arvados.git/lib/imageref"
)

// A name lists itself, and its repository lists it, too.
func FuzzWanted(f *testing.F) {
	for _, text := range []string{"alpine", "alpine:3.22", "localhost:5000/a/b", "localhost:5000/a/b:1", "docker.io/library/x", "a@b", ":", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		want, err := parseWanted(text)
		if err != nil {
			return
		}
		ref, err := imageref.Parse(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		repository, tag := splitName(ref.RepoTag())
		if !want.fits(ref.RepoTag()) || repository != want.repository || tag != ref.Tag {
			t.Errorf("%q: %+v, and %q is taken apart to %q and %q", text, want, ref.RepoTag(), repository, tag)
		}
		if want.fits(repository+":"+tag+"x") != (want.repoTag == "") {
			t.Errorf("%q: another tag of it", text)
		}
	})
}

// No secret gets into flags or errors, whatever is written.
func FuzzSecretFlag(f *testing.F) {
	for _, text := range []string{"id=a,src=/none", "id=a", `"id=a,src=b`, "id=../x,source=/none", "type=env,id=x", "a=b"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "/dev/") {
			return // some of it never ends
		}
		flags := buildFlags{secrets: []string{text}}
		mounts, words, err := flags.secretMounts()
		if err != nil {
			if mounts != nil || words != nil {
				t.Errorf("%q: %v and %v", text, mounts, words)
			}
			return
		}
		for path := range mounts {
			if !strings.HasPrefix(path, secretMounts) || strings.Contains(strings.TrimPrefix(path, secretMounts), "/") {
				t.Errorf("%q: mount at %q", text, path)
			}
		}
	})
}
