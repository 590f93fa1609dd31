// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"git.arvados.org/arvados.git/services/localcluster"
	"github.com/sirupsen/logrus"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var _ = check.Suite(&suite{})

// suite runs the program as others do, with an environment.
type suite struct {
	program string
	cluster *localcluster.Cluster
	env     []string
}

func (s *suite) SetUpSuite(c *check.C) {
	dir := c.MkDir()
	s.program = filepath.Join(dir, "arv-keepdocker")
	out, err := exec.Command("go", "build", "-o", s.program, ".").CombinedOutput()
	c.Assert(err, check.IsNil, check.Commentf("%s", out))
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	s.cluster, err = localcluster.Start(context.Background(), localcluster.Options{Dir: filepath.Join(dir, "data"), Log: quiet})
	c.Assert(err, check.IsNil)
	s.env = []string{"HOME=" + dir, "ARVADOS_API_HOST=" + s.cluster.APIAddress, "ARVADOS_API_HOST_INSECURE=1",
		"ARVADOS_API_TOKEN=" + s.cluster.Tokens[localcluster.User]}
}

func (s *suite) TearDownSuite(c *check.C) { c.Check(s.cluster.Stop(), check.IsNil) }

func (s *suite) run(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	cmd := exec.Command(s.program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = s.env, &out, &err
	_ = cmd.Run() // its exit code tells
	return cmd.ProcessState.ExitCode(), out.String(), err.String()
}

func (s *suite) TestExitCodes(c *check.C) {
	code, out, _ := s.run()
	c.Check(code, check.Equals, 0)
	c.Check(out, check.Matches, "REPOSITORY .*\n")
	code, out, _ = s.run("--bogus")
	c.Check(code, check.Equals, 2)
	c.Check(out, check.Equals, "")
	s.env = append(s.env, "DOCKER_HOST=unix:///nonexistent/docker.sock", "DOCKER_CONFIG=/nonexistent")
	code, out, stderr := s.run("--pull", "alpine")
	c.Check(code, check.Equals, 1)
	c.Check(out, check.Equals, "")
	c.Check(stderr, check.Matches, `arv-keepdocker: engine: .*/nonexistent/docker\.sock.*\n`)
}

// Whoever reads the list stops before its end: that is no failure, and no message.
func (s *suite) TestReaderStops(c *check.C) {
	client := s.cluster.UserClient(localcluster.User)
	for i := range 50 {
		c.Assert(client.RequestAndDecode(nil, "POST", "arvados/v1/collections", nil, map[string]interface{}{
			"collection": map[string]interface{}{"properties": map[string]interface{}{"docker-image-repo-tag": fmt.Sprintf("many/%s:%d", strings.Repeat("x", 100), i)}},
		}), check.IsNil)
	}
	r, w, err := os.Pipe()
	c.Assert(err, check.IsNil)
	c.Assert(r.Close(), check.IsNil)
	var stderr bytes.Buffer
	cmd := exec.Command(s.program, "images")
	cmd.Env, cmd.Stdout, cmd.Stderr = s.env, w, &stderr
	err = cmd.Run()
	w.Close()
	c.Check(err, check.IsNil)
	c.Check(stderr.String(), check.Equals, "")
}
