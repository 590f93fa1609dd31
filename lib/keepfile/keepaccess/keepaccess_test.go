// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepaccess

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
	"git.arvados.org/arvados.git/sdk/go/keepclient"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var _ = check.Suite(&suite{})

type suite struct{}

func (*suite) SetUpSuite(*check.C) { arvadosclient.RetryDelay = time.Millisecond }

// serve is a client of an API server that answers every request so.
func serve(c *check.C, answer http.HandlerFunc) (*arvados.Client, func()) {
	server := httptest.NewServer(answer)
	return &arvados.Client{Scheme: "http", APIHost: strings.TrimPrefix(server.URL, "http://"), AuthToken: "secret-token"}, server.Close
}

func (*suite) TestOpen(c *check.C) {
	client, end := serve(c, func(w http.ResponseWriter, r *http.Request) {
		answer := `{}`
		if strings.HasSuffix(r.URL.Path, "/keep_services/accessible") {
			answer = `{"items":[{"uuid":"zzzzz-bi6l4-000000000000000","service_host":"keep.example","service_port":1,"service_type":"proxy"}]}`
		}
		_, _ = w.Write([]byte(answer))
	})
	defer end()
	kc, err := Open(context.Background(), client)
	c.Assert(err, check.IsNil)
	c.Check(kc.LocalRoots(), check.DeepEquals, map[string]string{"zzzzz-bi6l4-000000000000000": "http://keep.example:1"})
	c.Check(kc.DiskCacheSize, check.Equals, keepclient.DiskCacheDisabled)
}

// A server that refuses, and one that does not answer at all.
func (*suite) TestTrouble(c *check.C) {
	client, end := serve(c, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })
	defer end()
	_, err := Open(context.Background(), client)
	c.Check(err, check.ErrorMatches, `keep: find services 127\.0\.0\.1:\d+: .*418.*`)
	c.Check(fault.Transient(err), check.Equals, true)
	c.Check(err, check.Not(check.ErrorMatches), ".*secret-token.*")

	release := make(chan struct{})
	silent, end := serve(c, func(http.ResponseWriter, *http.Request) { <-release })
	defer end()
	defer close(release)
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(20*time.Millisecond, func() { cancel(stopped) })
	_, err = Open(ctx, silent)
	c.Check(errors.Is(err, stopped), check.Equals, true)
}
