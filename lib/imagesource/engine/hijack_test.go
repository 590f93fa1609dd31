// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagesource/enginetest"
	check "gopkg.in/check.v1"
)

const attaching = "POST /containers/c1/attach"

// created is an engine's answer that it has made a container.
func created(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	fmt.Fprint(w, `{"Id": "c1"}`)
}

// attached makes a connection of the request, that of a container which is silent.
func attached(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	_, _ = io.Copy(io.Discard, conn)
}

// attach runs a container on an engine that answers as given when it attaches.
func (s *scripted) attach(ctx context.Context, answer http.HandlerFunc) error {
	s.server.On("POST /containers/create", created)
	s.server.On(attaching, answer)
	_, err := s.engine.RunContainer(ctx, ContainerSpec{Image: "app"})
	return err
}

// A request that becomes a connection ends with its context as any other does,
// also when the engine does not answer.
func (s *scripted) TestCancelWhileAttaching(c *check.C) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	err := s.attach(ctx, func(_ http.ResponseWriter, req *http.Request) {
		cancel()
		select {
		case <-req.Context().Done():
		case <-time.After(patience): // nobody gives up
		}
	})
	c.Check(errors.Is(err, context.Canceled), check.Equals, true, check.Commentf("%v", err))
	s.checkFault(c, err, fault.Engine, true, `engine: attach to container of image app: .*`)
	c.Check(s.server.Requests(`DELETE /containers/c1\?force=1&v=1`), check.HasLen, 1)
}

// The answer that comes too late makes no connection that somebody must close.
func (s *scripted) TestAttachedAfterCancel(c *check.C) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	answer, ended := make(chan struct{}), make(chan struct{})
	err := s.attach(ctx, func(w http.ResponseWriter, req *http.Request) {
		defer close(ended)
		cancel()
		select {
		case <-answer:
		case <-time.After(patience): // nobody gives up
		}
		attached(w, req)
	})
	c.Check(errors.Is(err, context.Canceled), check.Equals, true, check.Commentf("%v", err))
	close(answer)
	<-ended // the client has closed it
}

// An engine that dies then is trouble of the node, as with other requests.
func (s *scripted) TestEngineDiesWhileAttaching(c *check.C) {
	err := s.attach(context.Background(), func(http.ResponseWriter, *http.Request) { s.server.Die() })
	s.checkFault(c, err, fault.Engine, true, `engine: attach to container of image app: unexpected EOF`)
	s.TearDownTest(c)
	s.SetUpTest(c)

	s.server.On("POST /containers/create", enginetest.Then(created, func(*http.Request) { s.server.Die() }))
	_, err = s.engine.RunContainer(context.Background(), ContainerSpec{Image: "app"})
	c.Check(errors.Is(err, ErrUnreachable), check.Equals, true, check.Commentf("%v", err))
	s.checkFault(c, err, fault.Engine, true, `engine: attach to container of image app: .*is the Docker Engine of the node running.*`)
}
