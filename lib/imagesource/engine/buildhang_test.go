// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	check "gopkg.in/check.v1"
)

// hangingAt is a way to the engine of the suite on which requests for a path get no
// answer. hung gets something for each of them.
func (s *building) hangingAt(c *check.C, path string) (host string, hung <-chan struct{}, end func()) {
	listener, err := net.Listen("unix", filepath.Join(c.MkDir(), "docker.sock"))
	c.Assert(err, check.IsNil)
	requests := make(chan struct{}, 100)
	var group sync.WaitGroup
	pass := func(conn net.Conn) {
		defer conn.Close()
		r := bufio.NewReader(conn)
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if strings.Contains(line, path+" ") {
			requests <- struct{}{}
			_, _ = io.Copy(io.Discard, r) // until the client gives up, or end
			return
		}
		back, err := net.Dial("unix", strings.TrimPrefix(s.host, "unix://"))
		if err != nil {
			return
		}
		defer back.Close()
		group.Go(func() {
			defer conn.Close()
			_, _ = io.Copy(conn, back)
		})
		_, _ = io.Copy(back, io.MultiReader(strings.NewReader(line), r))
	}
	ctx, cancel := context.WithCancel(context.Background())
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(ctx, func() { conn.Close() })
			group.Go(func() { pass(conn) })
		}
	})
	return "unix://" + listener.Addr().String(), requests, func() {
		listener.Close()
		cancel()
		group.Wait()
	}
}

// A build that is cancelled ends also when the engine does not answer the requests
// that make the connections with its builder.
func (s *building) TestCancelWhileTheBuilderHangs(c *check.C) {
	for _, path := range []string{"/grpc", "/session"} {
		host, hung, end := s.hangingAt(c, path)
		engine, err := New(host)
		c.Assert(err, check.IsNil)
		ctx, cancel := context.WithCancel(context.Background())
		built := make(chan error, 1)
		go func() {
			built <- engine.Build(ctx, s.request(c, "FROM BASE\nRUN true\n", nil), func(context.Context, BuiltImage) error { return nil })
		}()
		select {
		case <-hung:
		case err := <-built:
			c.Fatalf("%s: not before the end: %v", path, err)
		}
		cancel()
		select {
		case err = <-built:
			c.Check(errors.Is(err, context.Canceled), check.Equals, true, check.Commentf("%s: %v", path, err))
			c.Check(fault.Transient(err), check.Equals, true)
		case <-time.After(cleanupTime + slack):
			c.Errorf("%s: it goes on", path)
		}
		end()
		engine.Close()
	}
}
