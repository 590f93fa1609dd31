// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepfile

import (
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"testing"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/keepfile/keeptest"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"go.uber.org/goleak"
	check "gopkg.in/check.v1"
)

func Test(t *testing.T) {
	defer goleak.VerifyNone(t)
	check.TestingT(t)
}

// The in-memory Keep is the only implementation of this package's interfaces
// here; clients of a real one run keeptest.Conformance themselves.
var (
	_ BlockWriter = (*keeptest.Client)(nil)
	_ BlockReader = (*keeptest.Client)(nil)
)

type faultSuite struct{}

var _ = check.Suite(&faultSuite{})

// busy is an error that knows whether it passes, as some of the SDK's do.
type busy struct{ temporary bool }

func (busy) Error() string     { return "busy" }
func (b busy) Temporary() bool { return b.temporary }

// missing is like the SDK's error for a block that it could not get.
type missing struct{ busy }

func (missing) HTTPStatus() int { return 404 }

func (*faultSuite) TestTransient(c *check.C) {
	for _, trial := range []struct {
		err  error
		want bool
	}{
		{io.ErrUnexpectedEOF, true},
		{keeptest.Error{Status: 400}, false},
		{keeptest.Error{Status: 403}, false},
		{keeptest.Error{Status: 404}, false},
		{keeptest.Error{Status: 408}, true},
		{keeptest.Error{Status: 429}, true},
		{keeptest.Error{Status: 503}, true},
		{keeptest.Error{Status: 507}, true}, // full: somebody will make room
		{fmt.Errorf("wrapped: %w", keeptest.Error{Status: 403}), false},
		{busy{true}, true},
		{busy{false}, false},
		{missing{busy{true}}, true},                 // some services have not answered
		{&fault.Error{Side: fault.Registry}, false}, // stays what it is
	} {
		err := keepFault("read block", "abc+3", trial.err)
		c.Check(fault.Transient(err), check.Equals, trial.want, check.Commentf("%v", trial.err))
	}
	c.Check(fault.SideOf(keepFault("", "", io.EOF)), check.Equals, fault.Keep)
	c.Check(fault.SideOf(keepFault("", "", &fault.Error{Side: fault.API})), check.Equals, fault.API)
}

func (*faultSuite) TestNoSignatureInMessages(c *check.C) {
	secret := "+A0123456789012345678901234567890123456789@ffffffff"
	kc := keeptest.New().As("token")
	for _, locator := range []string{
		"00000000000000000000000000000000+3" + secret,
		"00000000000000000000000000000000+3" + secret + "+garbage garbage",
		"0+3" + secret,
	} {
		f := File{Segments: []Segment{{Locator: locator, Length: 3}}}
		r := NewReader(context.Background(), kc, f)
		_, err := r.Read(make([]byte, 3))
		c.Check(err, check.ErrorMatches, `keep: read block.*`)
		c.Check(err, check.Not(check.ErrorMatches), `.*0123456789012345678901234567890123456789.*`)
		c.Check(r.Close(), check.IsNil)
	}
	_, err := ParseManifest(". 0+3" + secret + " 0:3:x\n")
	c.Check(err, check.ErrorMatches, `keep: read manifest line 1: bad locator "0\+3"`)
}

// put stores data as one block.
func put(c *check.C, kc BlockWriter, data []byte) Block {
	resp, err := kc.BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: data})
	c.Assert(err, check.IsNil)
	return Block{Locator: resp.Locator, Size: int64(len(data))}
}

// unsigned are blocks as the portable data hash sees them.
func unsigned(blocks []Block) []string {
	names := []string{}
	for _, b := range blocks {
		names = append(names, blockName(b.Locator))
	}
	return names
}

func nameOf(data []byte) string {
	return fmt.Sprintf("%x+%d", md5.Sum(data), len(data))
}
