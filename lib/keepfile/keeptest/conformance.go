// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keeptest

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	check "gopkg.in/check.v1"
)

// ReadWriter is what Conformance tests.
type ReadWriter interface {
	BlockRead(ctx context.Context, opts arvados.BlockReadOptions) (int, error)
	BlockWrite(ctx context.Context, opts arvados.BlockWriteOptions) (arvados.BlockWriteResponse, error)
}

// Conformance is what keepfile relies on. Every implementation runs it against
// a Keep that works.
func Conformance(c *check.C, kc ReadWriter) {
	ctx := context.Background()
	write := func(data []byte) string {
		resp, err := kc.BlockWrite(ctx, arvados.BlockWriteOptions{Data: data})
		c.Assert(err, check.IsNil)
		return resp.Locator
	}

	// What was written can be read with the locator that came back, which
	// begins with the block's MD5 and size.
	for _, data := range [][]byte{[]byte("x"), bytes.Repeat([]byte("abc"), 100_000), make([]byte, maxBlock)} {
		locator := write(data)
		c.Check(strings.HasPrefix(locator+"+", fmt.Sprintf("%x+%d+", md5.Sum(data), len(data))), check.Equals, true, check.Commentf(locator))
		var got bytes.Buffer
		n, err := kc.BlockRead(ctx, arvados.BlockReadOptions{Locator: locator, WriteTo: &got})
		c.Check(err, check.IsNil)
		c.Check(n, check.Equals, len(data))
		c.Check(bytes.Equal(got.Bytes(), data), check.Equals, true)
	}

	// The data is not changed, and may be afterwards.
	data := []byte("to be overwritten")
	locator := write(data)
	c.Check(string(data), check.Equals, "to be overwritten")
	clear(data)
	var got bytes.Buffer
	_, err := kc.BlockRead(ctx, arvados.BlockReadOptions{Locator: locator, WriteTo: &got})
	c.Check(err, check.IsNil)
	c.Check(got.String(), check.Equals, "to be overwritten")

	// Many at a time.
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			want := fmt.Sprintf("block %d", i)
			resp, err := kc.BlockWrite(ctx, arvados.BlockWriteOptions{Data: []byte(want)})
			c.Check(err, check.IsNil)
			var got bytes.Buffer
			_, err = kc.BlockRead(ctx, arvados.BlockReadOptions{Locator: resp.Locator, WriteTo: &got})
			c.Check(err, check.IsNil)
			c.Check(got.String(), check.Equals, want)
		}()
	}
	wg.Wait()

	// A reader that has had enough ends the reading, with its own error.
	enough := errors.New("enough")
	locator = write(bytes.Repeat([]byte("long"), 1<<20))
	_, err = kc.BlockRead(ctx, arvados.BlockReadOptions{Locator: locator, WriteTo: refuser{enough}})
	c.Check(errors.Is(err, enough), check.Equals, true, check.Commentf("%v", err))

	// Failures.
	_, err = kc.BlockRead(ctx, arvados.BlockReadOptions{Locator: "00000000000000000000000000000000+5", WriteTo: io.Discard})
	c.Check(err, check.NotNil)
	_, err = kc.BlockWrite(ctx, arvados.BlockWriteOptions{Data: make([]byte, maxBlock+1)})
	c.Check(err, check.NotNil)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = kc.BlockWrite(ended, arvados.BlockWriteOptions{Data: []byte("too late")})
	c.Check(err, check.NotNil)
}

type refuser struct{ err error }

func (r refuser) Write([]byte) (int, error) { return 0, r.err }
