// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

// hungEngine is a Docker Engine that says who it is and then nothing more: each
// other request waits for ever, from the one on that has hangsAt in its path.
// Until then the engine has no image. hung is closed when it comes to that.
func hungEngine(c *check.C, hangsAt string) (host string, hung <-chan struct{}, end func()) {
	socket := filepath.Join(c.MkDir(), "docker.sock")
	listener, err := net.Listen("unix", socket)
	c.Assert(err, check.IsNil)
	began := make(chan struct{})
	var once sync.Once
	hanging := func() bool {
		select {
		case <-began:
			return true
		default:
			return false
		}
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(r.URL.Path, hangsAt) {
			once.Do(func() { close(began) })
		}
		switch path := r.URL.Path; {
		case hanging():
			<-r.Context().Done()
		case strings.HasSuffix(path, "/version"):
			fmt.Fprint(w, `{"ApiVersion": "1.41", "Version": "20.10.24", "Os": "linux", "Arch": "amd64"}`)
		case strings.HasSuffix(path, "/info"):
			fmt.Fprint(w, `{"Driver": "overlay2"}`)
		case strings.HasSuffix(path, "/images/json"):
			fmt.Fprint(w, `[]`)
		case !strings.HasSuffix(path, "/_ping"):
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"message": "no such image"}`)
		}
	})}
	go server.Serve(listener)
	return "unix://" + socket, began, func() { server.Close() }
}

// hungHook is an engine that is gone, on a node whose site's hook for that does not
// end. The results are those of hungEngine.
func (s *lifeSuite) hungHook(c *check.C) (host string, hung <-chan struct{}, end func()) {
	began, release := make(chan struct{}), make(chan struct{})
	s.hook = func() {
		close(began)
		<-release
	}
	return "unix://" + c.MkDir() + "/none", began, sync.OnceFunc(func() { close(release) })
}

// Seconds. crunch-run goes when its grace is over, be the work done or not; it would
// take tooLong and more if it waited for the work, which gives an engine half a
// minute for each thing that it has to take back.
const (
	grace   = 8
	tooLong = 25
)

// unfinished is the line of a log on work that an engine does not let go.
const unfinished = `[^\n]*Z warning: the work is not done 5s later; what it has made on the node's Docker Engine may stay there\n`

// hungEngineEdges are ends of containers whose work waits for what hangs.
var hungEngineEdges = []struct {
	what       string
	hangsAt    string   // for hungEngine; "" for hungHook
	command    []string // NAME stands for an image
	changes    attrs
	problem    string // runtime_status.error if it ends without a signal; a regular expression
	unfinished string // line of the log
}{
	{what: "a build, on an engine that only says who it is, and a signal", hangsAt: "/grpc", command: []string{"docker", "build"}, changes: attrs{
		"mounts": attrs{"/out": attrs{"kind": "tmp"}, "/Dockerfile": attrs{"kind": "text", "content": "FROM scratch\nCOPY Dockerfile /\n"}}}},
	{what: "a pull, by an engine that hangs in it, and a signal", hangsAt: "/images/create", command: []string{"docker", "pull", "NAME"},
		unfinished: unfinished},
	{what: "a pull, by an engine that hangs in it, and max_run_time has passed", hangsAt: "/images/create", command: []string{"docker", "pull", "NAME"},
		changes: attrs{"scheduling_parameters": attrs{"max_run_time": 10}}, problem: `request: .*max_run_time: maximum run time exceeded [^\n]*`,
		unfinished: unfinished},
	{what: "the engine is gone, the site's hook for that hangs, and a signal", command: []string{"docker", "pull", "NAME"}, unfinished: unfinished},
}

// A signal or the time limit while the node's engine, or the hook of its site, does not
// answer: the container ends as if it did. After a signal, crunch-run goes with what it could not take back;
// else it goes on trying, here until the engine has gone.
func (s *lifeSuite) TestEdgesOfAHungEngine(c *check.C) {
	s.atOnce(c, len(hungEngineEdges), func(i int, s *lifeSuite) {
		t := hungEngineEdges[i]
		s.site.Pull.Source = "engine"
		host, hung, end := s.hungHook(c)
		if t.hangsAt != "" {
			host, hung, end = hungEngine(c, t.hangsAt)
		}
		defer end()
		s.site.Engine.Host = host
		var command []string
		for _, word := range t.command {
			command = append(command, strings.Replace(word, "NAME", s.registry.Host()+"/app:1", 1))
		}
		cr := s.submit(c, command, t.changes)
		ctx, stop := context.WithCancelCause(context.Background())
		defer stop(nil)
		r := s.begin(ctx, c, cr, s.site)
		at := r.untilClosed(c, t.what, hung)
		if t.problem == "" {
			stop(errors.New("caught signal: terminated"))
		} else {
			r.until(c, "the container ends", func() bool { return s.state(c, cr) != arvados.ContainerStateRunning })
			end()
		}
		e := r.end(c)
		took := e.at.Sub(at).Seconds()
		c.Logf("%s: after %.1f s, %v", t.what, took, e)
		about := check.Commentf(t.what)
		s.checkNothingCame(c, e, arvados.ContainerStateCancelled, "", about)
		c.Check(e.problem, check.Matches, t.problem, about)
		cause := t.problem
		if cause == "" {
			cause = "caught signal: terminated"
		}
		c.Check(e.logs["crunch-run.txt"], check.Matches, `(?s).*Z stopping container: `+cause+`\n`+t.unfinished+`[^\n]*Z Cancelled\n`, about)
		c.Check(took < tooLong, check.Equals, true, about)
		c.Check(len(s.broken) > 0, check.Equals, t.hangsAt == "", about)
	})
}

// gate is a way to the Docker Engine that can be shut, so that it seems to hang.
type gate struct {
	sync.RWMutex // locked while it is shut
	listener     net.Listener
}

func newGate(c *check.C) *gate {
	listener, err := net.Listen("unix", filepath.Join(c.MkDir(), "docker.sock"))
	c.Assert(err, check.IsNil)
	g := &gate{listener: listener}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go g.pass(conn.(*net.UnixConn))
		}
	}()
	return g
}

func (g *gate) host() string { return "unix://" + g.listener.Addr().String() }

// pass connects a client with the engine.
func (g *gate) pass(client *net.UnixConn) {
	defer client.Close()
	conn, err := net.Dial("unix", strings.TrimPrefix(builtin.DefaultEngine, "unix://"))
	if err != nil {
		return
	}
	engine := conn.(*net.UnixConn)
	defer engine.Close()
	var both sync.WaitGroup
	copyAll := func(dst, src *net.UnixConn) {
		_, err := io.Copy(gated{g, dst}, src)
		g.RLock()
		defer g.RUnlock()
		dst.CloseWrite()
		if err != nil { // who was to read it is gone
			src.Close()
		}
	}
	both.Go(func() { copyAll(engine, client) })
	both.Go(func() { copyAll(client, engine) })
	both.Wait()
}

// gated writes while the gate is open.
type gated struct {
	gate *gate
	w    io.Writer
}

func (w gated) Write(p []byte) (int, error) {
	w.gate.RLock()
	defer w.gate.RUnlock()
	return w.w.Write(p)
}

// An engine that hangs when the signal comes, in the middle of a step, and answers
// again when the container is Cancelled, is left as clean as ever.
func (s *buildSuite) TestEdgeOfAnEngineThatAnswersLate(c *check.C) {
	g := newGate(c)
	defer g.listener.Close()
	s.setEngine(c, g.host(), "builder: engine")
	step := newSleep(c)
	r, stop := s.beginStep(c, step)
	defer stop(nil)
	r.until(c, "the step runs", step.runs)
	g.Lock()
	open := sync.OnceFunc(g.Unlock)
	defer open()
	at := time.Now()
	stop(errors.New("caught signal: terminated"))
	r.until(c, "the container is Cancelled", func() bool { return s.state(c, r.cr) == arvados.ContainerStateCancelled })
	open()
	e := r.end(c)
	took := e.at.Sub(at).Seconds()
	clean := !step.runs()
	c.Logf("a build, on an engine that hangs in a step until the end, and a signal: after %.1f s, %v", took, e)
	s.checkNothingCame(c, e, arvados.ContainerStateCancelled, "", check.Commentf("%v", e))
	c.Check(took < tooLong, check.Equals, true)
	c.Check(clean || took >= grace, check.Equals, true) // it does not go before, while there is time
	c.Check(e.logs["crunch-run.txt"], check.Matches, `(?s).*Z warning: the work is not done 5s later.*`)
	s.checkGone(c, e, step)
}

// state is that of a request's container.
func (s *stage) state(c *check.C, cr arvados.ContainerRequest) arvados.ContainerState {
	var ctr arvados.Container
	c.Check(s.root.RequestAndDecode(&ctr, "GET", "arvados/v1/containers/"+cr.ContainerUUID, nil, nil), check.IsNil)
	return ctr.State
}
