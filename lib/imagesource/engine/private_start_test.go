// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	check "gopkg.in/check.v1"
)

// A start that is cancelled at any of its requests to the engine, or while the
// daemon comes up, leaves nothing.
func (s *privateBuilder) TestStartCancelled(c *check.C) {
	watched := &conformance{host: DefaultHost}
	node := watched.connect(c)
	defer node.Close()
	for n := 1; ; n++ {
		ctx, cancel := context.WithCancel(context.Background())
		count := 0
		watched.before = func(req *http.Request) {
			if count++; count == n {
				cancel()
			}
		}
		p, err := node.StartPrivate(ctx, PrivateOptions{Owner: newOwner()})
		cancelled := ctx.Err() != nil
		cancel()
		if !cancelled {
			c.Check(n > 6, check.Equals, true, check.Commentf("%d requests", n))
			c.Assert(err, check.IsNil)
			s.stop(c, p)
			break
		}
		c.Check(p, check.IsNil, check.Commentf("cancelled at request %d", n))
		c.Check(errors.Is(err, context.Canceled), check.Equals, true, check.Commentf("%d: %v", n, err))
		c.Check(fault.SideOf(err), check.Equals, fault.Engine)
		c.Check(fault.Transient(err), check.Equals, true)
		c.Check(s.remains(c), check.HasLen, 0, check.Commentf("cancelled at request %d", n))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	watched.before = func(req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/start") {
			time.AfterFunc(5*pollTime, cancel) // or later: then it has started
		}
	}
	p, err := node.StartPrivate(ctx, PrivateOptions{Owner: newOwner()})
	c.Check(p == nil, check.Equals, err != nil, check.Commentf("%v", err))
	if p != nil {
		s.stop(c, p)
	}
	c.Check(s.remains(c), check.HasLen, 0)
}

// A daemon that does not come up says why.
func (s *privateBuilder) TestDaemonFails(c *check.C) {
	program, err := exec.LookPath("dockerd")
	c.Assert(err, check.IsNil)
	network := privateNetwork{mode: NetworkNone, bridge: stepNets[0]}
	for _, trial := range []struct {
		daemon  nodeDaemon
		network privateNetwork
		message string
	}{
		{nodeDaemon{program: "/no/such/dockerd"}, network, `engine: start the private builder .*: it ended: .*/no/such/dockerd: not found`},
		{nodeDaemon{program: program, registries: []string{"--no-such-flag"}}, network, `engine: start the private builder .*: it ended: .*`},
		{nodeDaemon{program: program}, privateNetwork{mode: "no-such-network", bridge: stepNets[0]}, `engine: (create|start) the private builder .*no-such-network.*`},
	} {
		p := &Private{node: s.node}
		err := p.start(context.Background(), "arvados-builtin/"+newOwner()+":builder", trial.daemon, trial.network, PrivateOptions{})
		c.Check(err, check.ErrorMatches, trial.message)
		c.Check(fault.SideOf(err), check.Equals, fault.Engine)
		s.stop(c, p)
		c.Check(s.remains(c), check.HasLen, 0)
	}
}

func (s *privateBuilder) TestRefusedOptions(c *check.C) {
	tcp, err := New("tcp://127.0.0.1:1")
	c.Assert(err, check.IsNil)
	nobody, err := New("unix://" + filepath.Join(c.MkDir(), "none.sock"))
	c.Assert(err, check.IsNil)
	for _, trial := range []struct {
		engine  *Engine
		opts    PrivateOptions
		side    fault.Side
		message string
	}{
		{s.node, PrivateOptions{}, fault.Request, `.*"" cannot be the owner.*`},
		{s.node, PrivateOptions{Owner: newOwner(), Network: "host"}, fault.Engine, `.*network host: it must be bridge or none`},
		{tcp, PrivateOptions{Owner: newOwner()}, fault.Engine, `.*build.builder: private needs an engine.host like unix:///var/run/docker.sock\)`},
		{nobody, PrivateOptions{Owner: newOwner()}, fault.Engine, `engine: connect to unix://.*no such file.*is the Docker Engine of the node running.*`},
	} {
		_, err := trial.engine.StartPrivate(context.Background(), trial.opts)
		c.Check(err, check.ErrorMatches, trial.message)
		c.Check(fault.SideOf(err), check.Equals, trial.side)
	}
}

func (s *privateBuilder) TestOutputIsBounded(c *check.C) {
	var out privateOutput
	c.Check(out.lastLine(), check.Equals, "")
	for i := range 10000 {
		fmt.Fprintf(&out, "line %d\n", i)
	}
	c.Check(out.lastLine(), check.Equals, "line 9999")
	c.Check(len(out.text) <= outputSize, check.Equals, true)
}
