// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepfile

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"go.uber.org/goleak"
	check "gopkg.in/check.v1"
	"pgregory.net/rapid"
)

type poolSuite struct{}

var _ = check.Suite(&poolSuite{})

func granted(c *claim) bool {
	select {
	case <-c.granted:
		return true
	default:
		return false
	}
}

func (*poolSuite) TestFirstComeFirstServed(c *check.C) {
	p := &pool{limit: 2}
	c.Assert(p.acquire(context.Background(), 2, false), check.IsNil)
	two, one := p.enqueue(2, false), p.enqueue(1, false)
	p.release(1, nil)
	c.Check(granted(two), check.Equals, false)
	c.Check(granted(one), check.Equals, false) // the smaller claim does not overtake
	p.release(1, nil)
	c.Check(granted(two), check.Equals, true)
	c.Check(granted(one), check.Equals, false)
	p.release(2, nil)
	c.Check(granted(one), check.Equals, true)
}

func (*poolSuite) TestHoldersOfAFirstBlockComeFirst(c *check.C) {
	p := &pool{limit: 3}
	c.Assert(p.acquire(context.Background(), 3, false), check.IsNil)
	start, resume := p.enqueue(1, false), p.enqueue(1, true)
	p.release(1, nil)
	c.Check(granted(resume), check.Equals, true)
	c.Check(granted(start), check.Equals, false)
}

func (*poolSuite) TestCancelledClaimMakesWay(c *check.C) {
	p := &pool{limit: 2}
	c.Assert(p.acquire(context.Background(), 1, false), check.IsNil)
	two, one := p.enqueue(2, false), p.enqueue(1, false)
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errStuck)
	c.Check(p.wait(ctx, two), check.Equals, errStuck)
	c.Check(granted(one), check.Equals, true)
}

func (*poolSuite) TestLimitIsRaised(c *check.C) {
	p := &pool{limit: 1}
	two := p.enqueue(2, false)
	p.atLeast(2)
	c.Check(granted(two), check.Equals, true)
	p.atLeast(1)
	c.Check(p.limit, check.Equals, 2)
}

func (*poolSuite) TestMemoryIsUsedAgain(c *check.C) {
	p := &pool{limit: 1}
	first := p.memory(BlockSize)
	p.release(0, first)
	c.Check(&p.memory(firstSize)[0], check.Equals, &first[0])
	p.release(0, make([]byte, firstSize)) // too small to be worth keeping
	c.Check(p.memory(firstSize), check.HasLen, firstSize)
}

// Whatever the limit and whatever the runs do, all of them finish. A run is
// the number of blocks it writes; negative: with a reserve.
func TestNoDeadlock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(2, 5).Draw(t, "limit")
		runs := rapid.SliceOfN(rapid.IntRange(-4, 4), 1, 12).Draw(t, "runs")
		p := &pool{limit: limit}
		var all sync.WaitGroup
		for _, blocks := range runs {
			all.Add(1)
			go func() {
				defer all.Done()
				simulate(p, blocks)
			}()
		}
		all.Wait()
		if p.lent != 0 || len(p.starting)+len(p.resuming) != 0 {
			t.Fatalf("%d lent, %d waiting", p.lent, len(p.starting)+len(p.resuming))
		}
	})
}

func simulate(p *pool, blocks int) {
	ctx := context.Background()
	reserve := blocks < 0
	var uploads sync.WaitGroup
	if reserve {
		blocks = -blocks
		p.acquire(ctx, 2, false)
	}
	for i := range blocks {
		if !reserve || i > 0 {
			p.acquire(ctx, 1, reserve)
		}
		uploads.Add(1)
		go func() {
			defer uploads.Done()
			p.release(1, nil)
		}()
	}
	if reserve {
		p.release(1, nil)
	}
	uploads.Wait()
}

// With every budget, Runs of all kinds at the same time come to their end.
func (*writerSuite) TestManyRunsSmallBudget(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	for blocks := 1; blocks <= 3; blocks++ {
		w, keep := newWriter(blocks)
		keep.Discard = true
		var all sync.WaitGroup
		for i := range 6 {
			all.Add(1)
			go func() {
				defer all.Done()
				reserve := i % 2 * 512
				run, err := w.Run(context.Background(), reserve)
				c.Assert(err, check.IsNil)
				_, err = run.ReadFrom(&zeros{2*BlockSize + 100})
				c.Check(err, check.IsNil)
				got, err := run.Close(make([]byte, reserve))
				c.Check(err, check.IsNil)
				c.Check(got, check.HasLen, 3)
			}()
		}
		all.Wait()
		c.Check(w.pool.lent, check.Equals, 0)
		c.Check(len(w.pool.spare) <= max(blocks, 2), check.Equals, true)
	}
}

// zeros reads as n zero bytes.
type zeros struct{ n int }

func (z *zeros) Read(p []byte) (int, error) {
	r := bytes.NewReader(zeroBytes[:min(z.n, len(zeroBytes))])
	n, err := r.Read(p)
	z.n -= n
	return n, err
}

var zeroBytes [1 << 20]byte
