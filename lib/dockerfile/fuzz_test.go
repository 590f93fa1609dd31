// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerfile_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"git.arvados.org/arvados.git/lib/dockerfile"
	"git.arvados.org/arvados.git/lib/fault"
)

// FuzzParse: whatever the text, it is refused as the user's mistake, or it can
// be rewritten, and BuildKit looks up exactly the images that are listed, and
// reads no more of the context.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.golden")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		text, _, _ := bytes.Cut(content, []byte(separator))
		f.Add(text, "", "3.22")
		f.Add(text, "one", "")
	}
	f.Fuzz(func(t *testing.T, text []byte, target, arg string) {
		opts := dockerfile.Options{BuildPlatform: "linux/amd64", Target: target, Args: map[string]string{"VERSION": arg}}
		recipe, err := dockerfile.Parse(text, opts)
		if err != nil {
			if fault.SideOf(err) != fault.Request || fault.Transient(err) {
				t.Fatalf("an error of no side: %v", err)
			}
			return
		}
		rewritten, err := recipe.Rewrite(pin)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if strings.Count(string(rewritten), "\n") != strings.Count(string(text), "\n") {
			t.Fatalf("the number of lines changed:\n%s\n%s", text, rewritten)
		}
		again, err := dockerfile.Parse(rewritten, opts)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range again.Images {
			if !strings.HasPrefix(u.Name, "pin.test/") {
				t.Fatalf("%s is not pinned", u.Name)
			}
		}
		asked, paths, err := ask(text, opts, nil)
		if err == nil && !slices.Equal(asked, listed(recipe, opts)) {
			t.Fatalf("BuildKit looks up %q, listed are %q:\n%s", asked, listed(recipe, opts), text)
		}
		if err == nil && !covered(recipe, paths) {
			t.Fatalf("BuildKit reads %q of the context, listed are %q:\n%s", paths, recipe.ContextPaths, text)
		}
	})
}
