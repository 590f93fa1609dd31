// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepfile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand"
	"strings"
	"sync"
	"testing/iotest"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/keepfile/keeptest"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"go.uber.org/goleak"
	check "gopkg.in/check.v1"
)

type writerSuite struct{}

var _ = check.Suite(&writerSuite{})

func newWriter(blocks int) (*Writer, *keeptest.Keep) {
	keep := keeptest.New()
	return NewWriter(keep.As("token"), blocks, arvados.BlockWriteOptions{}), keep
}

func random(n int) []byte {
	data := make([]byte, n)
	rand.New(rand.NewSource(int64(n))).Read(data)
	return data
}

func (*writerSuite) TestCutsBlocks(c *check.C) {
	data := random(2*BlockSize + 12345)
	want := []string{nameOf(data[:BlockSize]), nameOf(data[BlockSize : 2*BlockSize]), nameOf(data[2*BlockSize:])}
	for label, feed := range map[string]func(r *Run) error{
		"one write": func(r *Run) error {
			n, err := r.Write(data)
			c.Check(n, check.Equals, len(data))
			return err
		},
		"odd writes": func(r *Run) error {
			_, err := io.CopyBuffer(struct{ io.Writer }{r}, struct{ io.Reader }{bytes.NewReader(data)}, make([]byte, 777_777))
			return err
		},
		"read from": func(r *Run) error {
			n, err := r.ReadFrom(bytes.NewReader(data))
			c.Check(n, check.Equals, int64(len(data)))
			return err
		},
		"read from, data and EOF together": func(r *Run) error {
			_, err := r.ReadFrom(iotest.DataErrReader(bytes.NewReader(data)))
			return err
		},
		"mixed": func(r *Run) error {
			r.Write(data[:5000])
			r.ReadFrom(bytes.NewReader(data[5000 : BlockSize+1]))
			_, err := r.Write(data[BlockSize+1:])
			return err
		},
	} {
		w, keep := newWriter(2)
		run, err := w.Run(context.Background(), 0)
		c.Assert(err, check.IsNil)
		c.Check(feed(run), check.IsNil)
		blocks, err := run.Close(nil)
		c.Check(err, check.IsNil)
		c.Check(unsigned(blocks), check.DeepEquals, want, check.Commentf(label))
		for i, b := range blocks {
			c.Check(keep.Verify(b.Locator, "token"), check.IsNil)
			c.Check(b.Size, check.Equals, []int64{BlockSize, BlockSize, 12345}[i])
		}
		c.Check(w.Written(), check.Equals, int64(len(data)))
	}
}

func (*writerSuite) TestExactlyFullBlock(c *check.C) {
	w, _ := newWriter(1)
	run, err := w.Run(context.Background(), 0)
	c.Assert(err, check.IsNil)
	_, err = run.ReadFrom(&zeros{BlockSize})
	c.Check(err, check.IsNil)
	blocks, err := run.Close(nil)
	c.Check(err, check.IsNil)
	c.Check(blocks, check.HasLen, 1)
}

func (*writerSuite) TestNothingWritten(c *check.C) {
	w, keep := newWriter(1)
	run, err := w.Run(context.Background(), 0)
	c.Assert(err, check.IsNil)
	_, err = run.ReadFrom(strings.NewReader(""))
	c.Check(err, check.IsNil)
	blocks, err := run.Close(nil)
	c.Check(err, check.IsNil)
	c.Check(blocks, check.HasLen, 0)
	c.Check(keep.Stats().Writes, check.Equals, 0)
}

func (*writerSuite) TestReserve(c *check.C) {
	head := bytes.Repeat([]byte("h"), 512)
	for _, size := range []int{0, 1, 1000, firstSize - 512, firstSize, BlockSize - 512, BlockSize - 511, BlockSize, 2*BlockSize + 1} {
		body := random(size)
		whole := append(bytes.Clone(head), body...)
		var want []string
		for rest := whole; len(rest) > 0; rest = rest[min(BlockSize, len(rest)):] {
			want = append(want, nameOf(rest[:min(BlockSize, len(rest))]))
		}
		w, _ := newWriter(1) // becomes 2
		run, err := w.Run(context.Background(), len(head))
		c.Assert(err, check.IsNil)
		_, err = run.ReadFrom(bytes.NewReader(body))
		c.Check(err, check.IsNil)
		blocks, err := run.Close(head)
		c.Check(err, check.IsNil)
		c.Check(unsigned(blocks), check.DeepEquals, want, check.Commentf("%d bytes", size))
		c.Check(w.pool.lent, check.Equals, 0)
	}
}

func (*writerSuite) TestReserveIsHeldBack(c *check.C) {
	w, keep := newWriter(2)
	stored := make(chan string, 3)
	keep.Script = func(_ context.Context, op *keeptest.Op) error {
		stored <- op.Block
		return nil
	}
	run, err := w.Run(context.Background(), 4)
	c.Assert(err, check.IsNil)
	body := random(2 * BlockSize)
	_, err = run.Write(body)
	c.Assert(err, check.IsNil)
	c.Check(<-stored, check.Equals, nameOf(body[BlockSize-4:2*BlockSize-4])) // the second block goes first
	_, err = run.Close([]byte("head"))
	c.Check(err, check.IsNil)
	c.Check(stored, check.HasLen, 2)
}

func (*writerSuite) TestWrongHead(c *check.C) {
	w, keep := newWriter(2)
	run, err := w.Run(context.Background(), 512)
	c.Assert(err, check.IsNil)
	_, err = run.Close([]byte("short"))
	c.Check(err, check.ErrorMatches, `keepfile: head of 5 bytes for a reserve of 512`)
	c.Check(w.pool.lent, check.Equals, 0)
	c.Check(keep.Stats().Writes, check.Equals, 0)
	for _, reserve := range []int{-1, BlockSize} {
		_, err = w.Run(context.Background(), reserve)
		c.Check(err, check.ErrorMatches, `keepfile: reserve of .* bytes does not fit a block`)
	}
}

// Blocks are stored while others are written: three meet in Keep.
func (*writerSuite) TestStoresInParallel(c *check.C) {
	w, keep := newWriter(3)
	keep.Discard = true
	var meeting sync.WaitGroup
	meeting.Add(3)
	keep.Script = func(context.Context, *keeptest.Op) error {
		meeting.Done()
		meeting.Wait()
		return nil
	}
	run, err := w.Run(context.Background(), 0)
	c.Assert(err, check.IsNil)
	_, err = run.ReadFrom(&zeros{3 * BlockSize})
	c.Check(err, check.IsNil)
	_, err = run.Close(nil)
	c.Check(err, check.IsNil)
	c.Check(keep.Stats().PeakWrites, check.Equals, 3)
}

// However many Runs there are, BlockWrite never sees more buffers than allowed.
func (*writerSuite) TestBufferBound(c *check.C) {
	w, keep := newWriter(2)
	keep.Discard = true
	var mtx sync.Mutex
	buffers := map[*byte]bool{}
	keep.Script = func(_ context.Context, op *keeptest.Op) error {
		mtx.Lock()
		defer mtx.Unlock()
		buffers[&op.Data[0]] = true
		return nil
	}
	var all sync.WaitGroup
	for range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			run, err := w.Run(context.Background(), 0)
			c.Assert(err, check.IsNil)
			defer run.Abort()
			_, err = run.ReadFrom(&zeros{3 * BlockSize})
			c.Check(err, check.IsNil)
			_, err = run.Close(nil)
			c.Check(err, check.IsNil)
		}()
	}
	all.Wait()
	c.Check(len(buffers) <= 2, check.Equals, true, check.Commentf("%d buffers", len(buffers)))
	c.Check(keep.Stats().PeakWrites <= 2, check.Equals, true)
}

func (*writerSuite) TestFirstFailureEndsAllRuns(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	w, keep := newWriter(1)
	keep.Discard = true
	keep.Script = func(context.Context, *keeptest.Op) error { return keeptest.Error{Status: 503, Message: "no service"} }
	failing, err := w.Run(context.Background(), 0)
	c.Assert(err, check.IsNil)
	other, err := w.Run(context.Background(), 0)
	c.Assert(err, check.IsNil)
	_, err = failing.Write(make([]byte, 10))
	c.Assert(err, check.IsNil)
	waiting := make(chan error)
	go func() {
		_, err := other.Write(make([]byte, 10)) // waits for the only buffer
		if err == nil {
			_, err = other.Close(nil)
		}
		waiting <- err
	}()
	_, err = failing.Close(nil)
	c.Check(err, check.ErrorMatches, `keep: write block of 10 bytes: 503 no service`)
	c.Check(<-waiting, check.Equals, err)
	<-w.Failed()
	c.Check(w.Err(), check.Equals, err)
	c.Check(fault.SideOf(err), check.Equals, fault.Keep)
	c.Check(fault.Transient(err), check.Equals, true)
	_, again := w.Run(context.Background(), 0)
	c.Check(again, check.Equals, err)
	other.Abort()
	c.Check(w.pool.lent, check.Equals, 0)
}

// Uploads under way are cancelled too, not waited for.
func (*writerSuite) TestFailureCancelsUploads(c *check.C) {
	w, keep := newWriter(2)
	keep.Discard = true
	hanging := make(chan struct{})
	keep.Script = func(ctx context.Context, op *keeptest.Op) error {
		if len(op.Data) == BlockSize {
			close(hanging)
			<-ctx.Done()
			return ctx.Err()
		}
		<-hanging
		return errors.New("disk on fire")
	}
	run, err := w.Run(context.Background(), 0)
	c.Assert(err, check.IsNil)
	_, err = run.ReadFrom(&zeros{BlockSize + 1})
	c.Assert(err, check.IsNil)
	_, err = run.Close(nil)
	c.Check(err, check.ErrorMatches, `keep: write block of 1 bytes: disk on fire`)
}

func (*writerSuite) TestAbortGivesBuffersBack(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	w, keep := newWriter(2)
	aborted, err := w.Run(context.Background(), 512)
	c.Assert(err, check.IsNil)
	_, err = aborted.Write([]byte("given up"))
	c.Assert(err, check.IsNil)
	aborted.Abort()
	aborted.Abort() // does nothing
	_, err = aborted.Write([]byte("x"))
	c.Check(err, check.Equals, errEnded)
	_, err = aborted.Close(nil)
	c.Check(err, check.Equals, errEnded)
	c.Check(keep.Stats().Writes, check.Equals, 0)

	// A Run that ends does no harm to another one.
	run, err := w.Run(context.Background(), 512)
	c.Assert(err, check.IsNil)
	_, err = run.Close(make([]byte, 512))
	c.Check(err, check.IsNil)
	c.Check(w.Err(), check.IsNil)
}

func (*writerSuite) TestCancelledByCaller(c *check.C) {
	defer goleak.VerifyNone(c, goleak.IgnoreCurrent())
	w, keep := newWriter(1)
	uploading := make(chan struct{})
	keep.Script = func(ctx context.Context, _ *keeptest.Op) error {
		close(uploading)
		<-ctx.Done()
		return ctx.Err()
	}
	cause := errors.New("user has had enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	run, err := w.Run(ctx, 0)
	c.Assert(err, check.IsNil)
	go func() {
		<-uploading
		cancel(cause)
	}()
	_, err = run.ReadFrom(&zeros{BlockSize + 1}) // the second block waits for the first one's buffer
	c.Check(errors.Is(err, cause), check.Equals, true, check.Commentf("%v", err))
	_, err = run.Close(nil)
	c.Check(errors.Is(err, cause), check.Equals, true, check.Commentf("%v", err))
	c.Check(w.Err(), check.IsNil) // Keep has not failed
	_, err = w.Run(ctx, 512)
	c.Check(errors.Is(err, cause), check.Equals, true)
}

func (*writerSuite) TestReaderFails(c *check.C) {
	w, _ := newWriter(1)
	run, err := w.Run(context.Background(), 0)
	c.Assert(err, check.IsNil)
	defer run.Abort()
	broken := errors.New("registry hung up")
	n, err := run.ReadFrom(io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken)))
	c.Check(err, check.Equals, broken)
	c.Check(n, check.Equals, int64(3))
	_, err = run.ReadFrom(idle{})
	c.Check(err, check.Equals, errStuck)
}

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

// confirming answers every block with the same locator.
type confirming string

func (l confirming) BlockWrite(context.Context, arvados.BlockWriteOptions) (arvados.BlockWriteResponse, error) {
	return arvados.BlockWriteResponse{Locator: string(l)}, nil
}

func (*writerSuite) TestNonsenseConfirmed(c *check.C) {
	for locator, message := range map[string]string{
		"":                                   `keep: write block of 5 bytes: bad locator "\+"`,
		"OK":                                 `keep: write block of 5 bytes: bad locator "OK\+"`,
		"00000000000000000000000000000000+3": `keep: write block of 5 bytes: 5 bytes were sent but Keep confirmed 3`,
	} {
		run, err := NewWriter(confirming(locator), 1, arvados.BlockWriteOptions{}).Run(context.Background(), 0)
		c.Assert(err, check.IsNil)
		run.Write([]byte("abcde"))
		_, err = run.Close(nil)
		c.Check(err, check.ErrorMatches, message)
	}
}
