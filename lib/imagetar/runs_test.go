// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&runsSuite{})

type runsSuite struct{}

// shape writes the runs as the sizes of their layers, "m" standing for the five
// members of metadata and "0" for the trailer: "5000 4194304|…".
func shape(l imagetar.Layout) string {
	var runs []string
	for _, run := range l.Runs() {
		var sizes []string
		for _, m := range run.Members {
			if m.Layer >= 0 {
				sizes = append(sizes, fmt.Sprint(m.Size))
			} else {
				sizes = append(sizes, "m")
			}
		}
		if run.Trailer > 0 {
			sizes = append(sizes, "0")
		}
		runs = append(runs, strings.Join(sizes, " "))
	}
	return strings.Join(runs, "|")
}

func (s *runsSuite) TestBigMembersStandAloneAndSmallOnesTogether(c *check.C) {
	const big, small = imagetar.BigMember, imagetar.BigMember - 1
	for _, t := range []struct {
		layers []int64
		shape  string
	}{
		{nil, "m m m m m 0"},
		{[]int64{small}, "4194303 m m m m m 0"},
		{[]int64{big}, "4194304|m m m m m 0"},
		{[]int64{small, 5000, big, 6000}, "4194303 5000|4194304|6000 m m m m m 0"},
		{[]int64{big, big + 1}, "4194304|4194305|m m m m m 0"},
	} {
		c.Check(shape(mustLayout(c, randomimage.New(1, t.layers...))), check.Equals, t.shape)
	}
}

// A config is a member like any other.
func (s *runsSuite) TestBigConfigStandsAlone(c *check.C) {
	img := imagetar.Image{Config: []byte(`{"rootfs":{"type":"layers","diff_ids":[]},"comment":"` + strings.Repeat("x", imagetar.BigMember) + `"}`)}
	c.Check(shape(mustLayout(c, img)), check.Equals, "m|m m m m 0")
}

// The reason for the rule: the bytes of a big layer's run depend on nothing but
// the layer, wherever the layer is in the image.
func (s *runsSuite) TestImagesThatShareTheirLastLayerShareItsRun(c *check.C) {
	shared := randomimage.Layer(9, 5<<20, imagetar.Gzip)
	one := randomimage.Of(randomimage.Layer(1, 6<<20, imagetar.Gzip), shared)
	two := randomimage.Of(randomimage.Layer(2, 3000, imagetar.Gzip), randomimage.Layer(3, 4000, imagetar.Plain), shared)
	base := randomimage.Of(shared)
	want := runBytes(c, base, 0)
	c.Check(len(want) > 5<<20, check.Equals, true)
	for _, t := range []struct {
		img imagetar.Image
		run int
	}{{one, 1}, {two, 1}} {
		c.Check(bytes.Equal(runBytes(c, t.img, t.run), want), check.Equals, true)
	}
}

// runBytes cuts a run out of the archive.
func runBytes(c *check.C, img imagetar.Image, n int) []byte {
	archive := archiveOf(c, img)
	var start int64
	runs := mustLayout(c, img).Runs()
	for _, run := range runs[:n] {
		start += run.Span()
	}
	return archive[start : start+runs[n].Span()]
}

// huge is an image with a layer for which a ustar header has no room. Nobody
// knows the digest of its zeros, and a layout need not.
func huge(size int64) imagetar.Image {
	digest := "sha256:" + strings.Repeat("ab", 32)
	layer := imagetar.Layer{
		MediaType: "application/vnd.oci.image.layer.v1.tar",
		Digest:    digest,
		DiffID:    digest,
		Size:      size,
		Open: func(ctx context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.LimitReader(zeros{}, size)), nil
		},
	}
	return imagetar.Image{
		Config: []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["` + digest + `"]}}`),
		Layers: []imagetar.Layer{layer},
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

const hugeSize = 8 << 30

func (s *runsSuite) TestHeaderOfEightGiBNeverChanges(c *check.C) {
	// One byte less still fits eleven octal digits.
	limit := mustLayout(c, huge(hugeSize-1)).Members[0].Header()
	c.Check(string(limit[124:136]), check.Equals, "77777777777\x00")
	c.Check(string(limit[257:265]), check.Equals, "ustar\x0000")

	// Base-256: the top bit, then the number.
	header := mustLayout(c, huge(hugeSize)).Members[0].Header()
	c.Check(header[124:136], check.DeepEquals, []byte{0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0})
	golden(c, "header-8gib", header)
}

func (s *runsSuite) TestArchiveWithALayerOfEightGiB(c *check.C) {
	img := huge(hugeSize + 1)
	l := mustLayout(c, img)
	c.Check(l.Runs(), check.HasLen, 2)
	c.Check(l.Runs()[0].Span(), check.Equals, int64(hugeSize+1024))
	r := l.Reader(context.Background(), img.Layers)
	defer r.Close()
	// A large buffer, since this is about 8 GiB.
	counted := &countingReader{Reader: r}
	archive := tar.NewReader(counted)
	hdr, err := archive.Next()
	c.Assert(err, check.IsNil)
	c.Check(hdr.Size, check.Equals, int64(hugeSize+1))
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, archive, make([]byte, 1<<20))
	c.Check(err, check.IsNil)
	c.Check(n, check.Equals, hdr.Size)
	for range 5 {
		_, err = archive.Next()
		c.Assert(err, check.IsNil)
	}
	_, err = archive.Next()
	c.Check(err, check.Equals, io.EOF)
	_, err = io.Copy(io.Discard, counted)
	c.Check(err, check.IsNil)
	c.Check(counted.n, check.Equals, l.Size)
}

type countingReader struct {
	io.Reader
	n int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n += int64(n)
	return n, err
}

// Other programs than Go's read the header, too. The file has a hole instead of
// content.
func (s *runsSuite) TestTarProgramListsALayerOfEightGiB(c *check.C) {
	l := mustLayout(c, huge(hugeSize))
	name := filepath.Join(c.MkDir(), "huge.tar")
	f, err := os.Create(name)
	c.Assert(err, check.IsNil)
	defer f.Close()
	_, err = f.Write(l.Members[0].Header())
	c.Assert(err, check.IsNil)
	c.Assert(f.Truncate(l.Members[0].Span()+1024), check.IsNil)
	out, err := exec.Command("tar", "-tvf", name).CombinedOutput()
	c.Assert(err, check.IsNil, check.Commentf("%s", out))
	c.Check(string(out), check.Matches, `-rw-r--r-- 0/0 +8589934592 1970-01-01 00:00 blobs/sha256/(ab){32}\n`)
}

func (s *runsSuite) TestPaddingFillsTheLastBlock(c *check.C) {
	for size, padding := range map[int64]int{0: 0, 1: 511, 511: 1, 512: 0, 513: 511, hugeSize + 5: 507} {
		m := imagetar.Member{Name: "x", Size: size}
		c.Check(m.Padding(), check.DeepEquals, make([]byte, padding))
		c.Check(m.Span(), check.Equals, 512+size+int64(padding))
	}
}
