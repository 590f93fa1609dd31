// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar_test

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// anyImage draws images with any number of layers, some of them more than once,
// of sizes on both sides of BigMember, with and without a manifest.
func anyImage() *rapid.Generator[imagetar.Image] {
	return rapid.Custom(func(t *rapid.T) imagetar.Image {
		size := rapid.OneOf(
			rapid.Int64Range(randomimage.MinLayer, 20000),
			rapid.Int64Range(imagetar.BigMember-600, imagetar.BigMember+600))
		layer := rapid.Custom(func(t *rapid.T) imagetar.Layer {
			compression := rapid.SampledFrom([]imagetar.Compression{imagetar.Plain, imagetar.Gzip}).Draw(t, "compression")
			return randomimage.Layer(rapid.Int64Range(0, 3).Draw(t, "seed"), size.Draw(t, "size"), compression)
		})
		different := rapid.SliceOfN(layer, 0, 5).Draw(t, "layers")
		layers := different
		if len(different) > 0 {
			layers = append(slices.Clone(different), rapid.SliceOfN(rapid.SampledFrom(different), 0, 2).Draw(t, "again")...)
		}
		img := randomimage.Of(layers...)
		if rapid.Bool().Draw(t, "without manifest") {
			img.Manifest, img.ManifestMediaType, img.Digests = nil, "", nil
		}
		return img
	})
}

func TestAnyLayoutReadsBackAsItWasComputed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		img := anyImage().Draw(t, "image")
		l, err := imagetar.NewLayout(img)
		if err != nil {
			t.Fatal(err)
		}
		stream := &countingReader{Reader: l.Reader(context.Background(), img.Layers)}
		archive := tar.NewReader(stream)
		var offset int64
		for _, m := range l.Members {
			hdr, err := archive.Next()
			if err != nil {
				t.Fatal(err)
			}
			// The header was the last thing read.
			offset += 512
			if stream.n != offset || offset%512 != 0 {
				t.Fatalf("content of %s starts at %d instead of %d", m.Name, stream.n, offset)
			}
			if hdr.Name != m.Name || hdr.Size != m.Size || hdr.Mode != 0644 || hdr.Uid != 0 || hdr.Gid != 0 || hdr.ModTime.Unix() != 0 || hdr.Uname+hdr.Gname != "" {
				t.Fatalf("header %+v of member %+v", hdr, m)
			}
			if n, err := io.Copy(io.Discard, archive); err != nil || n != m.Size {
				t.Fatalf("%s: %d bytes, %v", m.Name, n, err)
			}
			offset += m.Span() - 512
		}
		if _, err := archive.Next(); err != io.EOF {
			t.Fatal(err)
		}
		if stream.n != l.Size || offset+1024 != l.Size {
			t.Fatalf("%d bytes read, members end at %d, the size is %d", stream.n, offset, l.Size)
		}
	})
}

func TestAnyRunsCoverTheMembersOnceInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		img := anyImage().Draw(t, "image")
		l, err := imagetar.NewLayout(img)
		if err != nil {
			t.Fatal(err)
		}
		var covered []imagetar.Member
		var size int64
		runs := l.Runs()
		for i, run := range runs {
			covered = append(covered, run.Members...)
			size += run.Span()
			last := i == len(runs)-1
			if last != (run.Trailer == 1024) || !last && run.Trailer != 0 {
				t.Fatalf("run %d of %d has a trailer of %d bytes", i, len(runs), run.Trailer)
			}
			for _, m := range run.Members {
				if m.Size >= imagetar.BigMember && len(run.Members) > 1 {
					t.Fatalf("%s shares a run", m.Name)
				}
			}
			if i > 0 && small(runs[i-1]) && small(run) {
				t.Fatalf("runs %d and %d could be one", i-1, i)
			}
		}
		if diff := cmp.Diff(l.Members, covered); diff != "" {
			t.Fatal(diff)
		}
		if size != l.Size {
			t.Fatalf("runs have %d bytes, the archive %d", size, l.Size)
		}
	})
}

func small(run imagetar.Run) bool { return run.Members[0].Size < imagetar.BigMember }

// What we write, we read: the archive of a layout scans to the same layout,
// whatever the order of its members.
func TestAnyLayoutScansToItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		img := anyImage().Draw(t, "image")
		l, err := imagetar.NewLayout(img)
		if err != nil {
			t.Fatal(err)
		}
		shuffled := l
		shuffled.Members = rapid.Permutation(l.Members).Draw(t, "order")
		a, err := imagetar.ScanArchive(shuffled.Reader(context.Background(), img.Layers), &memorySink{})
		if err != nil {
			t.Fatal(err)
		}
		again, err := imagetar.NewLayout(a.Image)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(l, again); diff != "" {
			t.Fatal(diff)
		}
		for i, layer := range a.Image.Layers {
			if a.Members[i] != imagetar.BlobName(layer.Digest) {
				t.Fatalf("layer %d came from %s", i, a.Members[i])
			}
		}
	})
}

// Headers differ in name, size and checksum only.
func TestAnyHeaderIsConstantBesideNameAndSize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var headers [2][]byte
		for i := range headers {
			headers[i] = imagetar.Member{
				Name: imagetar.BlobName("sha256:" + strings.Repeat(fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "digit")), 64)),
				Size: rapid.Int64Range(0, 1<<33-1).Draw(t, "size"),
			}.Header()
			clear(headers[i][0:100])
			clear(headers[i][124:136])
			clear(headers[i][148:156])
		}
		if diff := cmp.Diff(headers[0], headers[1]); diff != "" {
			t.Fatal(diff)
		}
	})
}
