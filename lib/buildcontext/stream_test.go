// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/keepfile/keeptest"
	check "gopkg.in/check.v1"
)

type streamSuite struct{ fixture }

var _ = check.Suite(&streamSuite{})

func readTar(t *Tree) ([]byte, error) {
	r := t.Open(context.Background())
	defer r.Close()
	return io.ReadAll(r)
}

func (s *streamSuite) TestHeaders(c *check.C) {
	long := strings.Repeat("long/", 60) + "name"
	t := treeOf(c, plain("a"), plain(long), plain("\xff"), symlink("l", "../"+long), folder("d"))
	data, err := readTar(t)
	c.Assert(err, check.IsNil)
	archive := tar.NewReader(bytes.NewReader(data))
	for e := range t.Entries() {
		hdr, err := archive.Next()
		c.Assert(err, check.IsNil)
		c.Check(strings.TrimSuffix(hdr.Name, "/"), check.Equals, e.Path)
		c.Check(strings.HasSuffix(hdr.Name, "/"), check.Equals, e.Kind == Folder)
		c.Check(hdr.Typeflag, check.Equals, byte(e.Kind))
		c.Check(hdr.Linkname, check.Equals, e.Target)
		c.Check(hdr.Mode, check.Equals, int64(e.Mode))
		c.Check(hdr.Uid+hdr.Gid, check.Equals, 0)
		c.Check(hdr.Uname+hdr.Gname, check.Equals, "")
		c.Check(hdr.ModTime.Equal(time.Unix(315619200, 0)), check.Equals, true)
	}
	_, err = archive.Next()
	c.Check(err, check.Equals, io.EOF)
}

// Engines build images "successfully" from a tar that ends too early.
func (s *streamSuite) TestAFailureIsNeverAnEnd(c *check.C) {
	var files []file
	for i := range 20 {
		files = append(files, file{fmt.Sprintf("%02d", i), strings.Repeat(fmt.Sprintf("%02d", i), 256)})
	}
	pdh := s.cl.store(512, files...) // each file a block, and a member without padding
	for n := range len(files) {
		broken := keeptest.Error{Status: 404, Message: "lost"}
		s.cl.keep.Script = func(_ context.Context, op *keeptest.Op) error {
			if strings.HasPrefix(string(op.Data), fmt.Sprintf("%02d", n)) {
				return broken
			}
			return nil
		}
		t := s.collection(c, pdh)
		data, err := readTar(t)
		c.Check(errors.Is(err, broken), check.Equals, true, check.Commentf("%v", err))
		c.Check(err, check.ErrorMatches, `keep: read block [0-9a-f]{32}\+512: 404 lost`)
		c.Check(fault.Transient(err), check.Equals, false)
		c.Check(len(data) <= 1024*n+512, check.Equals, true)
		_, err = t.Digest(s.ctx)
		c.Check(errors.Is(err, broken), check.Equals, true)
	}
}

func (s *streamSuite) TestBadBlocks(c *check.C) {
	pdh := s.cl.store(100, file{"a", strings.Repeat("x", 100)})
	for _, trial := range []struct {
		data []byte
		want string
	}{
		{make([]byte, 99), "checksum mismatch"},
		{make([]byte, 101), "more than 100 bytes came"},
		{nil, "checksum mismatch"},
	} {
		s.cl.keep.Script = func(_ context.Context, op *keeptest.Op) error {
			op.Data = trial.data
			return nil
		}
		_, err := readTar(s.collection(c, pdh))
		c.Check(err, check.ErrorMatches, `keep: read block .*: `+trial.want)
		c.Check(fault.Transient(err), check.Equals, true)
		c.Check(err, check.Not(check.ErrorMatches), `.*\+A.*`)
	}
}

func (s *streamSuite) TestEndOfContext(c *check.C) {
	pdh := s.cl.store(100, file{"a", strings.Repeat("x", 1000)})
	why := errors.New("why")
	for _, when := range []string{"before", "in keep", "while nobody reads"} {
		ctx, cancel := context.WithCancelCause(s.ctx)
		t := s.collection(c, pdh)
		s.cl.keep.Script = func(opCtx context.Context, op *keeptest.Op) error {
			if when == "in keep" {
				cancel(why)
				<-opCtx.Done()
				return opCtx.Err()
			}
			return nil
		}
		if when == "before" {
			cancel(why)
		}
		r := t.Open(ctx)
		if when == "while nobody reads" {
			_, err := r.Read(make([]byte, 1))
			c.Check(err, check.IsNil)
			cancel(why)
		}
		_, err := io.ReadAll(r)
		c.Check(errors.Is(err, why), check.Equals, true, check.Commentf("%s: %v", when, err))
		c.Check(r.Close(), check.IsNil)
		cancel(nil)
	}
}

func (s *streamSuite) TestCloseEndsEverything(c *check.C) {
	pdh := s.cl.store(100, file{"a", strings.Repeat("x", 1000)})
	r := s.collection(c, pdh).Open(s.ctx)
	_, err := io.ReadFull(r, make([]byte, 100))
	c.Assert(err, check.IsNil)
	c.Check(r.Close(), check.IsNil)
	_, err = r.Read(make([]byte, 1))
	c.Check(err, check.Equals, io.ErrClosedPipe)
	c.Check(s.collection(c, pdh).Open(s.ctx).Close(), check.IsNil)
}

func (s *streamSuite) TestDigestTellsAllApart(c *check.C) {
	executable := plain("a")
	executable.Mode = executableMode
	seen := map[string]int{}
	for i, t := range []*Tree{
		treeOf(c),
		treeOf(c, plain("a")),
		treeOf(c, executable),
		treeOf(c, plain("a"), plain("b")),
		treeOf(c, fileInMemory("a", plainMode, []byte("content of b"))),
		treeOf(c, fileInMemory("a", plainMode, nil)),
		treeOf(c, folder("a")),
		treeOf(c, symlink("a", "b")),
		treeOf(c, symlink("a", "c")),
		treeOf(c, symlink("a", "b 0:")),
		treeOf(c, plain("d/a")),
		treeOf(c, plain("d/a"), folder("e")),
	} {
		digest, err := t.Digest(s.ctx)
		c.Assert(err, check.IsNil)
		c.Check(digest, check.Matches, `[0-9a-f]{64}`)
		other, known := seen[digest]
		c.Check(known, check.Equals, false, check.Commentf("%d and %d", i, other))
		seen[digest] = i
	}
	// A change of this value means that nothing built before is found again.
	digest, err := treeOf(c, plain("a"), symlink("l", "a"), plain("d/x")).Digest(s.ctx)
	c.Check(err, check.IsNil)
	c.Check(digest, check.Equals, "fb1ff8a3ff0c25f30be1194dbbc274fdd5a415f1515720e50c14a59739b5155b")
}
