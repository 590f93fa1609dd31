// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/lib/keepfile/keeptest"
	check "gopkg.in/check.v1"
)

type blocksSuite struct{ fixture }

var _ = check.Suite(&blocksSuite{})

// reading is files that lie in blocks named by letters: "AAB" is three files,
// two of which share a block.
func reading(keep keepfile.BlockReader, letters string) (entries []Entry) {
	for i, letter := range letters {
		f := keepfile.File{Segments: []keepfile.Segment{{Locator: fmt.Sprintf("%032d+9+Ahint%d@0", letter, i), Offset: int64(i % 9), Length: 1}}}
		entries = append(entries, fileInKeep(fmt.Sprint(i), keep, f))
	}
	return entries
}

func (s *blocksSuite) TestPlan(c *check.C) {
	for _, trial := range []struct {
		letters string
		want    string // of each load: letter, buffer, segments read before it starts
	}{
		{"", ""},
		{"A", "A00"},
		{"AAA", "A00"},
		{"ABC", "A00 B10 C20"},
		{"ABCDE", "A00 B10 C20 D01 E12"},
		{"AABBCCDD", "A00 B10 C20 D02"},
		{"ABABAB", "A00 B10"},
		{"ABACADAEA", "A00 B10 C20 D12 E24"}, // A stays
		{"ABCABC", "A00 B10 C20"},
		{"ABCDABCD", "A00 B10 C20 D23 C05"},
	} {
		loads, uses := planLoads(reading(nil, trial.letters))
		var got []string
		for _, l := range loads {
			var letter rune
			fmt.Sscanf(l.locator, "%032d", &letter)
			got = append(got, fmt.Sprintf("%c%d%d", letter, l.buffer, l.after))
		}
		c.Check(strings.Join(got, " "), check.Equals, trial.want, check.Commentf(trial.letters))
		for i, use := range uses {
			c.Check(blockName(loads[use].locator), check.Equals, fmt.Sprintf("%032d+9", trial.letters[i]))
			c.Check(loads[use].after <= i, check.Equals, true)
		}
	}
}

// Files in an order other than that of the blocks, and among files of other
// blocks, cost no more reads.
func (s *blocksSuite) TestEachBlockIsReadOnce(c *check.C) {
	var files []file
	for i := range 100 {
		files = append(files, file{fmt.Sprintf("%02d", i*37%100), strings.Repeat("x", 10+i)})
	}
	pdh := s.cl.store(1<<20, files[:50]...)
	other := s.cl.store(1<<20, files[50:]...)
	manifest := s.cl.collections[pdh] + s.cl.collections[other]
	t := s.collection(c, s.cl.add(manifest))
	_, err := readTar(t)
	c.Assert(err, check.IsNil)
	c.Check(s.cl.keep.Stats().Reads, check.Equals, 2)
	_, err = t.Digest(s.ctx)
	c.Assert(err, check.IsNil)
	c.Check(s.cl.keep.Stats().Reads, check.Equals, 4)
}

// Blocks are on their way while others are read from, but never more than there
// are buffers.
func (s *blocksSuite) TestReadAhead(c *check.C) {
	pdh := s.cl.store(100, file{"a", letters(1000)})
	var mtx sync.Mutex
	busy, peak, started := 0, 0, make(chan bool, 10)
	s.cl.keep.Script = func(ctx context.Context, _ *keeptest.Op) error {
		mtx.Lock()
		busy++
		peak = max(peak, busy)
		mtx.Unlock()
		started <- true
		time.Sleep(time.Millisecond)
		mtx.Lock()
		busy--
		mtx.Unlock()
		return nil
	}
	r := s.collection(c, pdh).Open(s.ctx)
	defer r.Close()
	_, err := io.ReadFull(r, make([]byte, 1))
	c.Assert(err, check.IsNil)
	for range blockBuffers { // nothing but the beginning was read
		<-started
	}
	data, err := io.ReadAll(r)
	c.Assert(err, check.IsNil)
	c.Check(strings.Contains(string(data), letters(1000)), check.Equals, true)
	c.Check(peak > 1 && peak <= blockBuffers, check.Equals, true)
}

func letters(n int) string {
	var text strings.Builder
	for i := range n {
		text.WriteByte(byte('a' + (i*i+i/26)%26))
	}
	return text.String()
}

func (s *blocksSuite) TestBadLocators(c *check.C) {
	for _, locator := range []string{"", "x", "d41d8cd98f00b204e9800998ecf8427e", "d41d8cd98f00b204e9800998ecf8427e+x", "d41d8cd98f00b204e9800998ecf8427e+99999999999", "d41d8cd98f00b204e9800998ecf8427e+-1"} {
		_, err := fetch(s.ctx, s.cl.client(), locator+"+Asecret", nil)
		c.Check(err, check.ErrorMatches, `keep: read block .*bad locator`)
	}
	// A segment that reaches beyond its block.
	pdh := s.cl.store(100, file{"a", "x"})
	t := s.collection(c, pdh)
	t.entries[0].stored.segments[0].Length = 2
	_, err := t.Digest(s.ctx)
	c.Check(err, check.ErrorMatches, `keep: read block .*\+1: a file needs it up to byte 2`)
}

// benchmarkTree is 20,000 files of 16 KiB, packed as arv-put does.
func benchmarkTree(b *testing.B) (*cluster, *Tree, []keepfile.Segment) {
	const files, size = 20_000, 16 << 10
	cl := newCluster()
	content := strings.Repeat("0123456789abcdef", size/16)
	var all []file
	for i := range files {
		all = append(all, file{fmt.Sprintf("dir%03d/file%05d", i/100, i), fmt.Sprintf("%05d", i) + content[5:]})
	}
	t, err := FromCollection(context.Background(), cl, cl.client(), cl.store(keepfile.BlockSize, all...))
	if err != nil {
		b.Fatal(err)
	}
	var whole []keepfile.Segment
	loads, _ := planLoads(t.entries)
	for _, l := range loads {
		var size int64
		fmt.Sscanf(l.locator[33:], "%d", &size)
		whole = append(whole, keepfile.Segment{Locator: l.locator, Length: size})
	}
	b.SetBytes(files * size)
	b.ResetTimer()
	return cl, t, whole
}

func BenchmarkOpen(b *testing.B) {
	_, t, _ := benchmarkTree(b)
	for b.Loop() {
		r := t.Open(context.Background())
		if _, err := io.Copy(io.Discard, r); err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
}

func BenchmarkDigest(b *testing.B) {
	_, t, _ := benchmarkTree(b)
	for b.Loop() {
		if _, err := t.Digest(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCeiling reads the same blocks and does nothing with them.
func BenchmarkCeiling(b *testing.B) {
	cl, _, whole := benchmarkTree(b)
	for b.Loop() {
		r := keepfile.NewReader(context.Background(), cl.client(), keepfile.File{Segments: whole})
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, make([]byte, 1<<20)); err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
}
