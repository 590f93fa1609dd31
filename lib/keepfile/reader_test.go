// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"testing"
	"testing/iotest"

	"git.arvados.org/arvados.git/lib/keepfile/keeptest"
	"go.uber.org/goleak"
	check "gopkg.in/check.v1"
	"pgregory.net/rapid"
)

type readerSuite struct {
	keep *keeptest.Keep
	file File   // of several blocks
	want []byte // its content
}

var _ = check.Suite(&readerSuite{})

func (s *readerSuite) SetUpTest(c *check.C) {
	s.keep = keeptest.New()
	s.file, s.want = File{}, nil
	for i, size := range []int{1000, 1, 70_000, 70_000, 5} {
		data := random(size + i)
		b := put(c, s.keep.As("token"), data)
		s.file.Segments = append(s.file.Segments, Segment{Locator: b.Locator, Length: b.Size})
		s.want = append(s.want, data...)
	}
}

func (s *readerSuite) open() *Reader {
	return NewReader(context.Background(), s.keep.As("token"), s.file)
}

func (s *readerSuite) TestIsAProperReader(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	r := s.open()
	c.Check(iotest.TestReader(r, s.want), check.IsNil)
	c.Check(r.Size(), check.Equals, int64(len(s.want)))
	c.Check(r.Close(), check.IsNil)
	_, err := r.ReadAt(make([]byte, 1), 0)
	c.Check(errors.Is(err, errClosed), check.Equals, true)
}

func (s *readerSuite) TestEmptyFile(c *check.C) {
	s.file.Segments = []Segment{{Locator: emptyLocator}}
	r := s.open()
	defer r.Close()
	c.Check(iotest.TestReader(r, nil), check.IsNil)
	c.Check(s.keep.Stats().Reads, check.Equals, 0)
}

func (s *readerSuite) TestImpossiblePlaces(c *check.C) {
	r := s.open()
	defer r.Close()
	_, err := r.Seek(-1, io.SeekStart)
	c.Check(err, check.ErrorMatches, `keepfile: cannot seek to -1`)
	_, err = r.Seek(0, 3)
	c.Check(err, check.NotNil)
	_, err = r.ReadAt(nil, -1)
	c.Check(err, check.ErrorMatches, `keepfile: cannot read at -1`)
}

// Reading from start to end fetches each block once, the next one before it
// is asked for.
func (s *readerSuite) TestReadsAhead(c *check.C) {
	asked := make(chan string, 10)
	s.keep.Script = func(_ context.Context, op *keeptest.Op) error {
		asked <- op.Block
		return nil
	}
	r := s.open()
	defer r.Close()
	_, err := r.Read(make([]byte, 1))
	c.Assert(err, check.IsNil)
	for range 2 {
		<-asked // the second comes without further reading
	}
	_, err = io.Copy(io.Discard, r)
	c.Check(err, check.IsNil)
	c.Check(s.keep.Stats().Reads, check.Equals, len(s.file.Segments))
}

func (s *readerSuite) TestNoReadAheadWhenJumping(c *check.C) {
	r := s.open()
	defer r.Close()
	for _, off := range []int64{2000, 3000, 900, 100} {
		_, err := r.ReadAt(make([]byte, 10), off)
		c.Assert(err, check.IsNil)
	}
	c.Check(s.keep.Stats().Reads, check.Equals, 2) // the third block, then the first
}

// A block fetched ahead in vain is given up, and its memory used again.
func (s *readerSuite) TestJumpCancelsReadAhead(c *check.C) {
	second := blockName(s.file.Segments[1].Locator)
	s.keep.Script = func(ctx context.Context, op *keeptest.Op) error {
		if op.Block == second {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	r := s.open()
	defer r.Close()
	_, err := r.Read(make([]byte, 1))
	c.Assert(err, check.IsNil)
	got := make([]byte, 10)
	_, err = r.ReadAt(got, 5000)
	c.Check(err, check.IsNil)
	c.Check(got, check.DeepEquals, s.want[5000:5010])
}

func (s *readerSuite) TestDamage(c *check.C) {
	for message, script := range map[string]func(op *keeptest.Op) error{
		`keep: read block [0-9a-f]*\+1000: checksum mismatch`:         func(op *keeptest.Op) error { op.Data = make([]byte, len(op.Data)); return nil },
		`keep: read block [0-9a-f]*\+1000: more than 1000 bytes came`: func(op *keeptest.Op) error { op.Data = make([]byte, len(op.Data)+1); return nil },
		`keep: read block [0-9a-f]*\+1000: 404 not found`:             func(op *keeptest.Op) error { return keeptest.Error{Status: 404, Message: "not found"} },
	} {
		s.keep.Script = func(_ context.Context, op *keeptest.Op) error { return script(op) }
		r := s.open()
		_, err := r.Read(make([]byte, 10))
		c.Check(err, check.ErrorMatches, message)
		s.keep.Script = nil
		_, err = r.Read(make([]byte, 10)) // Keep is well again
		c.Check(err, check.IsNil)
		c.Check(r.Close(), check.IsNil)
	}
}

func (s *readerSuite) TestSegmentBeyondItsBlock(c *check.C) {
	s.file.Segments[0].Length++
	r := s.open()
	defer r.Close()
	_, err := r.Read(make([]byte, 10))
	c.Check(err, check.ErrorMatches, `keep: read block [0-9a-f]*\+1000: the file needs it up to byte 1001`)
}

func (s *readerSuite) TestCloseEndsARead(c *check.C) {
	reading := make(chan struct{})
	s.keep.Script = func(ctx context.Context, _ *keeptest.Op) error {
		close(reading)
		<-ctx.Done()
		return ctx.Err()
	}
	r := s.open()
	result := make(chan error)
	go func() {
		_, err := r.Read(make([]byte, 10))
		result <- err
	}()
	<-reading
	c.Check(r.Close(), check.IsNil)
	c.Check(<-result, check.ErrorMatches, `keep: read block .*`)
}

// Files of any segments read as what they say, by any sequence of calls.
func TestReaderLikeBytes(t *testing.T) {
	keep := keeptest.New()
	kc := keep.As("token")
	var blocks []Block
	var contents [][]byte
	for i := range 4 {
		data := make([]byte, 1+i*30)
		rand.New(rand.NewSource(int64(i))).Read(data)
		resp, err := kc.BlockWrite(context.Background(), writeOptions(data))
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, Block{Locator: resp.Locator, Size: int64(len(data))})
		contents = append(contents, data)
	}
	rapid.Check(t, func(t *rapid.T) {
		var f File
		var want []byte
		for range rapid.IntRange(0, 8).Draw(t, "segments") {
			i := rapid.IntRange(0, len(blocks)-1).Draw(t, "block")
			from := rapid.IntRange(0, len(contents[i])).Draw(t, "from")
			to := rapid.IntRange(from, len(contents[i])).Draw(t, "to")
			f.Segments = append(f.Segments, Segment{blocks[i].Locator, int64(from), int64(to - from)})
			want = append(want, contents[i][from:to]...)
		}
		ours, model := NewReader(context.Background(), kc, f), bytes.NewReader(want)
		defer ours.Close()
		for range 10 {
			var got, expected string
			buf1, buf2 := make([]byte, rapid.IntRange(1, 60).Draw(t, "n")), make([]byte, 0)
			buf2 = append(buf2, buf1...)
			off := int64(rapid.IntRange(0, len(want)+2).Draw(t, "offset"))
			switch rapid.IntRange(0, 2).Draw(t, "op") {
			case 0:
				n, err := ours.ReadAt(buf1, off)
				got = fmt.Sprint(n, err, buf1)
				n, err = model.ReadAt(buf2, off)
				expected = fmt.Sprint(n, err, buf2)
			case 1:
				n, err := io.ReadFull(ours, buf1)
				got = fmt.Sprint(n, err, buf1)
				n, err = io.ReadFull(model, buf2)
				expected = fmt.Sprint(n, err, buf2)
			case 2:
				whence := rapid.IntRange(0, 2).Draw(t, "whence")
				n, err := ours.Seek(off, whence)
				got = fmt.Sprint(n, err)
				n, err = model.Seek(off, whence)
				expected = fmt.Sprint(n, err)
			}
			if got != expected {
				t.Fatalf("got %s, expected %s", got, expected)
			}
		}
	})
}
