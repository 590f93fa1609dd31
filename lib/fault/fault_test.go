// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package fault

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var _ = check.Suite(&suite{})

type suite struct{}

func (s *suite) TestMessageLeavesOutWhatIsEmpty(c *check.C) {
	for _, t := range []struct {
		err  Error
		text string
	}{
		{Error{Side: Registry, Op: "read layer", Subject: "sha256:ab", Err: io.ErrUnexpectedEOF, Hint: "try again"},
			"registry: read layer sha256:ab: unexpected EOF (try again)"},
		{Error{Side: Registry, Op: "read layer", Subject: "sha256:ab", Err: io.ErrUnexpectedEOF},
			"registry: read layer sha256:ab: unexpected EOF"},
		{Error{Side: Keep, Op: "write block", Err: io.ErrClosedPipe}, "keep: write block: io: read/write on closed pipe"},
		{Error{Side: API, Subject: "zzzzz-dz642-0", Err: errors.New("404")}, "api: zzzzz-dz642-0: 404"},
		{Error{Side: Request, Err: errors.New("no")}, "request: no"},
		{Error{Side: Engine, Op: "ping"}, "engine: ping"},
		{Error{Side: Engine}, "engine"},
		{Error{Op: "ping", Hint: "start it"}, "ping (start it)"},
		{Error{Side: Request, Hint: "say more"}, "request (say more)"},
		{Error{}, ""},
	} {
		c.Check(t.err.Error(), check.Equals, t.text)
	}
}

func (s *suite) TestMessageOfNestedFaultsIsOneLineFromOutsideIn(c *check.C) {
	err := &Error{Side: API, Op: "save image", Err: &Error{Side: Keep, Op: "write block", Err: io.EOF, Hint: "ask the admin"}}
	c.Check(err.Error(), check.Equals, "api: save image: keep: write block: EOF (ask the admin)")
}

func (s *suite) TestCauseCanBeFound(c *check.C) {
	err := error(&Error{Side: Keep, Err: fmt.Errorf("block 3: %w", io.ErrUnexpectedEOF)})
	c.Check(errors.Is(err, io.ErrUnexpectedEOF), check.Equals, true)
	c.Check(errors.Is(err, io.EOF), check.Equals, false)
	c.Check((&Error{Side: Keep}).Unwrap(), check.IsNil)
}

func (s *suite) TestSideIsTheOutermost(c *check.C) {
	keep := &Error{Side: Keep, Err: io.EOF}
	for _, t := range []struct {
		err  error
		side Side
	}{
		{nil, ""},
		{io.EOF, ""},
		{keep, Keep},
		{fmt.Errorf("while saving: %w", keep), Keep},
		{&Error{Side: API, Err: fmt.Errorf("while saving: %w", keep)}, API},
		{errors.Join(io.EOF, keep), Keep},
	} {
		c.Check(SideOf(t.err), check.Equals, t.side, check.Commentf("%v", t.err))
	}
}

func (s *suite) TestTransientIfAnyFaultInTheChainIs(c *check.C) {
	final := &Error{Side: Request, Err: io.EOF}
	transient := &Error{Side: Keep, Err: io.EOF, Transient: true}
	for _, t := range []struct {
		err       error
		transient bool
	}{
		{nil, false},
		{io.EOF, false},
		{final, false},
		{transient, true},
		{fmt.Errorf("while saving: %w", transient), true},
		{&Error{Side: API, Err: fmt.Errorf("while saving: %w", transient)}, true},
		{&Error{Side: API, Err: transient, Transient: true}, true},
		{&Error{Side: Keep, Err: final, Transient: true}, true},
		{&Error{Side: API, Err: fmt.Errorf("while saving: %w", final)}, false},
		{&Error{Side: API}, false},
		{errors.Join(io.EOF, transient), true},
	} {
		c.Check(Transient(t.err), check.Equals, t.transient, check.Commentf("%v", t.err))
	}
}

func (s *suite) TestFieldsOfTheOutermostFaultAreAtHand(c *check.C) {
	var e *Error
	c.Assert(errors.As(fmt.Errorf("pull: %w", &Error{Side: Registry, Subject: "alpine:3.22"}), &e), check.Equals, true)
	c.Check(e.Subject, check.Equals, "alpine:3.22")
}
