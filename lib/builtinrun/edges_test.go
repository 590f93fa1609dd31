// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localcluster"
	"gopkg.in/check.v1"
)

// edge is something that happens to a container while it is being worked on, and
// the record that it ends with.
type edge struct {
	what string
	// happens is called once, in the middle of a layer. stop is what a signal
	// does.
	happens  func(s *lifeSuite, c *check.C, cr arvados.ContainerRequest, stop func())
	goesOn   bool          // the registry sends the rest of the layer then
	patience time.Duration // with servers that do not answer; usually 2 s
	changes  attrs
	state    arvados.ContainerState
	problem  string // runtime_status.error, a regular expression
	err      string // of Run: what crunch-run says when it exits with 1; a regular expression
}

var edges = []edge{
	{what: "signal", happens: func(_ *lifeSuite, _ *check.C, _ arvados.ContainerRequest, stop func()) { stop() },
		state: arvados.ContainerStateCancelled},
	{what: "max_run_time has passed", happens: func(*lifeSuite, *check.C, arvados.ContainerRequest, func()) {},
		changes: attrs{"scheduling_parameters": attrs{"max_run_time": 5}},
		state:   arvados.ContainerStateCancelled, problem: `request: .*max_run_time: maximum run time exceeded .*`},
	{what: "the user cancels the request, and the dispatcher sends SIGTERM", happens: func(s *lifeSuite, c *check.C, cr arvados.ContainerRequest, stop func()) {
		c.Check(s.user.RequestAndDecode(nil, "PATCH", "arvados/v1/container_requests/"+cr.UUID, nil,
			attrs{"container_request": attrs{"priority": 0}}), check.IsNil)
		stop()
	}, state: arvados.ContainerStateCancelled},
	{what: "the container's token expires", goesOn: true, happens: func(s *lifeSuite, c *check.C, cr arvados.ContainerRequest, _ func()) {
		var ctr arvados.Container
		c.Check(s.root.RequestAndDecode(&ctr, "GET", "arvados/v1/containers/"+cr.ContainerUUID, nil, nil), check.IsNil)
		c.Check(s.root.RequestAndDecode(nil, "PATCH", "arvados/v1/api_client_authorizations/"+ctr.AuthUUID, nil,
			attrs{"api_client_authorization": attrs{"expires_at": "2020-01-01T00:00:00Z"}}), check.IsNil)
	}, state: arvados.ContainerStateCancelled, problem: `api: .*401.*`},
	{what: "somebody else cancels the container", goesOn: true, happens: func(s *lifeSuite, c *check.C, cr arvados.ContainerRequest, _ func()) {
		s.cancel(c, cr.ContainerUUID)
	}, state: arvados.ContainerStateCancelled, err: `(?s)final state of .* could not be saved: api: PUT containers/.*422.*`},
	{what: "somebody else cancels it, and the dispatcher sends SIGTERM", happens: func(s *lifeSuite, c *check.C, cr arvados.ContainerRequest, stop func()) {
		s.cancel(c, cr.ContainerUUID)
		stop()
	}, state: arvados.ContainerStateCancelled, err: `(?s)final state of .* could not be saved: api: PUT containers/.*422.*`},
	{what: "the API server is gone until the end", goesOn: true, happens: func(s *lifeSuite, _ *check.C, _ arvados.ContainerRequest, _ func()) {
		s.fail(`^api `, -1, status(http.StatusServiceUnavailable))
	}, state: arvados.ContainerStateRunning, err: `(?s)final state of .* could not be saved: api: PUT containers/.*503.*`},
	{what: "API server and Keep are gone, and a signal", patience: time.Hour, happens: func(s *lifeSuite, _ *check.C, _ arvados.ContainerRequest, stop func()) {
		s.fail(`^(api|keep) `, -1, status(http.StatusServiceUnavailable))
		stop()
	}, state: arvados.ContainerStateRunning, err: `(?s)final state of .* could not be saved: .*`},
}

// Whatever happens in the middle of the work, the container ends soon, nothing
// that anybody could take for its output is left, and somebody is told.
func (s *lifeSuite) TestEdges(c *check.C) {
	s.atOnce(c, len(edges), func(i int, s *lifeSuite) {
		t := edges[i]
		cr := s.submit(c, []string{"docker", "pull", s.registry.Host() + "/app:1"}, t.changes)
		s.patience = max(s.patience, t.patience)
		ctx, stop := context.WithCancelCause(context.Background())
		defer stop(nil)
		var once sync.Once
		var happened time.Time
		s.registry.Always("/blobs/"+app.Layers[0].Digest, func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
			once.Do(func() {
				happened = time.Now()
				t.happens(s, c, cr, func() { stop(errors.New("caught signal: terminated")) })
			})
			if !t.goesOn {
				registrytest.Stall(mib)(w, r, serve)
				return
			}
			serve(w, r)
		})
		e := s.run(ctx, c, cr, s.site)
		c.Assert(happened.IsZero(), check.Equals, false, check.Commentf("never happened: %s\n%s", t.what, e.why()))
		took := e.at.Sub(happened).Seconds()
		c.Logf("%s: after %.1f s, %v", t.what, took, e)
		about := check.Commentf(t.what)
		s.checkNothingCame(c, e, t.state, t.err, about)
		c.Check(e.problem, check.Matches, t.problem, about)
		c.Check(took < tooLong, check.Equals, true, about)
	})
}

// checkNothingCame: the container has ended without a result. err is what
// crunch-run says, "" for nothing.
func (s *stage) checkNothingCame(c *check.C, e ending, state arvados.ContainerState, err string, about check.CommentInterface) {
	c.Check(e.ctr.State, check.Equals, state, about)
	c.Check(e.exit, check.IsNil, about)
	c.Check(e.ctr.Output, check.Equals, "", about)
	c.Check(s.visible(c), check.HasLen, 0, about)
	if err != "" {
		c.Check(e.runError, check.ErrorMatches, err, about)
		return
	}
	c.Check(e.runError, check.IsNil, about)
	c.Check(e.logs["crunch-run.txt"], check.Matches, `(?s).*Z `+string(state)+"\n", about)
}

// early is something that happens to a container before it is Running.
type early struct {
	what    string
	at      string // request that it happens at, which is answered later
	happens func(s *lifeSuite, c *check.C, container string)
	state   arvados.ContainerState
	err     string // of Run
}

const (
	// Requests of a start: for the record, and for the collection of the log.
	atRecord = `^api GET /arvados/v1/containers/x.{26}(\?|$)`
	atLog    = `^api POST /arvados/v1/collections`

	refusedRunning = `(?s)api: PUT containers/.*422.*`
)

func (s *lifeSuite) unlock(c *check.C, container string) {
	c.Check(s.root.RequestAndDecode(nil, "POST", "arvados/v1/containers/"+container+"/unlock", nil, nil), check.IsNil)
}

// relock makes the container somebody else's.
func (s *lifeSuite) relock(c *check.C, container string) {
	s.unlock(c, container)
	c.Check(s.UserClient(localcluster.Admin).RequestAndDecode(nil, "POST", "arvados/v1/containers/"+container+"/lock", nil, nil), check.IsNil)
}

func (s *lifeSuite) cancel(c *check.C, container string) {
	c.Check(s.root.RequestAndDecode(nil, "PUT", "arvados/v1/containers/"+container, nil, attrs{"container": attrs{"state": "Cancelled"}}), check.IsNil)
}

var earlies = []early{
	{what: "unlocked before its record is read", at: atRecord, happens: (*lifeSuite).unlock,
		state: arvados.ContainerStateQueued, err: `.*dispatch error detected: container ".*" has state "Queued"`},
	{what: "cancelled before its record is read", at: atRecord, happens: (*lifeSuite).cancel,
		state: arvados.ContainerStateCancelled, err: `.*dispatch error detected: container ".*" has state "Cancelled"`},
	{what: "locked by another before its record is read", at: atRecord, happens: (*lifeSuite).relock,
		state: arvados.ContainerStateLocked, err: `(?s)api: GET containers/.*/auth: .*403.*`},
	{what: "unlocked before it is Running", at: atLog, happens: (*lifeSuite).unlock,
		state: arvados.ContainerStateQueued, err: refusedRunning},
	{what: "cancelled before it is Running", at: atLog, happens: (*lifeSuite).cancel,
		state: arvados.ContainerStateCancelled, err: refusedRunning},
	{what: "locked by another before it is Running", at: atLog, happens: (*lifeSuite).relock,
		state: arvados.ContainerStateLocked, err: refusedRunning},
}

// A container that is no longer this process's is left as it is.
func (s *lifeSuite) TestEdgesBeforeRunning(c *check.C) {
	for _, t := range earlies {
		cr := s.submit(c, []string{"docker", "pull", s.registry.Host() + "/app:1"}, nil)
		var then arvados.Container
		s.fail(t.at, 1, func(w http.ResponseWriter, r *http.Request) {
			t.happens(s, c, cr.ContainerUUID)
			c.Check(s.root.RequestAndDecode(&then, "GET", "arvados/v1/containers/"+cr.ContainerUUID, nil, nil), check.IsNil)
			status(http.StatusServiceUnavailable)(w, r)
		})
		e := s.run(context.Background(), c, cr, s.site)
		about := check.Commentf(t.what)
		c.Logf("%s: %v", t.what, e)
		s.checkNothingCame(c, e, t.state, t.err, about)
		c.Check(e.ctr, check.DeepEquals, then, about)
	}
}
