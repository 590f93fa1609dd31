// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&completeSuite{})

// completeSuite is about what shells ask for.
type completeSuite struct{ fixture }

// Scripts for shells are there, and bash can read its own.
func (s *completeSuite) TestScripts(c *check.C) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		script := s.run(c, "completion", shell).out
		c.Check(strings.Contains(script, "__complete"), check.Equals, true, check.Commentf("%s", shell))
		if shell == "bash" {
			cmd := exec.Command("bash", "-n")
			cmd.Stdin = strings.NewReader(script)
			out, err := cmd.CombinedOutput()
			c.Check(err, check.IsNil, check.Commentf("%s", out))
		}
	}
	c.Check(s.asked(), check.HasLen, 0)
}

func (s *completeSuite) TestImages(c *check.C) {
	s.store(c, randomimage.New(1, 4096), nil, "lab/tool:1", "lab/tool:latest")
	s.store(c, randomimage.New(2, 4096), nil, "other:1")
	s.store(c, randomimage.New(3, 4096), nil)
	const files = ":0\n"   // the shell may offer files
	const noFiles = ":4\n" // it may not
	for _, trial := range []struct{ args, want string }{
		{"inspect|", "other:1\nlab/tool:1\nlab/tool:latest\n" + noFiles},
		{"inspect|lab/tool:1|lab/", "lab/tool:latest\n" + noFiles},
		{"history|lab/tool:l", "lab/tool:latest\n" + noFiles},
		{"verify|o", "other:1\n" + noFiles},
		{"save|-o|x|o", "other:1\n" + noFiles},
		{"tag|o", "other:1\n" + noFiles},
		{"tag|other:1|o", noFiles}, // a new name
		{"images|none", noFiles},
		{"pull|o", noFiles},
		{"push|o", noFiles},
		{"load|o", files},
		{"pull|--links|a", "auto\nalways\nnever\n" + noFiles},
		{"doc", "doctor\tFind out whether this machine, your token and the cluster are fit for the other commands\n" + noFiles},
	} {
		a := s.run(c, append([]string{"__complete"}, strings.Split(trial.args, "|")...)...)
		c.Check(a.out, check.Equals, trial.want, check.Commentf("%s", trial.args))
	}
	s.asked()
	s.run(c, "__complete", "pull", "o")
	c.Check(s.asked(), check.HasLen, 0)
}

// Who cannot ask is silent, and soon.
func (s *completeSuite) TestTrouble(c *check.C) {
	release := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer silent.Close()
	defer close(release)
	for _, api := range []*arvados.Client{
		{},
		{APIHost: "127.0.0.1:1", AuthToken: "x", Timeout: time.Minute},
		{Scheme: "http", APIHost: strings.TrimPrefix(silent.URL, "http://"), AuthToken: "x"},
	} {
		started := time.Now()
		a := s.callWith(c, call{api: api}, "__complete", "inspect", "")
		c.Check(a.code, check.Equals, 0)
		c.Check(a.out, check.Equals, ":4\n")
		c.Check(a.err, check.Equals, "Completion ended with directive: ShellCompDirectiveNoFileComp\n") // scripts drop it
		c.Check(time.Since(started) < 5*completionTime, check.Equals, true)                             // on any machine
	}
}
