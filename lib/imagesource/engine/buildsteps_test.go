// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	cerrdefs "github.com/containerd/errdefs"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	check "gopkg.in/check.v1"
)

// parts tests what needs no engine.
type parts struct {
	lines []string
	steps *steps
}

var _ = check.Suite(&parts{})

func (s *parts) SetUpTest(c *check.C) {
	s.lines = nil
	s.steps = &steps{
		log:      func(line string) { s.lines = append(s.lines, line) },
		activity: func(what string) { s.lines = append(s.lines, "("+what+")") },
		names:    strings.NewReplacer("arvados-builtin/o:base0", "python:3"),
	}
}

func (s *parts) TestSteps(c *check.C) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	end := start.Add(12340 * time.Millisecond)
	vertex := func(id, name string, edit func(*bkclient.Vertex)) *bkclient.SolveStatus {
		v := &bkclient.Vertex{Digest: digest.Digest(id), Name: name}
		edit(v)
		return &bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{v}}
	}
	pending := func(*bkclient.Vertex) {}
	started := func(v *bkclient.Vertex) { v.Started = &start }
	done := func(v *bkclient.Vertex) { v.Started, v.Completed = &start, &end }
	cached := func(v *bkclient.Vertex) { done(v); v.Cached = true }
	failed := func(text string) func(*bkclient.Vertex) {
		return func(v *bkclient.Vertex) { done(v); v.Error = text }
	}
	output := func(id, text string) *bkclient.SolveStatus {
		return &bkclient.SolveStatus{Logs: []*bkclient.VertexLog{{Vertex: digest.Digest(id), Data: []byte(text)}}}
	}
	for _, trial := range []struct {
		status *bkclient.SolveStatus
		lines  []string
	}{
		{vertex("i", "[internal] load build definition", started), []string{"([internal] load build definition)"}},
		{vertex("i", "[internal] load build definition", done), nil},
		{vertex("u", "http://buildkit-session/abc", done), nil},
		{vertex("a", "[1/3] FROM arvados-builtin/o:base0", cached), []string{"#1 [1/3] FROM python:3: cached"}},
		{vertex("a", "[1/3] FROM arvados-builtin/o:base0", cached), nil},
		{vertex("a", "[1/3] FROM arvados-builtin/o:base0", started), nil}, // its layers are needed now
		{vertex("b", "[2/3] RUN make", pending), nil},
		{vertex("b", "[2/3] RUN make", started), []string{"([2/3] RUN make)", "#2 [2/3] RUN make"}},
		{output("b", "cc -o to"), nil},
		{output("b", "ol\n10 %\r20 %\r\nrest\xff"), []string{"#2 cc -o tool", "#2 20 %"}},
		{vertex("b", "[2/3] RUN make", done), []string{"#2 rest\uFFFD", "#2 [2/3] RUN make: 12.3 s"}},
		{&bkclient.SolveStatus{Statuses: []*bkclient.VertexStatus{{ID: "transferring", Current: 5, Total: 20}}}, []string{"(transferring: 25 %)"}},
		{&bkclient.SolveStatus{Warnings: []*bkclient.VertexWarning{{Short: []byte("odd\ncase"), Range: []*pb.Range{{Start: &pb.Position{Line: 4}}}}}}, []string{"warning: line 4: odd case"}},
		{vertex("c", "[3/3] RUN a\n  b", started), []string{"([3/3] RUN a b)", "#3 [3/3] RUN a b"}},
		{vertex("c", "[3/3] RUN a\n  b", failed("context canceled")), []string{"#3 [3/3] RUN a b: given up"}},
		{vertex("d", "[internal] x", failed("boom")), []string{"#4 [internal] x: failed"}},
		{output("d", strings.Repeat("y", maxLine+1)+"\n"), []string{"#4 " + strings.Repeat("y", maxLine), "#4 y"}},
	} {
		s.lines = nil
		s.steps.update(trial.status)
		c.Check(s.lines, check.DeepEquals, trial.lines)
	}
	c.Check(s.steps.failed.name, check.Equals, "[internal] x")
	s.lines = nil
	s.steps.update(output("d", "no line feed"))
	s.steps.flush()
	c.Check(s.lines, check.DeepEquals, []string{"#4 no line feed"})
}

// Whatever a step prints, and however it is cut, all of it becomes lines of
// bounded length.
func FuzzSteps(f *testing.F) {
	f.Add([]byte("a\nb\r\nc"), 2)
	f.Add([]byte("10 %\r20 %\n\n\xff"), 1)
	f.Fuzz(func(t *testing.T, text []byte, at int) {
		var lines []string
		s := &steps{log: func(line string) { lines = append(lines, line) }, activity: func(string) {}, names: strings.NewReplacer()}
		at = max(0, min(at, len(text)))
		for _, part := range [][]byte{text[:at], text[at:]} {
			s.update(&bkclient.SolveStatus{Logs: []*bkclient.VertexLog{{Data: part}}})
		}
		s.flush()
		if wanted := bytes.Count(text, []byte("\n")); len(lines) < wanted {
			t.Errorf("%d lines of %d", len(lines), wanted)
		}
		for _, line := range lines {
			if !strings.HasPrefix(line, "#1 ") || strings.Contains(line, "\n") || len(line) > 3*maxLine+10 {
				t.Errorf("line %.100q", line)
			}
		}
	})
}

// Messages as engines of both kinds wrote them.
func (s *parts) TestBuildFault(c *check.C) {
	eng, err := New("")
	c.Assert(err, check.IsNil)
	defer eng.Close()
	recipe := "FROM arvados-builtin/o:base0\nRUN make \\\n  all\nCOPY x /\nCOPY x /\n"
	for _, trial := range []struct {
		step, message string
		side          fault.Side
		transient     bool
		text          string
	}{
		{"[2/3] RUN make all", `failed to solve: executor failed running [/bin/sh -c make all]: exit code: 2`,
			fault.Build, false, `build: Dockerfile line 2: RUN make all: exit code 2`},
		{"[2/3] RUN make all", `failed to solve: process "/bin/sh -c make all" did not complete successfully: exit code: 137`,
			fault.Build, false, `.*exit code 137 \(the step was killed, most likely because it needed more memory than there was\)`},
		{"[3/3] COPY x /", `failed to compute cache key: "/x" not found: not found`,
			fault.Build, false, `build: Dockerfile: COPY x /: failed to compute cache key: .*`},
		{"", `failed to solve: dockerfile parse error line 2: unknown instruction: ECHO`,
			fault.Build, false, `build: Dockerfile line 2: RUN make: .*unknown instruction: ECHO`},
		{"", `write /x: no space left on device`, fault.Engine, true, `.*the disk of the Docker Engine is full.*`},
		{"[2/3] RUN x", `network bridge not found`, fault.Engine, true, `.*network bridge not found`},
		{"[internal] load metadata for docker.io/library/x:1", `failed to do request: Head "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: no such host`,
			fault.Registry, true, `.*cannot reach the registry.*`},
		{"", `x: failed to resolve source metadata for docker.io/library/x:1: failed to do request: dial tcp: connection refused`,
			fault.Registry, true, `.*cannot reach the registry.*`},
		{"", `failed to create LLB definition: 127.0.0.1:5055/none:1: not found`, fault.Registry, false, `.*check the name.*`},
		{"", `failed to create LLB definition: pull access denied: authorization failed`, fault.Registry, false, `.*credentials in the secret mount.*`},
		{"", `target stage "x" could not be found`, fault.Request, false, `.*--target must name a stage.*`},
		{"", `something nobody has seen with arvados-builtin/o:base0`, fault.Engine, true, `.*nobody has seen with python:3`},
	} {
		b := &build{Engine: eng, req: BuildRequest{Dockerfile: []byte(recipe)}, steps: s.steps}
		s.steps.failed = nil
		if trial.step != "" {
			name, internal := s.steps.stepName(trial.step)
			s.steps.failed = &step{name: name, internal: internal}
		}
		err := b.buildFault(context.Background(), errors.New(trial.message))
		(*conformance)(nil).checkFault(c, err, trial.side, trial.transient, trial.text)
	}
	b := &build{Engine: eng, steps: s.steps}
	err = b.buildFault(context.Background(), status.Error(codes.Unavailable, "error reading from server: EOF"))
	(*conformance)(nil).checkFault(c, err, fault.Engine, true, `.*EOF`)
}

func (s *parts) TestRecognizable(c *check.C) {
	whole := tarOf(map[string]string{"a": "content"})
	for _, content := range [][]byte{whole, nil, []byte("short"), whole[:512]} {
		r, err := recognizable(bytes.NewReader(content))
		c.Assert(err, check.IsNil)
		got, err := io.ReadAll(r)
		c.Check(err, check.IsNil)
		c.Check(bytes.Equal(got, content), check.Equals, true)
	}
	r, err := recognizable(bytes.NewReader(tarOf(nil)))
	c.Assert(err, check.IsNil)
	zr, err := gzip.NewReader(r)
	c.Assert(err, check.IsNil)
	got, err := io.ReadAll(zr)
	c.Check(err, check.IsNil)
	c.Check(bytes.Equal(got, tarOf(nil)), check.Equals, true)
	cause := errors.New("gone")
	_, err = recognizable(io.MultiReader(bytes.NewReader(tarOf(nil)), iotest.ErrReader(cause)))
	c.Check(err, check.Equals, cause)
}

func (s *parts) TestBaseStore(c *check.C) {
	ctx := context.Background()
	img := busyboxImage(c, "label", "linux/amd64")
	layout, err := imagetar.NewLayout(img.image())
	c.Assert(err, check.IsNil)
	opened := 0
	layers := img.image().Layers
	whole := layers[0].Open
	layers[0].Open = func(ctx context.Context) (io.ReadCloser, error) { opened++; return whole(ctx) }
	store := &baseStore{}
	c.Check(store.stores(), check.IsNil)
	store.add("base", layout, layers)
	for _, content := range [][]byte{img.config, img.manifest, img.layer} {
		info, err := store.Info(ctx, toDigest(content))
		c.Assert(err, check.IsNil)
		c.Check(info.Size, check.Equals, int64(len(content)))
		r, err := store.ReaderAt(ctx, ocispec.Descriptor{Digest: toDigest(content)})
		c.Assert(err, check.IsNil)
		c.Check(r.Size(), check.Equals, int64(len(content)))
		got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
		c.Check(err, check.IsNil)
		c.Check(bytes.Equal(got, content), check.Equals, true)
		buf := make([]byte, 10) // back, and forward past the end
		n, err := r.ReadAt(buf, 7)
		c.Check(err, check.IsNil)
		c.Check(string(buf[:n]), check.Equals, string(content[7:17]))
		n, err = r.ReadAt(buf, r.Size()-3)
		c.Check(err, check.Equals, io.EOF)
		c.Check(n, check.Equals, 3)
		_, err = r.ReadAt(buf, r.Size())
		c.Check(err, check.Equals, io.EOF)
		c.Check(r.Close(), check.IsNil)
		c.Check(r.Close(), check.IsNil)
	}
	c.Check(opened, check.Equals, 2)
	_, err = store.Info(ctx, toDigest(nil))
	c.Check(cerrdefs.IsNotFound(err), check.Equals, true)
	_, err = store.ReaderAt(ctx, ocispec.Descriptor{Digest: toDigest(nil)})
	c.Check(cerrdefs.IsNotFound(err), check.Equals, true)
	_, err = store.Writer(ctx)
	c.Check(cerrdefs.IsNotImplemented(err), check.Equals, true)
	c.Check(store.failure(), check.IsNil)

	layers[0].Open = func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("cut")), nil }
	store.add("base", layout, layers)
	r, err := store.ReaderAt(ctx, ocispec.Descriptor{Digest: toDigest(img.layer)})
	c.Assert(err, check.IsNil)
	_, err = r.ReadAt(make([]byte, 10), 0)
	c.Check(err, check.Equals, io.ErrUnexpectedEOF)
	c.Check(store.failure(), check.ErrorMatches, "read a base image: unexpected EOF")
}
