// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/lib/imagesource/enginetest"
	"github.com/docker/docker/api/types/registry"
	"go.uber.org/goleak"
	check "gopkg.in/check.v1"
)

// scripted are tests against a fake engine, of what real ones do only in
// trouble. It runs for both kinds of image stores.
type scripted struct {
	kind   enginetest.Kind
	dir    string
	server *enginetest.Server
	engine *Engine
	ref    imageref.Ref
	lines  []string // of progress
	ignore goleak.Option
}

var (
	_ = check.Suite(&scripted{kind: enginetest.Overlay2})
	_ = check.Suite(&scripted{kind: enginetest.Containerd})
)

var app = enginetest.Image{
	Manifest: "sha256:" + strings.Repeat("a", 64),
	Config:   "sha256:" + strings.Repeat("c", 64),
	Platform: "linux/amd64",
	Save:     bytes.Repeat([]byte("tar "), 10000),
}

const (
	appTag    = "registry.example/team/app:1"
	appDigest = "registry.example/team/app@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	pulling   = "POST /images/create"
)

func (s *scripted) SetUpTest(c *check.C) {
	s.ignore = goleak.IgnoreCurrent()
	var err error
	s.dir, err = os.MkdirTemp("", "") // a socket's path must be short
	c.Assert(err, check.IsNil)
	s.server, err = enginetest.Start(s.dir, s.kind)
	c.Assert(err, check.IsNil)
	s.server.Registry[appTag] = app
	s.engine, err = New(s.server.Host)
	c.Assert(err, check.IsNil)
	s.ref, err = imageref.Parse(appTag)
	c.Assert(err, check.IsNil)
	s.lines = nil
}

func (s *scripted) TearDownTest(c *check.C) {
	s.engine.Close()
	s.server.Die()
	os.RemoveAll(s.dir)
	checkNoLeaks(c, s.ignore)
}

// pull pulls, and reads the saved image.
func (s *scripted) pull(ctx context.Context, req PullRequest) (saved []byte, err error) {
	if req.Ref == (imageref.Ref{}) {
		req.Ref = s.ref
	}
	req.Owner = "zzzzz-dz642-000000000000000"
	req.Progress = func(line string) { s.lines = append(s.lines, line) }
	err = s.engine.Pull(ctx, req, func(ctx context.Context, img PulledImage) error {
		stream, err := img.Open(ctx)
		if err != nil {
			return err
		}
		defer stream.Close()
		saved, err = io.ReadAll(stream)
		return err
	})
	return saved, err
}

func (s *scripted) checkFault(c *check.C, err error, side fault.Side, transient bool, message string) {
	(*conformance)(nil).checkFault(c, err, side, transient, message)
}

func (s *scripted) TestPull(c *check.C) {
	saved, err := s.pull(context.Background(), PullRequest{})
	c.Assert(err, check.IsNil)
	c.Check(saved, check.DeepEquals, app.Save)
	c.Check(s.server.Names(), check.HasLen, 0)
	c.Check(s.lines[1:], check.DeepEquals, []string{
		"1 Pulling from app",
		"4b481de2e3b2 Pulling fs layer",
		"4b481de2e3b2 Downloading, 525 KiB of 20 MiB",
		"4b481de2e3b2 Downloading, 10 MiB of 20 MiB",
		"4b481de2e3b2 Download complete",
		"4b481de2e3b2 Extracting",
		"4b481de2e3b2 Pull complete",
		"Digest: " + app.Manifest,
		"Status: Downloaded newer image for " + appDigest,
	})
}

// Which parameters go with which version of the API.
func (s *scripted) TestRequests(c *check.C) {
	_, err := s.pull(context.Background(), PullRequest{Platform: "linux/amd64", Credentials: []byte(
		`{"auths":{"registry.example":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("anna:pass:word")) + `"}}}`)})
	c.Assert(err, check.IsNil)
	pulls := s.server.Requests(pulling)
	c.Assert(pulls, check.HasLen, 1)
	c.Check(pulls[0].Line, check.Matches, `.*fromImage=registry.example%2Fteam%2Fapp&platform=linux%2Famd64&tag=sha256%3Aaaaa.*`)
	for _, req := range append(pulls, s.server.Requests("GET /distribution/registry.example/team/app:1/json")...) {
		auth, err := registry.DecodeAuthConfig(req.Header.Get("X-Registry-Auth"))
		c.Assert(err, check.IsNil)
		c.Check(*auth, check.Equals, registry.AuthConfig{Username: "anna", Password: "pass:word"})
	}
	saves := s.server.Requests("GET /images/get")
	c.Assert(saves, check.HasLen, 1)
	if s.kind.Containerd {
		c.Check(saves[0].Line, check.Equals, "GET /images/get?names=sha256%3A"+strings.Repeat("a", 64)+"&platform=%7B%22architecture%22%3A%22amd64%22%2C%22os%22%3A%22linux%22%7D")
	} else {
		c.Check(saves[0].Line, check.Equals, "GET /images/get?names=sha256%3A"+strings.Repeat("c", 64))
	}
	for _, removal := range s.server.Requests("DELETE ") {
		c.Check(removal.Line, check.Matches, `DELETE /images/(arvados-builtin|registry.example)/.*\?force=1`)
	}
}

// The stream says what the status did not.
func (s *scripted) TestErrorInStream(c *check.C) {
	done := enginetest.Pulled(appDigest, app.Manifest)
	for _, trial := range []struct {
		what   string
		answer http.HandlerFunc
		side   fault.Side
		trans  bool
		text   string
	}{
		{"error after progress", enginetest.Stream(append(enginetest.Pulling, enginetest.Failure("unknown blob"))...), fault.Registry, false, `.*unknown blob.*`},
		{"error after success", enginetest.Stream(append(done, enginetest.Failure("write /data/tmp: no space left on device"))...), fault.Engine, true, `.*no space left.*the disk of the Docker Engine is full.*`},
		{"the first of two errors", enginetest.Stream(enginetest.Failure("unknown blob"), enginetest.Failure("x509: bad")), fault.Registry, false, `.*unknown blob.*`},
		{"error without detail", enginetest.Stream(`{"error":"unknown blob"}`), fault.Registry, false, `.*unknown blob.*`},
		{"error, then the connection is lost", enginetest.Cut(enginetest.Failure("unknown blob")), fault.Registry, false, `.*unknown blob.*`},
		{"connection lost at once", enginetest.Cut(), fault.Engine, true, `.*closed the connection before it was done.*`},
		{"connection lost after progress", enginetest.Cut(enginetest.Pulling...), fault.Engine, true, `.*closed the connection before it was done.*`},
		{"end without a final status", enginetest.Stream(enginetest.Pulling...), fault.Engine, true, `.*closed the connection before it was done.*`},
		{"empty", enginetest.Stream(), fault.Engine, true, `.*closed the connection before it was done.*`},
		{"no JSON", enginetest.Stream("<html>"), fault.Engine, true, `.*closed the connection before it was done.*`},
	} {
		s.server.On(pulling, trial.answer)
		_, err := s.pull(context.Background(), PullRequest{})
		c.Logf("%s: %v", trial.what, err)
		s.checkFault(c, err, trial.side, trial.trans, trial.text)
		c.Check(s.server.Names(), check.HasLen, 0)
	}
}

func (s *scripted) TestEngineGone(c *check.C) {
	s.server.Die()
	for _, err := range []error{
		func() error { _, err := s.pull(context.Background(), PullRequest{}); return err }(),
		func() error { _, err := s.engine.Ping(context.Background()); return err }(),
		func() error { _, err := s.engine.Load(context.Background(), strings.NewReader("x")); return err }(),
		func() error { _, err := s.engine.RunContainer(context.Background(), ContainerSpec{}); return err }(),
		s.engine.RemoveImage(context.Background(), "x"),
	} {
		s.checkFault(c, err, fault.Engine, true, `engine: .*Cannot connect to the Docker daemon at unix.*\(is the Docker Engine of the node running, and is the site's engine.host right\?\)`)
	}
}

// The engine dies at each request of a pull, and never comes back.
func (s *scripted) TestEngineDiesAtAnyRequest(c *check.C) {
	for n := 0; ; n++ {
		s.server.On(".*", append(make([]http.HandlerFunc, n), func(http.ResponseWriter, *http.Request) { s.server.Die() })...)
		_, err := s.pull(context.Background(), PullRequest{})
		died := len(s.server.Requests(".*")) > n
		switch {
		case err != nil:
			c.Check(died, check.Equals, true)
			s.checkFault(c, err, fault.Engine, true, `engine: .*`)
		case died: // with the image already saved
			c.Check(s.lines[len(s.lines)-1], check.Matches, `could not .* on the engine: .*`)
		default:
			c.Check(n > 8, check.Equals, true)
			return
		}
		s.TearDownTest(c)
		s.SetUpTest(c)
	}
}

// Owners of hundreds of names do not wait for ever.
func (s *scripted) TestNeighbourRemovesAgainAndAgain(c *check.C) {
	var steal []http.HandlerFunc
	for range maxAttempts {
		steal = append(steal, func(w http.ResponseWriter, req *http.Request) {
			s.server.RemoveName(appDigest)
			enginetest.Error(http.StatusNotFound, "No such image")(w, req)
		})
	}
	s.server.On("POST /images/registry.example/team/app@.*/tag", steal...)
	_, err := s.pull(context.Background(), PullRequest{})
	s.checkFault(c, err, fault.Engine, true, `.*others on this node remove the image whenever.*`)
	c.Check(s.server.Requests(pulling), check.HasLen, maxAttempts)
	c.Check(s.server.Names(), check.HasLen, 0)
}

// An engine may finish a pull although it was cancelled.
func (s *scripted) TestPullSucceedsAfterCancel(c *check.C) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.server.On(pulling, enginetest.Then(enginetest.Stream(enginetest.Pulling...), func(req *http.Request) {
		cancel()
		<-req.Context().Done()
		s.server.On("GET /images/registry.example/team/app@.*/json", nil, nil, func(w http.ResponseWriter, req *http.Request) {
			s.server.SetName(appDigest, app)
			s.server.ServeHTTP(w, req)
		})
	}))
	_, err := s.pull(ctx, PullRequest{})
	c.Check(errors.Is(err, context.Canceled), check.Equals, true, check.Commentf("%v", err))
	c.Check(s.server.Names(), check.HasLen, 0)
}

// A neighbour pulls by tag while our pull is cancelled. The name with the digest
// seems to be there then; removing it would take the neighbour's tag along.
func (s *scripted) TestNeighbourPullsWhileWeAreCancelled(c *check.C) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.server.On(pulling, enginetest.Then(enginetest.Stream(enginetest.Pulling...), func(req *http.Request) {
		s.server.SetName(appTag, app)
		s.server.SetName(appDigest, app)
		cancel()
		<-req.Context().Done() // else the end of the answer may come first
	}))
	_, err := s.pull(ctx, PullRequest{})
	c.Check(errors.Is(err, context.Canceled), check.Equals, true)
	c.Check(s.server.Names(), check.DeepEquals, []string{appTag, appDigest})
}

func (s *scripted) TestSaveIsCut(c *check.C) {
	for _, trial := range []struct {
		what   string
		answer http.HandlerFunc
		text   string
	}{
		{"connection lost", enginetest.Cut(strings.Repeat("tar ", 5000)), `.*closed the connection before it was done.*`},
		{"error appended", enginetest.Stream(strings.Repeat("tar ", 5000) + enginetest.Failure("read layer: input/output error")), `engine: save image sha256:.*: read layer: input/output error`},
		{"refused", enginetest.Error(http.StatusInternalServerError, "stat: input/output error"), `engine: save image sha256:.*stat: input/output error`},
	} {
		s.server.On("GET /images/get", trial.answer)
		_, err := s.pull(context.Background(), PullRequest{})
		s.checkFault(c, err, fault.Engine, trial.what != "error appended", trial.text)
		c.Check(s.server.Names(), check.HasLen, 0)
	}
}

// What cannot be cleaned up is said, and is no failure of the pull.
func (s *scripted) TestCleanupFails(c *check.C) {
	s.server.On("DELETE ", enginetest.Error(http.StatusInternalServerError, "disk on fire"), enginetest.Error(http.StatusInternalServerError, "disk on fire"))
	saved, err := s.pull(context.Background(), PullRequest{})
	c.Assert(err, check.IsNil)
	c.Check(saved, check.DeepEquals, app.Save)
	c.Check(s.lines[len(s.lines)-2:], check.DeepEquals, []string{
		"could not remove the name " + appDigest + " on the engine: Error response from daemon: disk on fire",
		"could not remove the name arvados-builtin/zzzzz-dz642-000000000000000:pull on the engine: Error response from daemon: disk on fire",
	})
}

func (s *scripted) TestLoad(c *check.C) {
	s.server.SetName("known:1", app)
	id := app.Config
	if s.kind.Containerd {
		id = app.Manifest
	}
	for _, trial := range []struct {
		what   string
		answer http.HandlerFunc
		id     string
		text   string
	}{
		{"id", enginetest.Stream(`{"stream":"Loaded image ID: ` + id + `\n"}`), id, ""},
		{"name", enginetest.Stream(`{"stream":"Loaded image: known:1\n"}`), id, ""},
		{"name and id of one image", enginetest.Stream(`{"stream":"Loaded image: known:1\nLoaded image ID: ` + id + `\n"}`), id, ""},
		{"an image that is not there", enginetest.Stream(`{"stream":"Loaded image: unknown:1\n"}`), "", `.*the archive has 0 images`},
		{"nothing", enginetest.Stream(), "", `.*the archive has 0 images`},
		{"error after success", enginetest.Stream(`{"stream":"Loaded image: unknown:1\n"}`, enginetest.Failure("invalid diffID")), "", `.*invalid diffID`},
		{"connection lost", enginetest.Cut(`{"stream":"Loading"}`), "", `.*closed the connection before it was done.*`},
		{"refused", enginetest.Error(http.StatusInternalServerError, "no"), "", `.*no`},
	} {
		s.server.On("POST /images/load\\?quiet=1", trial.answer)
		got, err := s.engine.Load(context.Background(), strings.NewReader("archive"))
		comment := check.Commentf("%s: %v", trial.what, err)
		c.Check(got, check.Equals, trial.id, comment)
		if trial.text == "" {
			c.Check(err, check.IsNil, comment)
		} else {
			c.Check(err, check.ErrorMatches, `engine: load image `+s.server.Host+`: `+trial.text, comment)
		}
	}
	for _, req := range s.server.Requests("POST /images/load") {
		c.Check(req.Header.Get("Content-Type"), check.Equals, "application/x-tar")
	}
	c.Check(s.server.Names(), check.DeepEquals, []string{"known:1"})
}

// The containerd store reports an image as loaded that it could not unpack, and
// keeps it.
func (s *scripted) TestLoadFalseSuccess(c *check.C) {
	s.server.On("POST /images/load", func(w http.ResponseWriter, req *http.Request) {
		s.server.SetName("moby-dangling@"+app.Manifest, app)
		id := app.Config
		if s.kind.Containerd {
			id = app.Manifest
		}
		enginetest.Stream(`{"stream":"Loaded image ID: `+id+`\n"}`, `{"stream":"Error unpacking image `+id+`: apply layer error: not found\n"}`)(w, req)
	})
	_, err := s.engine.Load(context.Background(), strings.NewReader("archive"))
	s.checkFault(c, err, fault.Engine, false, `.*Error unpacking image sha256:.*not found`)
	c.Check(s.server.Names(), check.HasLen, 0)
}

func (s *scripted) TestNewRefusesHost(c *check.C) {
	for _, host := range []string{"/var/run/docker.sock", "nonsense", "://"} {
		_, err := New(host)
		s.checkFault(c, err, fault.Engine, false, `engine: use the Docker Engine at .*engine.host must look like unix:///var/run/docker.sock\)`)
	}
}

func (s *scripted) TestHostOfTheEnvironmentIsIgnored(c *check.C) {
	for name, value := range map[string]string{"DOCKER_HOST": "tcp://127.0.0.1:1", "DOCKER_API_VERSION": "1.12"} {
		old, had := os.LookupEnv(name)
		os.Setenv(name, value)
		defer func() {
			if os.Unsetenv(name); had {
				os.Setenv(name, old)
			}
		}()
	}
	eng, err := New("")
	c.Assert(err, check.IsNil)
	c.Check(eng.cli.DaemonHost(), check.Equals, DefaultHost)
	_, err = s.engine.Ping(context.Background())
	c.Assert(err, check.IsNil)
	c.Check(s.server.Requests("GET /info"), check.HasLen, 1)
	c.Check(fmt.Sprint(s.engine.cli.ClientVersion()), check.Not(check.Equals), "1.12")
}
