// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepfile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing/iotest"

	"git.arvados.org/arvados.git/lib/keepfile/keeptest"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	check "gopkg.in/check.v1"
)

type packerSuite struct{}

var _ = check.Suite(&packerSuite{})

func writeOptions(data []byte) arvados.BlockWriteOptions {
	return arvados.BlockWriteOptions{Data: data}
}

func (*packerSuite) TestPacksFiles(c *check.C) {
	w, keep := newWriter(1)
	big := random(BlockSize)
	p := NewPacker(context.Background(), w)
	for _, f := range []struct {
		path    string
		content []byte
	}{
		{"./stderr.txt", []byte("oh no\n")},
		{"empty", nil},
		{"dir/big", big},
		{"last", []byte("x")},
	} {
		c.Check(p.Add(f.path, bytes.NewReader(f.content)), check.IsNil)
	}
	files, err := p.Close()
	c.Assert(err, check.IsNil)
	first := nameOf(append([]byte("oh no\n"), big[:BlockSize-6]...))
	second := nameOf(append(bytes.Clone(big[BlockSize-6:]), 'x'))
	text := keep.Sign(FormatManifest(files), "") // drops signatures
	c.Check(text, check.Equals, ". "+second+" "+first+" 0:0:empty 6:1:last 7:6:stderr.txt\n"+
		"./dir "+first+" "+second+" 6:67108864:big\n")
	c.Check(files[2].Size(), check.Equals, int64(BlockSize))

	r := NewReader(context.Background(), keep.As("token"), files[2])
	defer r.Close()
	got, err := io.ReadAll(r)
	c.Check(err, check.IsNil)
	c.Check(bytes.Equal(got, big), check.Equals, true)
}

func (*packerSuite) TestNothing(c *check.C) {
	w, _ := newWriter(1)
	files, err := NewPacker(context.Background(), w).Close()
	c.Check(err, check.IsNil)
	c.Check(FormatManifest(files), check.Equals, "")
}

func (*packerSuite) TestFailures(c *check.C) {
	w, keep := newWriter(1)
	keep.Script = func(context.Context, *keeptest.Op) error { return keeptest.Error{Status: 507, Message: "full"} }
	p := NewPacker(context.Background(), w)
	broken := errors.New("broken pipe")
	c.Check(p.Add("x", iotest.ErrReader(broken)), check.Equals, broken)
	c.Check(p.Add("y", strings.NewReader("data")), check.IsNil)
	_, err := p.Close()
	c.Check(err, check.ErrorMatches, `keep: write block of 4 bytes: 507 full`)
	p.Abort()
	c.Check(w.pool.lent, check.Equals, 0)

	p = NewPacker(context.Background(), w) // of the same Writer: nothing works any more
	c.Check(p.Add("x", strings.NewReader("data")), check.Equals, err)
	_, again := p.Close()
	c.Check(again, check.Equals, err)
	p.Abort()
}
