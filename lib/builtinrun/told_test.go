// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

// A dispatcher's probe has the cost so far written, and SIGUSR1 the logs saved,
// while the work goes on; the end has the whole cost.
func (s *lifeSuite) TestToldWhileRunning(c *check.C) {
	s.instance = `{"ProviderType":"test","Price":3600}` // one a second
	s.prices = filepath.Join(c.MkDir(), "none")
	s.saveLogs, s.tellCost = make(chan os.Signal), make(chan os.Signal)
	release := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(release) })
	defer goOn()
	s.registry.Always("/blobs/"+app.Layers[0].Digest, func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		<-release
		serve(w, r)
	})
	cr := s.submit(c, []string{"docker", "pull", s.registry.Host() + "/app:1"}, nil)
	r := s.begin(context.Background(), c, cr, s.site)
	now := func() (ctr arvados.Container) {
		c.Assert(s.root.RequestAndDecode(&ctr, "GET", "arvados/v1/containers/"+cr.ContainerUUID, nil, nil), check.IsNil)
		return ctr
	}
	r.tell(c, s.tellCost, syscall.SIGUSR2)
	r.tell(c, s.tellCost, syscall.SIGUSR2) // the first has been done by now
	before := now()
	c.Check(before.State, check.Equals, arvados.ContainerStateRunning)
	c.Check(before.Cost > 0, check.Equals, true)
	r.until(c, "the logs are saved", func() bool {
		r.tell(c, s.saveLogs, syscall.SIGUSR1)
		return now().Log != before.Log
	})
	goOn()
	ended := r.end(c)
	c.Check(ended.ctr.State, check.Equals, arvados.ContainerStateComplete)
	c.Check(ended.ctr.Cost > before.Cost, check.Equals, true)
}
