// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"git.arvados.org/arvados.git/lib/imagesource/engine"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"gopkg.in/check.v1"
)

// secondEngine has the other image store; see build/need-second-engine.
const secondEngine = "unix:///run/arvados-engine2/docker.sock"

func init() {
	for _, host := range []string{engine.DefaultHost, secondEngine} {
		check.Suite(&pushSuite{host: host})
	}
}

// pushSuite is about images of a real engine.
type pushSuite struct {
	fixture
	host string
}

// ask is a request to the engine, in its own words: the docker program at hand
// may be too old for it.
func (s *pushSuite) ask(c *check.C, method, path string, body io.Reader) []byte {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(s.host, "unix://"))
		},
	}}
	req, err := http.NewRequest(method, "http://engine"+path, body)
	c.Assert(err, check.IsNil)
	req.Header.Set("Content-Type", "application/x-tar")
	resp, err := client.Do(req)
	c.Assert(err, check.IsNil)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	c.Assert(err, check.IsNil)
	c.Assert(resp.StatusCode, check.Equals, http.StatusOK, check.Commentf("%s", answer))
	return answer
}

// bring makes the engine have an image under a name, and returns what takes it
// away again.
func (s *pushSuite) bring(c *check.C, name string, img imagetar.Image) func() {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	add := func(name string, content []byte) string {
		c.Assert(w.WriteHeader(&tar.Header{Name: name, Mode: 0644, Size: int64(len(content))}), check.IsNil)
		_, err := w.Write(content)
		c.Assert(err, check.IsNil)
		return name
	}
	var layers []string
	for i, layer := range img.Layers {
		r, err := layer.Open(s.ctx)
		c.Assert(err, check.IsNil)
		content, err := io.ReadAll(r)
		c.Assert(err, check.IsNil)
		r.Close()
		layers = append(layers, add(fmt.Sprintf("%d/layer.tar", i), content))
	}
	manifest, err := json.Marshal([]any{map[string]any{
		"Config": add("config.json", img.Config), "RepoTags": []string{name}, "Layers": layers,
	}})
	c.Assert(err, check.IsNil)
	add("manifest.json", manifest)
	c.Assert(w.Close(), check.IsNil)
	c.Assert(string(s.ask(c, http.MethodPost, "/images/load", &archive)), check.Matches, `(?s).*Loaded image.*`)
	return func() { s.ask(c, http.MethodDelete, "/images/"+name+"?force=1", nil) }
}

// An image comes with the name that it was asked for by, and is the same that
// docker save and load bring.
func (s *pushSuite) TestPush(c *check.C) {
	const name = "arv-docker-test/push:1"
	img := randomimage.New(71, 5*mib, 4096)
	defer s.bring(c, name, img)()

	r := s.result(c, "push", "--engine", s.host, "--links=always", name)
	c.Check(r.Existed, check.Equals, false)
	c.Check(r.Image, check.Equals, digestOf(img.Config)) // whatever the engine calls it
	c.Check(r.Names, check.DeepEquals, []string{name})
	c.Check(s.links(c, r.Collection), check.DeepEquals, []string{"docker_image_hash " + r.Image, "docker_image_repo+tag " + name})
	c.Check(r.Properties["arv:docker-image-pdh"], check.Equals, r.PortableDataHash)
	c.Check(s.run(c, "verify", name).out, check.Matches, `(?s).*: OK, .* 2 layers, .*`)
	s.asked()

	saved := s.ask(c, http.MethodGet, "/images/get?names="+name, nil)
	a := s.callWith(c, call{stdin: bytes.NewReader(saved)}, "load", "-q", "-")
	c.Check(a.code, check.Equals, 0, check.Commentf("%s", a.err))
	c.Check(a.out, check.Equals, r.PortableDataHash+"\n")

	// By its id, with a name of its own.
	var known struct{ ID string }
	c.Assert(json.Unmarshal(s.ask(c, http.MethodGet, "/images/"+name+"/json", nil), &known), check.IsNil)
	again := s.result(c, "push", "--engine", s.host, known.ID, "docker.io/library/other")
	c.Check(again.Existed, check.Equals, true)
	c.Check(again.PortableDataHash, check.Equals, r.PortableDataHash)
	c.Check(again.Names, check.DeepEquals, []string{name, "other:latest"})
	for _, request := range s.asked() {
		c.Check(strings.Contains(request, "container"), check.Equals, false, check.Commentf("%s", request))
	}
}

// By its id alone an image gets no name.
func (s *pushSuite) TestNoName(c *check.C) {
	const name = "arv-docker-test/noname:1"
	defer s.bring(c, name, randomimage.New(72, 4096))()
	var known struct{ ID string }
	c.Assert(json.Unmarshal(s.ask(c, http.MethodGet, "/images/"+name+"/json", nil), &known), check.IsNil)
	os.Setenv("DOCKER_HOST", s.host)
	defer os.Unsetenv("DOCKER_HOST")
	r := s.result(c, "push", strings.TrimPrefix(known.ID, "sha256:")[:20])
	c.Check(r.Names, check.DeepEquals, []string{})
	c.Check(s.run(c, "push", "-q", known.ID).out, check.Equals, r.PortableDataHash+"\n")
}

// What is wrong is said in words, and what to do instead.
func (s *pushSuite) TestRefusals(c *check.C) {
	dir := c.MkDir()
	dead := filepath.Join(dir, "dead.sock")
	listener, err := net.Listen("unix", dead)
	c.Assert(err, check.IsNil)
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	listener.Close()
	for _, trial := range []struct{ args, want string }{
		{"--engine|" + s.host + "|no/such:image", `arv-docker: request: check IMAGE: the Docker Engine at ` + s.host + ` has no image "no/such:image" \(docker images lists .*\)\n`},
		{"--engine|unix://" + dir + "/none|x", `arv-docker: engine: find a Docker Engine at unix://.*/none: .* \(start it, or name it by --engine or DOCKER_HOST; without one: pull and build need none, .*\)\n`},
		{"--engine|unix://" + dead + "|x", `arv-docker: engine: find a Docker Engine at unix://.*/dead\.sock: .*pull and build need none.*\n`},
		{"--engine|tcp://127.0.0.1:1|x", `arv-docker: engine: find a Docker Engine at tcp://127\.0\.0\.1:1: .*pull and build need none.*\n`},
		{"--engine|ssh://me@elsewhere|x", `arv-docker: request: check engine: "ssh://me@elsewhere" starts with none of unix://, .*docker save IMAGE \| arv-docker load -\)\n`},
		{"--engine|" + s.host + "|x|NAME", `arv-docker: .*lower case.*\n`},
		{"--engine|" + s.host + "|--links|perhaps|x", `arv-docker: .*check --links.*\n`},
		{"--engine|" + s.host + "|x|y|z", `arv-docker: accepts between 1 and 2 arg.*\n`},
	} {
		a := s.callWith(c, call{}, append([]string{"push"}, strings.Split(trial.args, "|")...)...)
		c.Check(a.code, check.Equals, 1)
		c.Check(a.out, check.Equals, "")
		c.Check(a.err, check.Matches, trial.want, check.Commentf("%s", trial.args))
	}
}

// TLS is named before the connection fails for the lack of it.
func (s *pushSuite) TestTLS(c *check.C) {
	os.Setenv("DOCKER_TLS_VERIFY", "1")
	defer os.Unsetenv("DOCKER_TLS_VERIFY")
	a := s.callWith(c, call{}, "push", "--engine", "tcp://127.0.0.1:2376", "x")
	c.Check(a.err, check.Matches, `arv-docker: request: check DOCKER_TLS_VERIFY: engines with TLS cannot be reached from here .*\n`)
}
