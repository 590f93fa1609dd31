// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"net"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
)

// attach connects to the streams of a container.
func (e *Engine) attach(ctx context.Context, id string, opts container.AttachOptions) (types.HijackedResponse, error) {
	return answered(ctx, func() (types.HijackedResponse, error) { return e.cli.ContainerAttach(ctx, id, opts) },
		func(conn types.HijackedResponse) { conn.Close() })
}

// dial connects to what the engine has at a path of its API.
func (e *Engine) dial(ctx context.Context, path, proto string, meta map[string][]string) (net.Conn, error) {
	return answered(ctx, func() (net.Conn, error) { return e.cli.DialHijack(ctx, path, proto, meta) },
		func(conn net.Conn) { conn.Close() })
}

// answered is what ask gets from the engine, if ctx does not end before. For
// requests that become connections, the client would wait for the answer whatever
// becomes of ctx. What comes too late is dropped.
func answered[C any](ctx context.Context, ask func() (C, error), drop func(C)) (conn C, err error) {
	type answer struct {
		conn C
		err  error
	}
	answers := make(chan answer)
	go func() {
		conn, err := ask()
		select {
		case answers <- answer{conn, err}:
		case <-ctx.Done():
			if err == nil {
				drop(conn)
			}
		}
	}()
	select {
	case a := <-answers:
		return a.conn, a.err
	case <-ctx.Done():
		return conn, ctx.Err()
	}
}
