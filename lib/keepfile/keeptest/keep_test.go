// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keeptest

import (
	"bytes"
	"context"
	"crypto/md5"
	"fmt"
	"testing"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	check "gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

type suite struct{}

var _ = check.Suite(&suite{})

func (*suite) TestConformance(c *check.C) {
	Conformance(c, New().As("token"))
}

func (*suite) TestZeroBlock(c *check.C) {
	c.Check(fmt.Sprintf("%x", md5.Sum(make([]byte, maxBlock))), check.Equals, zeroHash)
}

func (*suite) TestSignatures(c *check.C) {
	k := New()
	resp, err := k.As("alice").BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: []byte("hers")})
	c.Assert(err, check.IsNil)
	_, err = k.As("bob").BlockRead(context.Background(), arvados.BlockReadOptions{Locator: resp.Locator, WriteTo: &bytes.Buffer{}})
	c.Check(err, check.ErrorMatches, "403 .*")
	c.Check(k.Verify(resp.Locator, "alice"), check.IsNil)
	bobs := k.Sign(resp.Locator, "bob")
	c.Check(k.Verify(bobs, "bob"), check.IsNil)
	c.Check(k.Has(bobs), check.Equals, true)
}

func (*suite) TestScript(c *check.C) {
	k := New()
	k.Script = func(_ context.Context, op *Op) error {
		if op.Write && string(op.Data) == "refused" {
			return Error{503, "unavailable"}
		}
		if !op.Write {
			op.Data = []byte("decayed")
		}
		return nil
	}
	kc := k.As("token")
	_, err := kc.BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: []byte("refused")})
	c.Check(err, check.Equals, Error{503, "unavailable"})
	resp, err := kc.BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: []byte("goodone")})
	c.Assert(err, check.IsNil)
	_, err = kc.BlockRead(context.Background(), arvados.BlockReadOptions{Locator: resp.Locator, WriteTo: &bytes.Buffer{}})
	c.Check(err, check.ErrorMatches, "checksum mismatch")
	c.Check(k.Stats(), check.Equals, Stats{Writes: 1, Reads: 1, BytesWritten: 7, BytesRead: 7, PeakWrites: 1})
	c.Check(k.Stored(), check.Equals, int64(7))
}
