// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagesource/enginetest"
	"github.com/docker/docker/api/types/container"
	check "gopkg.in/check.v1"
)

// privateEdges are tests of private builders of which the node's engine or the
// second daemon does not answer. Both are fakes, so no engine is needed.
type privateEdges struct{}

var _ = check.Suite(&privateEdges{})

// fakeNode is a node with a fake engine, which starts a fake second daemon.
type fakeNode struct {
	*enginetest.Server
	engine *Engine
	second *enginetest.Server // nil before the container is created
	folder string             // of the second daemon's socket
	hung   chan struct{}      // closed when hang has been asked
}

// newFakeNode makes the container of a private builder whose id is c1 and whose
// volume is v1. Answers that are given to on before win.
func newFakeNode(c *check.C, on func(*fakeNode)) *fakeNode {
	dir, err := os.MkdirTemp("", "") // a socket's path must be short
	c.Assert(err, check.IsNil)
	n := &fakeNode{hung: make(chan struct{})}
	n.Server, err = enginetest.Start(dir, enginetest.Overlay2)
	c.Assert(err, check.IsNil)
	n.engine, err = New(n.Host)
	c.Assert(err, check.IsNil)
	if on != nil {
		on(n)
	}
	n.On("GET /networks/bridge", says(`{"IPAM": {"Config": [{"Subnet": "172.17.0.0/16"}]}}`))
	n.On("POST /images/create", enginetest.Stream(`{"status": "sha256:0"}`))
	n.On("POST /containers/create", n.create)
	n.On("GET /containers/c1/json", says(`{"Mounts": [{"Type": "bind"}, {"Type": "volume", "Name": "v1"}]}`))
	n.On("POST /containers/c1/attach", attached)
	n.On("POST /containers/c1/start", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	n.On("DELETE ", slices.Repeat([]http.HandlerFunc{n.gone}, 100)...)
	return n
}

func (n *fakeNode) end() {
	n.Die()
	if n.second != nil {
		n.second.Die()
	}
	n.engine.Close()
	os.RemoveAll(strings.TrimPrefix(filepath.Dir(n.Host), "unix://"))
}

func says(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, body)
	}
}

// create starts the second daemon, where the container's first mount is.
func (n *fakeNode) create(w http.ResponseWriter, req *http.Request) {
	var body struct{ HostConfig container.HostConfig }
	err := json.NewDecoder(req.Body).Decode(&body)
	if err == nil {
		n.folder = body.HostConfig.Mounts[0].Source
		n.second, err = enginetest.Start(n.folder, enginetest.Overlay2)
	}
	if err == nil {
		err = os.Symlink("engine.sock", filepath.Join(n.folder, "docker.sock"))
	}
	if err != nil {
		enginetest.Error(http.StatusInternalServerError, err.Error())(w, req)
		return
	}
	created(w, req)
}

// gone is the answer that what is to be removed is not there.
func (n *fakeNode) gone(w http.ResponseWriter, req *http.Request) {
	select {
	case <-n.hung:
		hang(w, req)
	default:
		enginetest.Error(http.StatusNotFound, "gone")(w, req)
	}
}

// hang is the answer of an engine that hangs from now on.
func (n *fakeNode) hang(w http.ResponseWriter, req *http.Request) {
	close(n.hung)
	hang(w, req)
}

func hang(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }

// within fails, and has the engine die, when do has not returned after limit.
func (n *fakeNode) within(c *check.C, what string, limit time.Duration, do func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		do()
	}()
	select {
	case <-ended:
	case <-time.After(limit):
		c.Errorf("%s: it goes on after %v", what, limit)
		n.end()
		<-ended
	}
}

// slack is what a busy machine may take besides.
const slack = 10 * time.Second

// A start that is told to stop while the node's engine hangs does so: it waits only
// for what it must know to remove it, and then for the removal.
func (s *privateEdges) TestNodeHangsInStart(c *check.C) {
	var group sync.WaitGroup
	for _, trial := range []struct {
		at    string
		limit time.Duration
	}{
		{"GET /info", 0},
		{"GET /networks/bridge", 0},
		{"POST /images/create", cleanupTime + stopTime},
		{"POST /containers/create", cleanupTime + stopTime},
		{"GET /containers/c1/json", cleanupTime + stopTime},
		{"POST /containers/c1/attach", stopTime},
		{"POST /containers/c1/start", stopTime},
	} {
		group.Go(func() {
			n := newFakeNode(c, func(n *fakeNode) { n.On(trial.at, n.hang) })
			defer n.end()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			go func() {
				<-n.hung
				cancel()
			}()
			n.within(c, trial.at, trial.limit+slack, func() {
				p, err := n.engine.StartPrivate(ctx, PrivateOptions{Owner: newOwner()})
				c.Check(p, check.IsNil)
				c.Check(fault.SideOf(err), check.Equals, fault.Engine, check.Commentf("%s: %v", trial.at, err))
				c.Check(fault.Transient(err), check.Equals, true)
				c.Check(errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded), check.Equals, true, check.Commentf("%s: %v", trial.at, err))
			})
			_, err := os.Stat(n.folder)
			c.Check(os.IsNotExist(err), check.Equals, true)
		})
	}
	group.Wait()
}

// start starts a private builder on fakes.
func (n *fakeNode) start(c *check.C) *Private {
	p, err := n.engine.StartPrivate(context.Background(), PrivateOptions{Owner: newOwner()})
	c.Assert(err, check.IsNil)
	return p
}

// Stop gives up when the node's engine hangs in it, says so, and removes what is not
// the engine's. It can be called again, here when the engine is well again.
func (s *privateEdges) TestNodeHangsInStop(c *check.C) {
	var group sync.WaitGroup
	for _, at := range []string{"DELETE /containers/c1", "DELETE /volumes/v1", "DELETE /images/arvados-builtin/.*"} {
		n := newFakeNode(c, func(n *fakeNode) { n.On(at, hang) })
		p := n.start(c)
		group.Go(func() {
			defer n.end()
			over, cancel := context.WithCancel(context.Background())
			cancel()
			n.within(c, at, stopTime+slack, func() {
				err := p.Stop(over)
				c.Check(err, check.ErrorMatches, `(?s)engine: remove .*context deadline exceeded.*`, check.Commentf("%s", at))
				c.Check(errors.Is(err, context.DeadlineExceeded), check.Equals, true)
			})
			_, err := os.Stat(n.folder)
			c.Check(os.IsNotExist(err), check.Equals, true)
			n.within(c, at, stopTime+slack, func() { c.Check(p.Stop(over), check.IsNil, check.Commentf("%s", at)) })
		})
	}
	group.Wait()
}

// The container's record goes before its volume, also when the engine removes both
// by itself.
func (s *privateEdges) TestStopWaitsForTheVolume(c *check.C) {
	busy := enginetest.Error(http.StatusConflict, "removal in progress, or in use")
	n := newFakeNode(c, func(n *fakeNode) {
		n.On("DELETE /containers/c1", busy, busy)
		n.On("DELETE /volumes/v1", busy, busy)
	})
	defer n.end()
	c.Check(n.start(c).Stop(context.Background()), check.IsNil)
	c.Check(n.Requests(`DELETE /containers/c1\?force=1&v=1`), check.HasLen, 3)
	c.Check(n.Requests("DELETE /volumes/v1$"), check.HasLen, 3)
	removals := n.Requests("DELETE ")
	c.Check(removals[len(removals)-1].Line, check.Matches, "DELETE /images/arvados-builtin/.*")
}

// A second daemon that hangs ends neither a start for ever nor the node: others run
// by the node's engine, which is well.
func (s *privateEdges) TestSecondDaemonHangs(c *check.C) {
	n := newFakeNode(c, nil)
	defer n.end()
	p := n.start(c)
	n.second.On(".*", slices.Repeat([]http.HandlerFunc{hang}, 100)...)
	err := p.ready(context.Background(), "name", &privateOutput{}, pollTime)
	s.checkOnlyBuilder(c, err, `engine: wait for the private builder name: .*context deadline exceeded \(it wrote last: \)`)

	over, cancel := context.WithCancel(context.Background())
	cancel()
	err = p.ready(over, "name", &privateOutput{}, tooLong)
	c.Check(errors.Is(err, context.Canceled), check.Equals, true)
	s.checkOnlyBuilder(c, err, `engine: wait for the private builder name: context canceled .*`)

	c.Check(p.Stop(over), check.IsNil)
}

// The same for one that is gone, or that has not come up in time.
func (s *privateEdges) TestSecondDaemonGone(c *check.C) {
	n := newFakeNode(c, nil)
	defer n.end()
	p := n.start(c)
	n.second.Die()
	err := p.ready(context.Background(), "name", &privateOutput{text: []byte("starting")}, 10*pollTime)
	s.checkOnlyBuilder(c, err, `engine: wait for the private builder name: .*\(it wrote last: starting\)`)
	for _, err := range []error{
		func() error { _, err := p.Engine.Ping(context.Background()); return err }(),
		p.Engine.RemoveImage(context.Background(), "x"),
		p.Engine.fault("attach to", "x", func() error {
			_, err := p.Engine.attach(context.Background(), "x", container.AttachOptions{})
			return err
		}()),
	} {
		s.checkOnlyBuilder(c, err, `engine: .*`)
		c.Check(strings.Contains(err.Error(), "of the node"), check.Equals, false, check.Commentf("%v", err))
	}
	c.Check(p.Stop(context.Background()), check.IsNil)
}

// checkOnlyBuilder: it may work elsewhere, and the node is not to blame.
func (s *privateEdges) checkOnlyBuilder(c *check.C, err error, message string) {
	c.Check(err, check.ErrorMatches, message)
	c.Check(fault.SideOf(err), check.Equals, fault.Engine)
	c.Check(fault.Transient(err), check.Equals, true)
	c.Check(errors.Is(err, ErrUnreachable), check.Equals, false)
}

// A start finds that the node's engine is gone, whenever that happens.
func (s *privateEdges) TestNodeGone(c *check.C) {
	for _, at := range []string{"GET /info", "GET /networks/bridge", "POST /containers/create", "POST /containers/c1/attach", "POST /containers/c1/start"} {
		n := newFakeNode(c, func(n *fakeNode) {
			n.On(at, func(http.ResponseWriter, *http.Request) { n.Die() })
		})
		_, err := n.engine.StartPrivate(context.Background(), PrivateOptions{Owner: newOwner()})
		c.Check(fault.Transient(err), check.Equals, true, check.Commentf("%s: %v", at, err))
		_, err = n.engine.StartPrivate(context.Background(), PrivateOptions{Owner: newOwner()})
		c.Check(err, check.ErrorMatches, `engine: connect to unix://.*is the Docker Engine of the node running.*`)
		c.Check(errors.Is(err, ErrUnreachable), check.Equals, true)
		c.Check(fault.Transient(err), check.Equals, true)
		n.end()
	}
}
