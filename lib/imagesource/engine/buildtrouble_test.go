// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing/iotest"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"github.com/docker/docker/api/types/image"
	"golang.org/x/sync/errgroup"
	check "gopkg.in/check.v1"
)

func (s *building) checkFault(c *check.C, err error, side fault.Side, transient bool, message string) {
	(*conformance)(nil).checkFault(c, err, side, transient, message)
}

// A context that cannot be read is never built from, wherever it ends.
func (s *building) TestContextFails(c *check.C) {
	whole := tarOf(map[string]string{"a": "content"})
	keep := &fault.Error{Op: "read block", Side: fault.Keep, Err: errors.New("503"), Transient: true}
	for _, cause := range []error{keep, errors.New("no side")} {
		for _, n := range []int{0, 100, 512, 1024, len(whole)} {
			req := s.request(c, "FROM BASE\nCOPY . /\n", nil)
			closed := 0
			req.Context = func(context.Context) io.ReadCloser {
				return closer{io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(cause)), func() { closed++ }}
			}
			_, err := s.build(context.Background(), req)
			c.Check(errors.Is(err, cause), check.Equals, true, check.Commentf("%d bytes: %v", n, err))
			c.Check(fault.SideOf(err), check.Equals, fault.SideOf(cause))
			c.Check(closed, check.Equals, 1)
		}
	}
}

type closer struct {
	io.Reader
	close func()
}

func (r closer) Close() error {
	r.close()
	return nil
}

// A base that cannot be read is the trouble of Keep, not of the engine.
func (s *building) TestBaseFails(c *check.C) {
	cause := &fault.Error{Op: "read block", Side: fault.Keep, Err: errors.New("503"), Transient: true}
	req := s.request(c, "FROM BASE\nRUN true\n", nil)
	req.Bases[0].Image.Layers[0].Open = func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(s.base.layer[:1000]), iotest.ErrReader(cause))), nil
	}
	_, err := s.build(context.Background(), req)
	c.Check(errors.Is(err, cause), check.Equals, true, check.Commentf("%v", err))
}

func (s *building) TestWrongRequests(c *check.C) {
	for _, trial := range []struct {
		edit    func(*BuildRequest)
		message string
	}{
		{func(r *BuildRequest) { r.Owner = "../x" }, `request: build ../x: "../x" cannot be the owner of a build`},
		{func(r *BuildRequest) { r.Bases[0].Name = "busybox:latest" }, `request: build busybox:latest: the base must be called arvados-builtin/.*:base0`},
		{func(r *BuildRequest) { r.Bases[0].Image.Config = []byte("{}") }, `request: read image config.*`},
		{func(r *BuildRequest) { r.Target = "nope" }, `request: build .*--target must name a stage.*`},
	} {
		req := s.request(c, "FROM BASE\n", nil)
		trial.edit(&req)
		_, err := s.build(context.Background(), req)
		s.checkFault(c, err, fault.Request, false, trial.message)
	}
}

// What the recipe does wrong is told with its line.
func (s *building) TestRecipeFails(c *check.C) {
	for _, trial := range []struct {
		dockerfile string
		line       int
		message    string
	}{
		{"FROM BASE\nRUN exit 3\n", 2, `build: Dockerfile line 2: RUN exit 3: exit code 3`},
		{"FROM BASE\nRUN true\nCOPY nope /\n", 3, `build: Dockerfile line 3: COPY nope /: .*not found`},
		{"FROM BASE\nNONSENSE x\n", 2, `build: Dockerfile line 2: NONSENSE x: .*unknown instruction.*`},
		{"FROM BASE\nRUN [\"nope\"]\n", 2, `build: Dockerfile line 2: RUN \["nope"\]: .*`},
		{"FROM BASE AS one\nRUN true\nFROM BASE\nCOPY --from=one /nope /\n", 4, `build: Dockerfile line 4: COPY --from=one /nope /: .*not found`},
	} {
		_, err := s.build(context.Background(), s.request(c, trial.dockerfile, map[string]string{"a": ""}))
		s.checkFault(c, err, fault.Build, false, trial.message)
		var failed *BuildError
		c.Assert(errors.As(err, &failed), check.Equals, true)
		c.Check(failed.Line, check.Equals, trial.line)
	}
}

// Nobody listens at the registry's address, on either engine's loopback.
func (s *building) TestRegistryCannotBeReached(c *check.C) {
	_, err := s.build(context.Background(), s.request(c, "FROM 127.0.0.1:1/none:1\n", nil))
	c.Logf("%v", err)
	s.checkFault(c, err, fault.Registry, true, `.*cannot reach the registry.*`)
}

func (s *building) TestUse(c *check.C) {
	ctx := context.Background()
	req := func() BuildRequest { return s.request(c, "FROM BASE\nRUN true\n", nil) }
	wanted := errors.New("Keep is full")
	c.Check(s.engine.Build(ctx, req(), func(context.Context, BuiltImage) error { return wanted }), check.Equals, wanted)
	c.Check(s.engine.Build(ctx, req(), func(context.Context, BuiltImage) error { return nil }), check.IsNil)
	c.Check(func() { s.engine.Build(ctx, req(), func(context.Context, BuiltImage) error { panic("bug") }) }, check.Panics, "bug")
	var archive io.ReadCloser
	err := s.engine.Build(ctx, req(), func(ctx context.Context, img BuiltImage) (err error) {
		archive, err = img.Open(ctx)
		return err
	})
	c.Assert(err, check.IsNil)
	_, err = io.Copy(io.Discard, archive)
	c.Check(err, check.NotNil)
	archive.Close()
}

// A build that is cancelled is gone from the engine soon, at whatever stage.
func (s *building) TestCancel(c *check.C) {
	for _, at := range []string{"context", "base", "step", "use"} {
		ctx, stop := context.WithCancel(context.Background())
		cancelled := make(chan time.Time, 1)
		cancel := sync.OnceFunc(func() {
			cancelled <- time.Now()
			stop()
		})
		req := s.request(c, "FROM BASE\nCOPY a /\nRUN echo begun; sleep 1234\n", map[string]string{"a": ""})
		req.Context = func(ctx context.Context) io.ReadCloser {
			if at == "context" {
				cancel()
				return io.NopCloser(readerFunc(func([]byte) (int, error) { <-ctx.Done(); return 0, ctx.Err() }))
			}
			return stream(tarOf(map[string]string{"a": ""}))(ctx)
		}
		whole := req.Bases[0].Image.Layers[0].Open
		req.Bases[0].Image.Layers[0].Open = func(ctx context.Context) (io.ReadCloser, error) {
			if at == "base" {
				cancel()
			}
			return whole(ctx)
		}
		req.Log = func(line string) {
			if strings.HasSuffix(line, " begun") {
				cancel()
			}
		}
		if at == "use" {
			req.Dockerfile = bytes.Replace(req.Dockerfile, []byte("sleep 1234"), nil, 1)
			req.Log = nil
		}
		err := s.engine.Build(ctx, req, func(ctx context.Context, img BuiltImage) error {
			archive, err := img.Open(ctx)
			c.Assert(err, check.IsNil)
			defer archive.Close()
			cancel()
			for err == nil {
				_, err = archive.Read(make([]byte, 100))
			}
			return err
		})
		c.Check(errors.Is(err, context.Canceled), check.Equals, true, check.Commentf("%s: %v", at, err))
		c.Check(fault.Transient(err), check.Equals, true)
		cancel() // in case nothing did
		took := time.Since(<-cancelled)
		c.Check(took < 10*time.Second, check.Equals, true, check.Commentf("%s: %v", at, took))
	}
}

func (s *building) TestNothingAnswers(c *check.C) {
	nobody, err := New("unix:///nonexistent/docker.sock")
	c.Assert(err, check.IsNil)
	err = nobody.Build(context.Background(), s.request(c, "FROM BASE\n", nil), nil)
	s.checkFault(c, err, fault.Engine, true, `.*is the Docker Engine of the node running.*`)
	_, err = nobody.LimitsWork(context.Background())
	s.checkFault(c, err, fault.Engine, true, `.*`)
}

// Builds at the same time, of the same recipe, do not disturb each other.
func (s *building) TestNeighbours(c *check.C) {
	var group errgroup.Group
	for range 4 {
		req := s.request(c, "FROM BASE\nCOPY a /\nRUN sleep 1; cat /a > /b\n", map[string]string{"a": "A"})
		group.Go(func() error {
			result, err := s.build(context.Background(), req)
			if err == nil && result.files["b"] != "A" {
				err = fmt.Errorf("b is %q", result.files["b"])
			}
			return err
		})
	}
	c.Check(group.Wait(), check.IsNil)
}

// An image that somebody has loaded without a name survives that we use it.
func (s *building) TestBaseWasThere(c *check.C) {
	ctx := context.Background()
	id, err := s.engine.Load(ctx, bytes.NewReader(s.base.archive(c)))
	c.Assert(err, check.IsNil)
	req := s.request(c, "FROM BASE\nRUN true\n", nil)
	req.Bases[0].Image.Layers[0].Open = func(context.Context) (io.ReadCloser, error) {
		return nil, errors.New("the engine has it, so nobody needs to read it")
	}
	_, err = s.build(ctx, req)
	c.Assert(err, check.IsNil)
	c.Check(s.engine.ImageExists(ctx, id), check.Equals, true)
	_, err = s.engine.cli.ImageRemove(ctx, id, image.RemoveOptions{Force: true})
	c.Check(err, check.IsNil)
}

var _ imagetar.BlobSink = fileSink{}
