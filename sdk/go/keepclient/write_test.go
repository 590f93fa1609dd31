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
	"testing/iotest"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	. "gopkg.in/check.v1"
)

type WriteSuite struct{}

var _ = Suite(&WriteSuite{})

var good = []reply{{}}

// both wants a block in the storage classes a and b.
func both(replicas int) arvados.BlockWriteOptions {
	return arvados.BlockWriteOptions{Data: []byte("foo"), StorageClasses: []string{"b", "a"}, Replicas: replicas}
}

func (*WriteSuite) TestWhereBlocksGo(c *C) {
	classes := func(header string) []reply { return []reply{{classes: header}} }
	fails := func(status int, then ...reply) []reply {
		return append([]reply{{status: status, text: "no"}}, then...)
	}
	one := arvados.BlockWriteOptions{Data: []byte("foo"), Replicas: 1}
	two := arvados.BlockWriteOptions{Data: []byte("foo"), Replicas: 2}
	for _, trial := range []struct {
		about    string
		kind     string
		req      arvados.BlockWriteOptions
		scripts  [][]reply
		counts   []int
		replicas int
		classes  map[string]int
		err      string
	}{
		{"disks store one each", "disk", two, [][]reply{good, good, good}, []int{1, 1, 0}, 2, nil, ""},
		{"a proxy stores all", "proxy", two, [][]reply{{{replicas: "2"}}, good}, []int{1, 0}, 2, nil, ""},
		{"a proxy that stores less is helped out", "proxy", two, [][]reply{good, good}, []int{1, 1}, 2, nil, ""},
		{"a count that is none counts as one", "proxy", two, [][]reply{{{replicas: "many"}}, {{replicas: "-3"}}}, []int{1, 1}, 2, nil, ""},
		{"nothing stored is no success", "disk", one, [][]reply{{{replicas: "0"}}, good}, []int{1, 1}, 1, nil, ""},
		{"one service is full", "disk", two, [][]reply{fails(507), good, good}, []int{1, 1, 1}, 2, nil, ""},
		{"all are full", "disk", one, [][]reply{fails(507), fails(507)}, []int{1, 1}, 0, nil,
			`could not write 1 replicas, only 0: http://127.0.0.1:\d+: 507 no; http://127.0.0.1:\d+: 507 no`},
		{"some replicas", "disk", two, [][]reply{fails(507), good}, []int{1, 1}, 1, nil, `could not write 2 replicas, only 1: http://[^ ]*: 507 no`},
		{"more replicas than services", "disk", two, [][]reply{good}, []int{1}, 1, nil, `could not write 2 replicas, only 1: not enough writable Keep services`},
		{"busy, then not", "disk", one, [][]reply{fails(503, reply{})}, []int{2}, 1, nil, ""},
		{"one busy, another takes it", "disk", one, [][]reply{fails(503), good}, []int{1, 1}, 1, nil, ""},
		{"all busy", "disk", one, [][]reply{fails(503), fails(503)}, []int{3, 3}, 0, nil, `could not write 1 replicas, only 0: .*: 503 no; .*: 503 no`},
		{"only those that failed are asked again", "disk", two, [][]reply{good, fails(503, reply{})}, []int{1, 2}, 2, nil, ""},
		{"full ones are not asked again, busy ones are", "disk", one, [][]reply{fails(507), fails(500)}, []int{1, 3}, 0, nil, ".*500 no.*"},
		{"timeout", "disk", one, [][]reply{fails(408, reply{})}, []int{2}, 1, nil, ""},
		{"too many requests", "disk", one, [][]reply{fails(429, reply{})}, []int{2}, 1, nil, ""},
		{"lost connection", "disk", one, [][]reply{fails(lost, reply{})}, []int{2}, 1, nil, ""},
		{"refused early", "disk", one, [][]reply{{{status: 503, early: true}, {}}}, []int{2}, 1, nil, ""},
		{"wrong content", "disk", one, [][]reply{fails(400)}, []int{1}, 0, nil, ".*: 400 no"},
		{"bad token", "disk", one, [][]reply{fails(401)}, []int{1}, 0, nil, ".*: 401 no"},
		{"forbidden", "disk", one, [][]reply{fails(403)}, []int{1}, 0, nil, ".*: 403 no"},
		{"no length", "disk", one, [][]reply{fails(411)}, []int{1}, 0, nil, ".*: 411 no"},
		{"too large", "disk", one, [][]reply{fails(413)}, []int{1}, 0, nil, ".*: 413 no"},
		{"a status without a text", "disk", one, [][]reply{{{status: 403}}}, []int{1}, 0, nil, ".*: 403 Forbidden"},
		{"no locator in the answer", "disk", one, [][]reply{{{text: "\n"}}, good}, []int{1, 1}, 1, nil, ""},
		{"another block's locator", "disk", one, [][]reply{{{text: emptyHash + "+0"}}}, []int{1}, 0, nil, `.*: stored as "d41d8.*"`},

		{"all classes at once", "disk", both(1), [][]reply{classes("a=1, b=1"), good}, []int{1, 0}, 1, map[string]int{"a": 1, "b": 1}, ""},
		{"a class each", "disk", both(1), [][]reply{classes("a=1"), classes("b=1"), good}, []int{1, 1, 0}, 2, map[string]int{"a": 1, "b": 1}, ""},
		{"two in each class", "disk", both(2), [][]reply{classes("a=1,b=1"), classes("a=1"), classes("b=1"), good}, []int{1, 1, 1, 0}, 3, map[string]int{"a": 2, "b": 2}, ""},
		{"more than asked", "proxy", both(1), [][]reply{{{classes: "a=2, b=3, c=1", replicas: "6"}}, good}, []int{1, 0}, 6, map[string]int{"a": 2, "b": 3, "c": 1}, ""},
		{"a class that nobody has", "disk", both(1), [][]reply{classes("a=1"), classes("a=1")}, []int{1, 1}, 2, map[string]int{"a": 2}, `could not write 1 replicas, only 2: .*`},
		{"a service that does not tell", "disk", both(1), [][]reply{good, good}, []int{1, 0}, 1, nil, ""},
		{"one that tells and one that does not", "disk", both(2), [][]reply{classes("a=1"), good, good}, []int{1, 1, 0}, 2, map[string]int{"a": 1}, ""},
		{"a header that makes no sense", "disk", both(1), [][]reply{classes("a=1, =2"), good}, []int{1, 0}, 1, nil, ""},
	} {
		comment := Commentf(trial.about)
		cl := newCluster(fooHash, trial.kind, trial.scripts...)
		resp, err := cl.BlockWrite(context.Background(), trial.req)
		cl.close()
		if trial.err == "" {
			c.Check(err, IsNil, comment)
			c.Check(resp.Locator, Matches, fooHash+`\+3\+Asigned-by-.*@ffffffff`, comment)
		} else {
			c.Check(err, ErrorMatches, trial.err, comment)
			c.Check(errors.As(err, new(InsufficientReplicasError)), Equals, true, comment)
		}
		c.Check(cl.counts(), DeepEquals, trial.counts, comment)
		c.Check(resp.Replicas, Equals, trial.replicas, comment)
		c.Check(resp.StorageClasses, DeepEquals, trial.classes, comment)
	}
}

func (*WriteSuite) TestRequests(c *C) {
	cl := newCluster(fooHash, "disk", good, good)
	defer cl.close()
	cl.DefaultStorageClasses = []string{"default"}
	for _, trial := range []struct {
		about             string
		req               arvados.BlockWriteOptions
		setClasses        []string
		id, want, classes string
	}{
		{"defaults", arvados.BlockWriteOptions{}, nil, "req-test", "2", "default"},
		{"classes of the client", arvados.BlockWriteOptions{}, []string{"ssd", "cold"}, "req-test", "2", "cold, ssd"},
		{"classes of the call", arvados.BlockWriteOptions{StorageClasses: []string{"hot"}, Replicas: 1, RequestID: "req-call"}, []string{"ssd"}, "req-call", "1", "hot"},
		{"no classes", arvados.BlockWriteOptions{StorageClasses: []string{}}, []string{"ssd"}, "req-test", "2", ""},
	} {
		comment := Commentf(trial.about)
		cl.StorageClasses = trial.setClasses
		trial.req.Data = []byte("foo")
		_, err := cl.BlockWrite(context.Background(), trial.req)
		c.Assert(err, IsNil, comment)
		requests := cl.fakes[0].requests()
		got := requests[len(requests)-1]
		c.Check(got.method+" "+got.path, Equals, "PUT /"+fooHash, comment)
		c.Check(string(got.body), Equals, "foo", comment)
		c.Check(got.length, Equals, int64(3), comment)
		c.Check(got.header.Get("Authorization"), Equals, "Bearer "+token, comment)
		c.Check(got.header.Get("Content-Type"), Equals, "application/octet-stream", comment)
		c.Check(got.header.Get("X-Request-Id"), Equals, trial.id, comment)
		c.Check(got.header.Get(XKeepDesiredReplicas), Equals, trial.want, comment)
		c.Check(got.header.Get(XKeepStorageClasses), Equals, trial.classes, comment)
	}
	cl.RequestID = ""
	_, err := cl.BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: []byte("foo")})
	c.Assert(err, IsNil)
	requests := cl.fakes[0].requests()
	c.Check(requests[len(requests)-1].header.Get("X-Request-Id"), Matches, "req-[0-9a-z]{20}")
}

func (*WriteSuite) TestOnlyWhatIsLackingIsAskedFor(c *C) {
	cl := newCluster(fooHash, "disk", []reply{{classes: "a=1"}}, []reply{{classes: "b=1"}})
	defer cl.close()
	_, err := cl.BlockWrite(context.Background(), both(1))
	c.Assert(err, IsNil)
	c.Check(cl.fakes[0].requests()[0].header.Get(XKeepStorageClasses), Equals, "a, b")
	c.Check(cl.fakes[1].requests()[0].header.Get(XKeepStorageClasses), Equals, "b")
}

func (*WriteSuite) TestWaysToHandOverABlock(c *C) {
	reader := func(s string) io.Reader { return iotest.OneByteReader(strings.NewReader(s)) }
	broken := errors.New("broken reader")
	for _, trial := range []struct {
		about string
		req   arvados.BlockWriteOptions
		err   string
	}{
		{"data", arvados.BlockWriteOptions{Data: []byte("foo")}, ""},
		{"data with its hash", arvados.BlockWriteOptions{Data: []byte("foo"), Hash: fooHash}, ""},
		{"the beginning of a buffer", arvados.BlockWriteOptions{Data: []byte("foobar"), DataSize: 3}, ""},
		{"reader", arvados.BlockWriteOptions{Reader: reader("foo"), DataSize: 3}, ""},
		{"reader with its hash", arvados.BlockWriteOptions{Reader: reader("foo"), DataSize: 3, Hash: fooHash}, ""},
		{"reader of something else", arvados.BlockWriteOptions{Reader: reader("bar"), DataSize: 3, Hash: fooHash}, BadChecksum.Error()},
		{"reader that ends early", arvados.BlockWriteOptions{Reader: reader("fo"), DataSize: 3}, "cannot write a block: 2 of 3 bytes read: unexpected EOF"},
		{"reader that goes on", arvados.BlockWriteOptions{Reader: reader("foobar"), DataSize: 3}, "cannot write a block: more than 3 bytes to read"},
		{"reader that fails", arvados.BlockWriteOptions{Reader: iotest.ErrReader(broken), DataSize: 3}, ".*broken reader"},
		{"reader that fails at its end", arvados.BlockWriteOptions{Reader: io.MultiReader(reader("foo"), iotest.ErrReader(broken)), DataSize: 3}, ".*broken reader"},
		{"neither", arvados.BlockWriteOptions{}, "cannot write a block: neither.*"},
		{"less data than said", arvados.BlockWriteOptions{Data: []byte("fo"), DataSize: 3}, "cannot write a block: DataSize.*"},
		{"negative size", arvados.BlockWriteOptions{Data: []byte("foo"), DataSize: -1}, "cannot write a block: DataSize.*"},
		{"too much data", arvados.BlockWriteOptions{Data: make([]byte, BLOCKSIZE+1)}, ErrOversizeBlock.Error()},
		{"too much to read", arvados.BlockWriteOptions{Reader: reader("foo"), DataSize: BLOCKSIZE + 1}, ErrOversizeBlock.Error()},
		{"a hash that is none", arvados.BlockWriteOptions{Data: []byte("foo"), Hash: "../" + fooHash}, InvalidLocatorError.Error()},
		{"a hash in capitals", arvados.BlockWriteOptions{Data: []byte("foo"), Hash: strings.ToUpper(fooHash)}, InvalidLocatorError.Error()},
	} {
		comment := Commentf(trial.about)
		cl := newCluster(fooHash, "disk", good, good)
		_, err := cl.BlockWrite(context.Background(), trial.req)
		cl.close()
		if trial.err != "" {
			c.Check(err, ErrorMatches, trial.err, comment)
			c.Check(cl.counts(), DeepEquals, []int{0, 0}, comment)
			continue
		}
		c.Check(err, IsNil, comment)
		c.Check(string(cl.fakes[1].requests()[0].body), Equals, "foo", comment)
	}
}

func (*WriteSuite) TestTheEmptyBlockIsNotSent(c *C) {
	cl := newCluster(emptyHash, "disk", good)
	defer cl.close()
	resp, err := cl.BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: []byte{}})
	c.Check(err, IsNil)
	c.Check(resp.Locator, Equals, "d41d8cd98f00b204e9800998ecf8427e+0")
	c.Check(cl.counts(), DeepEquals, []int{0})
}

func (*WriteSuite) TestAttempts(c *C) {
	for attempts, want := range map[int]int{0: 3, 1: 1, 5: 5} {
		cl := newCluster(fooHash, "disk", []reply{{status: 503}})
		_, err := cl.BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: []byte("foo"), Attempts: attempts})
		cl.close()
		c.Check(err, NotNil)
		c.Check(cl.counts(), DeepEquals, []int{want})
	}
}

func (*WriteSuite) TestAServiceThatStandsStill(c *C) {
	cl := newCluster(fooHash, "disk", []reply{{status: hang}}, good)
	defer cl.close()
	cl.patience = 50 * time.Millisecond
	resp, err := cl.BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: []byte("foo"), Replicas: 1, Attempts: 1})
	c.Check(err, IsNil)
	c.Check(resp.Replicas, Equals, 1)
	_, err = cl.BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: []byte("foo"), Replicas: 2, Attempts: 1})
	c.Check(err, ErrorMatches, `could not write 2 replicas, only 1: .*: nothing received or accepted for 50ms`)
}

func (*WriteSuite) TestCancel(c *C) {
	for _, status := range []int{hang, 503} {
		cl := newCluster(fooHash, "disk", []reply{{status: status}})
		cl.RetryDelay = time.Hour
		ctx, cancel := context.WithCancel(context.Background())
		cl.HTTPClient = afterRequest{cl.httpClient(false), cancel, status == hang}
		_, err := cl.BlockWrite(ctx, arvados.BlockWriteOptions{Data: []byte("foo")})
		cl.close()
		c.Check(errors.Is(err, context.Canceled), Equals, true, Commentf("%v", err))
	}
}

// The transport may hold on to a request's body. Once BlockWrite has returned
// the buffer is the caller's, who fills it with the next block.
func (*WriteSuite) TestTheBufferIsFreeAfterTheCall(c *C) {
	cl := newCluster(fooHash, "disk", good)
	defer cl.close()
	keeper := &bodyKeeper{HTTPClient: cl.httpClient(false)}
	cl.HTTPClient = keeper
	_, err := cl.BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: []byte("foo"), Replicas: 1})
	c.Assert(err, IsNil)
	data, err := io.ReadAll(keeper.another)
	c.Check(data, HasLen, 0)
	c.Check(err, ErrorMatches, "the block is no longer wanted")
}

func (*WriteSuite) TestLargeBlocksArriveWhole(c *C) {
	data := bytes.Repeat([]byte("0123456789abcdef"), BLOCKSIZE/16)
	locator := locatorOf(data)
	cl := newCluster(locator[:32], "disk", []reply{{status: 503, early: true}, {}}, good)
	defer cl.close()
	resp, err := cl.BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: data})
	clear(data) // the next block, as it were; under -race this finds late readers
	c.Assert(err, IsNil)
	c.Check(resp.Replicas, Equals, 2)
	for _, fake := range cl.fakes {
		requests := fake.requests()
		c.Check(locatorOf(requests[len(requests)-1].body), Equals, locator)
	}
}
