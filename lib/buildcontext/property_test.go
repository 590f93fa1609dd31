// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/google/go-cmp/cmp"
	"github.com/tonistiigi/fsutil"
	"pgregory.net/rapid"
)

// anyName draws names of files, odd ones among them.
func anyName() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		name := rapid.OneOf(
			rapid.SampledFrom([]string{"a", "b", "a.b", "a-b", ".a", "...", " ", "\\", "\n", "\xff", ":", strings.Repeat("n", 150)}),
			rapid.StringMatching(`[a-c.]{1,3}`), rapid.StringN(1, 10, 30)).Draw(t, "name")
		if name = strings.NewReplacer("/", "_", "\x00", "_").Replace(name); name == "." || name == ".." {
			name = "dot"
		}
		return name
	})
}

func anyPath() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		return path.Join(rapid.SliceOfN(anyName(), 1, 4).Draw(t, "path")...)
	})
}

// anyTree draws a tree of files, folders and links.
func anyTree() *rapid.Generator[*Tree] {
	return rapid.Custom(func(t *rapid.T) *Tree {
		b := newBuilder()
		for range rapid.IntRange(0, 12).Draw(t, "entries") {
			e := folder(anyPath().Draw(t, "path"))
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				e = symlink(e.Path, anyPath().Draw(t, "target"))
			case 1, 2:
				mode := rapid.SampledFrom([]Entry{{Mode: plainMode}, {Mode: executableMode}}).Draw(t, "mode").Mode
				e = fileInMemory(e.Path, mode, rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "content"))
			}
			_ = b.add(e) // one that is in the way of another is left out
		}
		return b.tree()
	})
}

func TestAnyTreeReadsBackFromItsStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tree := anyTree().Draw(t, "tree")
		data, err := readTar(tree)
		if err != nil {
			t.Fatal(err)
		}
		again := newBuilder()
		seen := map[string]bool{"": true}
		for archive := tar.NewReader(bytes.NewReader(data)); ; {
			hdr, err := archive.Next()
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			name := strings.TrimSuffix(hdr.Name, "/")
			if !seen[parentOf(name)] {
				t.Fatalf("%q comes before its folder", name)
			}
			seen[name] = hdr.Typeflag == tar.TypeDir
			content, err := io.ReadAll(archive)
			if err != nil {
				t.Fatal(err)
			}
			e := fileInMemory(name, 0, content)
			e.Kind, e.Mode, e.Target = Kind(hdr.Typeflag), hdr.FileInfo().Mode().Perm(), hdr.Linkname
			if err := again.add(e); err != nil {
				t.Fatal(err)
			}
		}
		one, err1 := tree.Digest(context.Background())
		two, err2 := again.tree().Digest(context.Background())
		if one != two || err1 != nil || err2 != nil {
			t.Fatalf("%v and %v: %v, %v\n%s", one, two, err1, err2, cmp.Diff(paths(tree), paths(again.tree())))
		}
	})
}

// However Keep has packed the files, and in whatever order, the stream is the
// same to the last byte.
func TestAnyPackingGivesTheSameStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var files []file
		taken := newBuilder()
		for range rapid.IntRange(0, 12).Draw(t, "files") {
			f := file{anyPath().Draw(t, "path"), strings.Repeat(rapid.StringN(0, 5, 10).Draw(t, "content"), rapid.IntRange(0, 50).Draw(t, "times"))}
			if taken.add(plain(f.path)) == nil {
				files = append(files, f)
			}
		}
		cl := newCluster()
		var streams, digests [2]string
		for i := range streams {
			packed := rapid.Permutation(files).Draw(t, "order")
			pdh := cl.store(rapid.IntRange(1, 300).Draw(t, "block size"), packed...)
			tree, err := FromMounts(context.Background(), cl, cl.client(), map[string]arvados.Mount{"/": {Kind: "collection", PortableDataHash: pdh}})
			if err != nil {
				t.Fatal(err)
			}
			data, err := readTar(tree)
			if err != nil {
				t.Fatal(err)
			}
			streams[i] = string(data)
			if digests[i], err = tree.Digest(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		if streams[0] != streams[1] || digests[0] != digests[1] {
			t.Fatalf("%s and %s", digests[0], digests[1])
		}
	})
}

// A plan never takes a block away that it has still to read from.
func TestAnyPlanHoldsTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		letters := rapid.StringMatching(`[A-F]{0,30}`).Draw(t, "blocks")
		loads, uses := planLoads(reading(keepfile.BlockReader(nil), letters))
		if len(uses) != len(letters) || len(loads) > len(letters) {
			t.Fatalf("%d uses, %d loads", len(uses), len(loads))
		}
		for i, use := range uses {
			if want := fmt.Sprintf("%032d+9", letters[i]); blockName(loads[use].locator) != want {
				t.Fatalf("segment %d is read from %s", i, loads[use].locator)
			}
			for _, later := range loads[use+1:] {
				if later.buffer == loads[use].buffer && later.after <= i {
					t.Fatalf("segment %d is overwritten", i)
				}
			}
			for _, now := range loads[:use+1] {
				if now.after > i {
					t.Fatalf("segment %d waits for ever", i)
				}
			}
		}
	})
}

// BuildKit filters the folders that the docker CLI sends with its fsutil.
func TestAnyFilterIsBuildKits(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "filter")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		part := rapid.SampledFrom([]string{"a", "b", "a.x", "b.x", ".h"})
		for range rapid.IntRange(0, 8).Draw(t, "files") {
			name := filepath.Join(dir, path.Join(rapid.SliceOfN(part, 1, 4).Draw(t, "path")...))
			_ = os.MkdirAll(filepath.Dir(name), 0755)
			_ = os.WriteFile(name, nil, 0644) // unless it is a folder
		}
		pattern := rapid.Custom(func(t *rapid.T) string {
			piece := rapid.SampledFrom([]string{"a", "b", "*", "**", "*.x", "?", "[ab]", ".*", "..", "a.x", "**.x"})
			return rapid.SampledFrom([]string{"", "", "!", "/"}).Draw(t, "sign") + path.Join(rapid.SliceOfN(piece, 1, 3).Draw(t, "pattern")...)
		})
		ignore, err := ParseIgnore(IgnoreName, []byte(strings.Join(rapid.SliceOfN(pattern, 0, 4).Draw(t, "patterns"), "\n")))
		if err != nil {
			t.Fatal(err)
		}

		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		tree, err := FromFolder(ctx, root)
		if err != nil {
			t.Fatal(err)
		}
		filtered, err := tree.Filter(context.Background(), ignore)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{}
		err = fsutil.WalkDir(ctx, dir, &fsutil.FilterOpt{ExcludePatterns: ignore.Patterns}, func(name string, _ fs.DirEntry, err error) error {
			want = append(want, name)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		got := paths(filtered)
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}
