// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var _ = check.Suite(&suite{})

type suite struct{}

func (*suite) TestArguments(c *check.C) {
	for args, want := range map[string]string{
		"":                                  "usage",
		"-listen 127.0.0.1:0":               "usage",
		"-controller http://localhost:1 x":  "usage",
		"-controller http://localhost:1 -x": "usage",
		"-controller localhost:8003":        "-controller localhost:8003: give scheme, host and port, .*",
		"-controller http://a/b":            "-controller http://a/b: give scheme, host and port, .*",
		"-controller http://a:1 -listen x":  "-listen: .*",
	} {
		err := run(context.Background(), strings.Fields(args), io.Discard)
		c.Check(err, check.ErrorMatches, want, check.Commentf(args))
	}
}

func (*suite) TestWhatThisIs(c *check.C) {
	for args, want := range map[string]string{
		"-help":                       "usage: arvados-image-resolver -controller URL(?s).*",
		"-version":                    `arvados-image-resolver \S+\n`,
		"--version -controller http:": `arvados-image-resolver \S+\n`,
	} {
		var stdout strings.Builder
		c.Check(run(context.Background(), strings.Fields(args), &stdout), check.IsNil)
		c.Check(stdout.String(), check.Matches, want)
	}
}

// A request that is under way when the program is told to stop is answered.
func (*suite) TestServeAndStop(c *check.C) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	controller := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/arvados/v1/collections" {
			io.WriteString(w, `{"items":[{"uuid":"zzzzz-4zz18-000000000000000","portable_data_hash":"aa74aece2d9695e90ea55207736b74f7+132",`+
				`"manifest_text":". d41d8cd98f00b204e9800998ecf8427e+0 0:0:sha256\\072`+strings.Repeat("a", 64)+`.tar\n"}]}`)
			return
		}
		c.Check(r.URL.Path, check.Equals, "/arvados/v1/container_requests") // so no links were asked for
		stop()
		io.Copy(w, r.Body)
	}))
	defer controller.Close()
	output, stdout := io.Pipe()
	ended := make(chan error)
	go func() {
		ended <- run(ctx, []string{"-controller", controller.URL, "-listen", "127.0.0.1:0", "-links=false"}, stdout)
	}()
	line, err := bufio.NewReader(output).ReadString('\n')
	c.Assert(err, check.IsNil)
	address := regexp.MustCompile(`http://127\.0\.0\.1:[0-9]+`).FindString(line)
	r, err := http.NewRequest("POST", address+"/arvados/v1/container_requests", strings.NewReader(`{"container_image":"lab/app:1"}`))
	c.Assert(err, check.IsNil)
	r.Header.Set("Authorization", "Bearer token")
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	c.Assert(err, check.IsNil)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	c.Check(err, check.IsNil)
	c.Check(string(body), check.Equals, `{"container_image":"aa74aece2d9695e90ea55207736b74f7+132"}`)
	c.Check(<-ended, check.IsNil)
	_, err = http.Get(address)
	c.Check(err, check.NotNil)
}
