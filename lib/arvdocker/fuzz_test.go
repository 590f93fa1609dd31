// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"io"
	"net/url"
	"strings"
	"testing"

	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/lib/imagetar"
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

// Whatever a configuration says of an image's steps, each has a size or is said to
// have none, and no layer is counted twice.
func FuzzSteps(f *testing.F) {
	for _, text := range []string{`{}`, `{"history":[{"created_by":"x"},{"empty_layer":true},{}]}`, `{"history":[{"created":"0001-01-01T00:00:00Z","size":7}]}`, `[]`, `{"history":{}}`} {
		f.Add([]byte(text), 2)
	}
	f.Fuzz(func(t *testing.T, config []byte, layers int) {
		img := imagetar.Image{Config: config}
		for i := range max(0, min(layers, 10)) {
			img.Layers = append(img.Layers, imagetar.Layer{Size: 1 << i})
		}
		all, err := steps(img)
		if err != nil {
			return
		}
		var sum int64
		for _, st := range all {
			if st.EmptyLayer && st.Size != 0 {
				t.Errorf("%s: an empty layer of %d bytes", config, st.Size)
			}
			sum += max(st.Size, 0)
		}
		if sum != 0 && sum != 1<<len(img.Layers)-1 {
			t.Errorf("%s: %d layers have %d bytes", config, len(img.Layers), sum)
		}
		if err := printSteps(io.Discard, all, false); err != nil {
			t.Error(err)
		}
	})
}

// No password of a URL is shown again.
func FuzzPassword(f *testing.F) {
	f.Add("https", "me", "host/x.git#main")
	f.Add("git+ssh", "", "h:1")
	f.Fuzz(func(t *testing.T, scheme, user, rest string) {
		word := scheme + "://" + url.PathEscape(user) + ":" + secretWord + "@" + rest
		if u, err := url.Parse(word); err != nil || u.User == nil {
			return // no URL, which git would not take either
		} else if password, _ := u.User.Password(); password != secretWord {
			return // the colon is elsewhere
		}
		if strings.Contains(strings.TrimSuffix(withoutPassword(word), rest), secretWord) {
			t.Errorf("%q: %q", word, withoutPassword(word))
		}
	})
}
