// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	. "gopkg.in/check.v1"
)

type ReadSuite struct{}

var _ = Suite(&ReadSuite{})

var (
	gives   = reply{data: []byte("foo")}
	bad     = reply{data: []byte("bar")}
	all     = reply{data: long}
	half    = reply{data: long, cut: longSize / 2}
	missing = reply{status: 404, text: "not here"}
)

// corrupted is long with one byte changed, and breaks off after cut bytes.
func corrupted(cut int) reply {
	data := bytes.Clone(long)
	data[100]++
	return reply{data: data, cut: cut}
}

func script(replies ...reply) []reply { return replies }

func (*ReadSuite) TestWhatIsRead(c *C) {
	longLocator := locatorOf(long)
	for _, trial := range []struct {
		about   string
		locator string
		scripts [][]reply
		counts  []int
		written int // bytes that have come through
		err     string
	}{
		{"the first has it", foo, [][]reply{script(gives), script(gives)}, []int{1, 0}, 3, ""},
		{"the second has it", foo, [][]reply{script(missing), script(gives)}, []int{1, 1}, 3, ""},
		{"no size in the locator", fooHash, [][]reply{script(gives)}, []int{1}, 3, ""},
		{"no size anywhere", fooHash, [][]reply{script(reply{data: []byte("foo"), chunked: true})}, []int{1}, 3, ""},
		{"no size in the answer", foo, [][]reply{script(reply{data: []byte("foo"), chunked: true})}, []int{1}, 3, ""},
		{"many pieces", longLocator, [][]reply{script(all)}, []int{1}, longSize, ""},
		{"busy, then not", foo, [][]reply{script(reply{status: 503}, gives)}, []int{2}, 3, ""},
		{"lost connection", foo, [][]reply{script(reply{status: lost}, gives)}, []int{2}, 3, ""},
		{"timeout and too many requests", foo, [][]reply{script(reply{status: 408}, reply{status: 429}, gives)}, []int{3}, 3, ""},
		{"missing here, busy there", foo, [][]reply{script(missing), script(reply{status: 502}, gives)}, []int{1, 2}, 3, ""},

		{"nobody has it", foo, [][]reply{script(missing), script(missing)}, []int{1, 1}, 0, BlockNotFound.Error()},
		{"missing here, broken there", foo, [][]reply{script(missing), script(reply{status: 500, text: "disk"})}, []int{1, 3}, 0,
			`block ` + fooHash + `\+3 cannot be read: http:.*: 404 not here; http:.*: 500 disk; http:.*: 500 disk; http:.*: 500 disk`},
		{"no signature", foo, [][]reply{script(reply{status: 400, text: "sign"})}, []int{1}, 0, ".*: 400 sign"},
		{"expired", foo, [][]reply{script(reply{status: 401})}, []int{1}, 0, ".*: 401 Unauthorized"},
		{"forbidden", foo, [][]reply{script(reply{status: 403}), script(gives)}, []int{1, 1}, 3, ""},

		{"breaks off, another one goes on", longLocator, [][]reply{script(half), script(all)}, []int{1, 1}, longSize, ""},
		{"breaks off, the same goes on", longLocator, [][]reply{script(half, all)}, []int{2}, longSize, ""},
		{"breaks off twice", longLocator, [][]reply{script(half, reply{data: long, cut: 5}, all)}, []int{3}, longSize, ""},
		{"always breaks off", longLocator, [][]reply{script(half)}, []int{3}, longSize / 2, ".*unexpected EOF.*"},
		{"ends early", foo, [][]reply{script(reply{data: []byte("fo"), chunked: true}, gives)}, []int{2}, 3, ""},

		{"corrupt", foo, [][]reply{script(bad), script(gives)}, []int{1, 0}, 3, "block .*: " + BadChecksum.Error()},
		{"corrupt without a size", fooHash, [][]reply{script(bad)}, []int{1}, 3, "block .*: " + BadChecksum.Error()},
		{"corrupt and broken off", longLocator, [][]reply{script(corrupted(1000)), script(all)}, []int{1, 1}, longSize, "block .*: " + BadChecksum.Error()},
		{"the rest corrupt", longLocator, [][]reply{script(reply{data: long, cut: 50}), script(corrupted(0))}, []int{1, 1}, longSize, "block .*: " + BadChecksum.Error()},
		{"too long", foo, [][]reply{script(reply{data: []byte("foobar")}), script(gives)}, []int{1, 1}, 3, ""},
		{"too long, and does not say so", foo, [][]reply{script(reply{data: []byte("foobar"), chunked: true})}, []int{1}, 0, "block .*: " + BadChecksum.Error()},
		{"too short", foo, [][]reply{script(reply{data: []byte("fo")}), script(gives)}, []int{1, 1}, 3, ""},
		{"empty", foo, [][]reply{script(reply{}), script(gives)}, []int{1, 1}, 3, ""},
		{"the beginning was right and so is the rest", longLocator, [][]reply{script(half), script(corrupted(0))}, []int{1, 1}, longSize, ""},
	} {
		comment := Commentf(trial.about)
		cl := newCluster(trial.locator[:32], "disk", trial.scripts...)
		var out bytes.Buffer
		n, err := cl.BlockRead(context.Background(), arvados.BlockReadOptions{Locator: trial.locator, WriteTo: &out})
		cl.close()
		if trial.err == "" {
			c.Check(err, IsNil, comment)
			c.Check(locatorOf(out.Bytes()), Matches, trial.locator[:32]+".*", comment)
		} else {
			c.Check(err, ErrorMatches, trial.err, comment)
		}
		c.Check(out.Len(), Equals, n, comment)
		c.Check(n, Equals, trial.written, comment)
		c.Check(cl.counts(), DeepEquals, trial.counts, comment)
		c.Check(cl.fakes[0].requests()[0].path, Equals, "/"+trial.locator, comment)
		c.Check(cl.fakes[0].requests()[0].header.Get("Authorization"), Equals, "Bearer "+token, comment)
		c.Check(cl.fakes[0].requests()[0].header.Get("X-Request-Id"), Equals, "req-test", comment)
	}
}

func (*ReadSuite) TestKindsOfErrors(c *C) {
	for _, trial := range []struct {
		about               string
		script              []reply
		temporary, notFound bool
	}{
		{"missing", script(missing), false, true},
		{"busy", script(reply{status: 503}), true, false},
		{"forbidden", script(reply{status: 403}), false, false},
	} {
		cl := newCluster(fooHash, "disk", trial.script)
		_, err := cl.BlockRead(context.Background(), arvados.BlockReadOptions{Locator: foo, WriteTo: io.Discard})
		cl.close()
		var unread *ErrNotFound
		c.Assert(errors.As(err, &unread), Equals, true)
		c.Check(unread.HTTPStatus(), Equals, 404)
		var kind Error
		c.Assert(errors.As(err, &kind), Equals, true)
		c.Check(kind.Temporary(), Equals, trial.temporary, Commentf(trial.about))
		c.Check(err == BlockNotFound, Equals, trial.notFound, Commentf(trial.about))
	}
}

func (*ReadSuite) TestLocatorsAreNotShownSigned(c *C) {
	const signed = foo + "+A00000000000000000000000000000000000000000@ffffffff"
	cl := newCluster(fooHash, "disk", script(reply{status: 403}))
	_, refused := cl.BlockRead(context.Background(), arvados.BlockReadOptions{Locator: signed, WriteTo: io.Discard})
	cl.close() // nobody listens any more
	_, unreachable := cl.BlockRead(context.Background(), arvados.BlockReadOptions{Locator: signed, WriteTo: io.Discard})
	c.Check(cl.fakes[0].requests()[0].path, Equals, "/"+signed)
	c.Check(unreachable, ErrorMatches, ".*connection refused.*")
	for _, err := range []error{refused, unreachable} {
		c.Check(strings.Contains(err.Error(), "+A"), Equals, false, Commentf("%v", err))
		c.Check(strings.Contains(err.Error(), token), Equals, false, Commentf("%v", err))
	}
}

func (*ReadSuite) TestPartsOfABlock(c *C) {
	locator := locatorOf(long)
	for _, trial := range []struct {
		about    string
		off, len int
		n        int
		err      error
	}{
		{"all", 0, longSize, longSize, nil},
		{"nothing", 5, 0, 0, nil},
		{"the beginning", 0, 10, 10, nil},
		{"across pieces", pieceSize - 5, pieceSize + 10, pieceSize + 10, nil},
		{"the end", longSize - 10, 10, 10, nil},
		{"over the end", longSize - 10, 20, 10, io.EOF},
		{"at the end", longSize, 1, 0, io.EOF},
		{"beyond", longSize + 1000, 1, 0, io.EOF},
	} {
		comment := Commentf(trial.about)
		cl := newCluster(locator[:32], "disk", script(corrupted(0)), script(half, all))
		p := make([]byte, trial.len)
		n, err := cl.ReadAt(locator, p, trial.off)
		cl.close()
		c.Check(err, Equals, trial.err, comment)
		c.Assert(n, Equals, trial.n, comment)
		if n > 0 {
			c.Check(bytes.Equal(p[:n], long[trial.off:trial.off+n]), Equals, true, comment)
		}
		c.Check(cl.counts(), DeepEquals, []int{1, 2}, comment)
	}
}

func (*ReadSuite) TestPartsOfWhatCannotBeRead(c *C) {
	cl := newCluster(fooHash, "disk", script(bad), script(bad))
	defer cl.close()
	n, err := cl.ReadAt(foo, make([]byte, 3), 0)
	c.Check(n, Equals, 0)
	c.Check(errors.Is(err, BadChecksum), Equals, true, Commentf("%v", err))
	_, err = cl.ReadAt(foo, nil, -1)
	c.Check(err, ErrorMatches, ".*negative offset -1")
	_, err = cl.ReadAt("foo", nil, 0)
	c.Check(err, Equals, InvalidLocatorError)
}

func (*ReadSuite) TestTheEmptyBlockIsNotAskedFor(c *C) {
	cl := newCluster(emptyHash, "disk", script(missing))
	defer cl.close()
	n, err := cl.BlockRead(context.Background(), arvados.BlockReadOptions{Locator: emptyHash + "+0+Asomething", WriteTo: io.Discard})
	c.Check(n, Equals, 0)
	c.Check(err, IsNil)
	n, err = cl.ReadAt(emptyHash+"+0", make([]byte, 1), 0)
	c.Check(n, Equals, 0)
	c.Check(err, Equals, io.EOF)
	c.Check(cl.counts(), DeepEquals, []int{0})
}

func (*ReadSuite) TestRefusedLocators(c *C) {
	cl := newCluster(fooHash, "disk", script(gives))
	defer cl.close()
	for _, locator := range []string{"", "foo", fooHash + "/../x", foo + "+", foo + "+a", foo + "/x"} {
		_, err := cl.BlockRead(context.Background(), arvados.BlockReadOptions{Locator: locator, WriteTo: io.Discard})
		c.Check(err, Equals, InvalidLocatorError, Commentf(locator))
	}
	c.Check(cl.counts(), DeepEquals, []int{0})
}

type failingWriter struct{ n int }

var errWriter = errors.New("reader has gone")

func (w failingWriter) Write(p []byte) (int, error) {
	if w.n >= 0 {
		return w.n, nil
	}
	return 0, errWriter
}

func (*ReadSuite) TestTheWritersErrorIsFinal(c *C) {
	cl := newCluster(fooHash, "disk", script(gives), script(gives))
	defer cl.close()
	_, err := cl.BlockRead(context.Background(), arvados.BlockReadOptions{Locator: foo, WriteTo: failingWriter{-1}})
	c.Check(err, Equals, errWriter)
	_, err = cl.BlockRead(context.Background(), arvados.BlockReadOptions{Locator: foo, WriteTo: failingWriter{1}})
	c.Check(err, Equals, io.ErrShortWrite)
	c.Check(cl.counts(), DeepEquals, []int{2, 0})
}

func (*ReadSuite) TestAServiceThatStandsStill(c *C) {
	cl := newCluster(fooHash, "disk", script(reply{status: hang}), script(gives))
	defer cl.close()
	cl.patience = 50 * time.Millisecond
	n, err := cl.BlockRead(context.Background(), arvados.BlockReadOptions{Locator: foo, WriteTo: io.Discard})
	c.Check(n, Equals, 3)
	c.Check(err, IsNil)
}

func (*ReadSuite) TestCancel(c *C) {
	for _, status := range []int{hang, 503} {
		cl := newCluster(fooHash, "disk", script(reply{status: status}))
		cl.RetryDelay = time.Hour
		ctx, cancel := context.WithCancel(context.Background())
		cl.HTTPClient = afterRequest{cl.httpClient(false), cancel, status == hang}
		_, err := cl.BlockRead(ctx, arvados.BlockReadOptions{Locator: foo, WriteTo: io.Discard})
		cl.close()
		c.Check(errors.Is(err, context.Canceled), Equals, true, Commentf("%v", err))
	}
}

func (*ReadSuite) TestLocalLocator(c *C) {
	const remote = foo + "+Rzzzzz-00000000000000000000000000000000000000000@ffffffff"
	local := foo + "+A1@ffffffff"
	cl := newCluster(fooHash, "disk", script(missing, reply{status: 503}, reply{text: emptyHash}, missing),
		script(reply{data: []byte("foo"), text: local}, reply{status: 403}, reply{}, missing))
	defer cl.close()
	have, err := cl.LocalLocator(remote)
	c.Check(err, IsNil)
	c.Check(have, Equals, local)
	got := cl.fakes[1].requests()[0]
	c.Check(got.method+" "+got.path, Equals, "HEAD /"+remote)
	c.Check(got.header.Get(XKeepSignature), Matches, `local, time=20\d\d-.*Z`)

	_, err = cl.LocalLocator(remote)
	c.Check(err, ErrorMatches, `.*: 503 Service Unavailable; .*: 403 Forbidden; .*: answered with locator "d41.*"`)
	_, err = cl.LocalLocator(remote)
	c.Check(err, ErrorMatches, `.*: 404 Not Found; .*: answered with locator ""`)
	_, err = cl.LocalLocator(remote + "/")
	c.Check(err, Equals, InvalidLocatorError)

	have, err = cl.LocalLocator(local)
	c.Check(err, IsNil)
	c.Check(have, Equals, local)
}
