// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localcluster"
	"github.com/sirupsen/logrus"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&logCollectionSuite{})

// logCollectionSuite has a locked container on an embedded cluster.
type logCollectionSuite struct {
	cluster *localcluster.Cluster
	session *Session
	// updates of records so far, and how many of the next ones are refused.
	updates, refused atomic.Int32
}

func (s *logCollectionSuite) SetUpTest(c *check.C) {
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	var err error
	s.cluster, err = localcluster.Start(context.Background(), localcluster.Options{Dir: c.MkDir(), Log: quiet, Wrap: s.wrap})
	c.Assert(err, check.IsNil)
	var cr arvados.ContainerRequest
	c.Assert(s.cluster.UserClient(localcluster.User).RequestAndDecode(&cr, "POST", "arvados/v1/container_requests", nil, map[string]interface{}{
		"container_request": map[string]interface{}{
			"state": "Committed", "priority": 1, "container_image": "arvados/builtin", "command": []string{"docker", "pull", "x"},
			"mounts": map[string]interface{}{"/out": map[string]interface{}{"kind": "tmp"}}, "output_path": "/out",
			"runtime_constraints": map[string]interface{}{"vcpus": 1, "ram": 1 << 28, "API": true},
		},
	}), check.IsNil)
	root := s.cluster.Client(s.cluster.SystemRootToken)
	c.Assert(root.RequestAndDecode(nil, "POST", "arvados/v1/containers/"+cr.ContainerUUID+"/lock", nil, nil), check.IsNil)
	s.session = newSession(Config{Dispatcher: root, Stderr: io.Discard})
	c.Assert(s.session.open(context.Background(), cr.ContainerUUID), check.IsNil)
}

func (s *logCollectionSuite) TearDownTest(c *check.C) { c.Check(s.cluster.Stop(), check.IsNil) }

func (s *logCollectionSuite) wrap(_ string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PUT" && strings.HasPrefix(r.URL.Path, "/arvados/v1/") {
			s.updates.Add(1)
			if s.refused.Add(-1) >= 0 {
				http.Error(w, `{"errors": ["made to fail"]}`, http.StatusUnprocessableEntity)
				return
			}
		}
		h.ServeHTTP(w, r)
	})
}

// saved is the log of the container as users see it, "" while there is none.
func (s *logCollectionSuite) saved(c *check.C) string {
	ctx := context.Background()
	var ctr arvados.Container
	c.Assert(s.session.dispatch(ctx, &ctr, "GET", "containers/"+s.session.Container.UUID, nil), check.IsNil)
	if ctr.Log == "" {
		return ""
	}
	var log arvados.Collection
	err := s.session.dispatch(ctx, &log, "GET", "collections/"+ctr.Log, nil)
	if isStatus(err, http.StatusNotFound) {
		return "" // there is a newer one, which the container does not know of yet
	}
	c.Assert(err, check.IsNil)
	files, err := keepfile.ParseManifest(log.ManifestText)
	c.Assert(err, check.IsNil)
	for _, file := range files {
		if file.Path == "crunch-run.txt" {
			r := keepfile.NewReader(ctx, s.session.dispatcherKeep, file)
			defer r.Close()
			text, err := io.ReadAll(r)
			c.Assert(err, check.IsNil)
			return string(text)
		}
	}
	return ""
}

// waitFor returns when the saved log has the line.
func (s *logCollectionSuite) waitFor(c *check.C, line string) {
	for end := time.Now().Add(time.Minute); !strings.Contains(s.saved(c), line); time.Sleep(time.Millisecond) {
		c.Assert(time.Now().Before(end), check.Equals, true, check.Commentf(line))
	}
}

// Without being asked, the log is saved again and again, but only while it grows,
// and trouble is made up for.
func (s *logCollectionSuite) TestSavedPeriodically(c *check.C) {
	ctx, stop := context.WithCancel(context.Background())
	logs, err := s.session.createLogCollection(ctx)
	c.Assert(err, check.IsNil)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		logs.follow(ctx, time.Millisecond, nil)
	}()
	for _, line := range []string{"the first line", "the second"} {
		s.session.Log.Print(line)
		s.waitFor(c, line)
	}
	updates := s.updates.Load()
	time.Sleep(30 * time.Millisecond) // many intervals
	c.Check(s.updates.Load(), check.Equals, updates)

	s.refused.Store(1)
	s.session.Log.Print("the third")
	s.waitFor(c, "the third")
	s.waitFor(c, "warning: logs not saved, will try again: api: PUT ")
	stop()
	<-ended
}
