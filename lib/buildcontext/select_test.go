// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	fscopy "github.com/tonistiigi/fsutil/copy"
	check "gopkg.in/check.v1"
	"pgregory.net/rapid"
)

type selectSuite struct{ fixture }

var _ = check.Suite(&selectSuite{})

func (s *selectSuite) TestSelect(c *check.C) {
	files := []Entry{plain("Dockerfile"), plain("a.txt"), plain("b.txt"), plain("[x]"), plain("src/a.txt"), plain("src/sub/c.go"),
		plain("src/sub/d.md"), plain("src-2/a.txt"), folder("void")}
	linked := append([]Entry{symlink("l.txt", "a.txt"), symlink("to-src", "src"), symlink("src/sub/up", "../a.txt"), symlink("src/abs", "/b.txt")}, files...)
	for _, trial := range []struct {
		entries        []Entry
		patterns, want string
	}{
		{files, "", ""},
		{files, "a.txt", "a.txt"},
		{files, "a.txt b.txt a.txt", "a.txt b.txt"},
		{files, "nothing nothing/*", ""},
		{files, "a.txt/x", "a.txt"},
		{files, "src/a.txt", "src src/a.txt"},
		{files, "src", "src src/a.txt src/sub src/sub/c.go src/sub/d.md"},
		{files, "src/sub", "src src/sub src/sub/c.go src/sub/d.md"},
		{files, "src src/sub/c.go", "src src/a.txt src/sub src/sub/c.go src/sub/d.md"},
		{files, "src src-2", "src src/a.txt src/sub src/sub/c.go src/sub/d.md src-2 src-2/a.txt"},
		{files, "void", "void"},
		{files, "*.txt", "a.txt b.txt"},
		{files, "?.txt", "a.txt b.txt"},
		{files, "[^a].txt", "b.txt"},
		{files, "*/a.txt", "src src/a.txt src-2 src-2/a.txt"},
		{files, "src*/*.txt", "src src/a.txt src-2 src-2/a.txt"},
		{files, "s*b", ""},
		{files, "src/*.md", "src"}, // it is no error
		{files, "src/sub/*/x", "src src/sub"},
		{files, "src[^x]a.txt", "src src/a.txt"}, // a class may be a slash
		{files, "[[]x]", "[x]"},
		{files, "[x]", ""},
		{files, ".", "all"},
		{files, "a.txt .", "all"},
		{files, "*", "all"},
		{files, "[", "all"},
		{files, "a.txt b[", "all"},

		{linked, "a.txt *.md", "a.txt"},
		{linked, "*.txt", "all"},
		{linked, "l.txt", "all"},
		{linked, "to-src", "all"},
		{linked, "to-src/a.txt", "all"},
		{linked, "to-src/*", "all"},
		{linked, "to-*", "all"},
		{linked, "to-*/a.txt", ""}, // not through a wildcard
		{linked, "*/a.txt", "src src/a.txt src-2 src-2/a.txt"},
		{linked, "src/sub/up", "all"},
		{linked, "src src/abs/x", "all"},
		// Links in a folder stay what they are.
		{linked, "src", "src src/a.txt src/abs src/sub src/sub/c.go src/sub/d.md src/sub/up"},
		{linked, "src/sub src/a.txt", "src src/a.txt src/sub src/sub/c.go src/sub/d.md src/sub/up"},
	} {
		t := treeOf(c, trial.entries...)
		want := trial.want
		if want == "all" {
			want = strings.Join(paths(t), " ")
		}
		got := t.Select(strings.Fields(trial.patterns))
		c.Check(strings.Join(paths(got), " "), check.Equals, want, check.Commentf("%q", trial.patterns))
	}
}

// What is not selected makes no difference to BuildKit's copies.
func TestAnySelectionIsEnough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.SampledFrom([]string{"a", "b", "a.x", "b.x", ".h"})
		b := newBuilder()
		for range rapid.IntRange(0, 10).Draw(t, "entries") {
			name := path.Join(rapid.SliceOfN(part, 1, 4).Draw(t, "path")...)
			e := plain(name)
			if rapid.IntRange(0, 5).Draw(t, "link") == 0 {
				target := rapid.SampledFrom([]string{"", "", "/", "../"}).Draw(t, "from")
				e = symlink(name, target+path.Join(rapid.SliceOfN(part, 1, 2).Draw(t, "target")...))
			}
			_ = b.add(e) // one that is in the way of another is left out
		}
		tree := b.tree()
		pattern := rapid.Custom(func(t *rapid.T) string {
			piece := rapid.SampledFrom([]string{"a", "b", "a.x", ".h", "*", "a*", "*.x", "?", "[ab]", "[^b]", ".", "["})
			return path.Join(rapid.SliceOfN(piece, 1, 3).Draw(t, "pattern")...)
		})
		patterns := rapid.SliceOfN(pattern, 1, 3).Draw(t, "patterns")
		want, got := copies(t, tree, patterns), copies(t, tree.Select(patterns), patterns)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// copies are the files that BuildKit's COPY of each pattern makes.
func copies(t *rapid.T, tree *Tree, patterns []string) (made []string) {
	dir, err := os.MkdirTemp("", "select")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	from := filepath.Join(dir, "from")
	unpack(t, tree, from)
	for i, pattern := range patterns {
		to := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(to, 0755); err != nil {
			t.Fatal(err)
		}
		sources, failed := fscopy.ResolveWildcards(from, "/"+pattern, true)
		for _, source := range sources {
			failed = fscopy.Copy(context.Background(), from, source, to, "/", fscopy.WithCopyInfo(fscopy.CopyInfo{CopyDirContents: true, FollowLinks: true}))
			if failed != nil {
				break
			}
		}
		made = append(made, fmt.Sprintf("%s failed %v", pattern, failed != nil))
		err := filepath.WalkDir(to, func(name string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			var content []byte
			link := ""
			switch entry.Type() {
			case 0:
				content, err = os.ReadFile(name)
			case fs.ModeSymlink:
				link, err = os.Readlink(name)
			}
			made = append(made, fmt.Sprintf("%s %s %s%s", entry.Type(), strings.TrimPrefix(name, to), content, link))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return made
}

// unpack writes a tree of small files to a folder.
func unpack(t *rapid.T, tree *Tree, dir string) {
	err := os.Mkdir(dir, 0755)
	for e := range tree.Entries() {
		if err != nil {
			t.Fatal(err)
		}
		switch name := filepath.Join(dir, e.Path); e.Kind {
		case Folder:
			err = os.Mkdir(name, 0755)
		case Symlink:
			err = os.Symlink(e.Target, name)
		default:
			var content []byte
			if content, err = tree.ReadFile(context.Background(), e.Path, 1000); err == nil {
				err = os.WriteFile(name, content, 0644)
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
