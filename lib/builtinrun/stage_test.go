// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/builtinrun"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/keepclient"
	"git.arvados.org/arvados.git/services/localcluster"
	"github.com/sirupsen/logrus"
	"gopkg.in/check.v1"
)

// stage is an embedded cluster whose servers can be made to fail, and a folder
// that must stay empty.
type stage struct {
	*localcluster.Cluster
	root *arvados.Client
	user *arvados.Client
	tmp  string

	keepServices       []string // ARVADOS_KEEP_SERVICES of the node
	instance           string   // of the node; for node.json and the price
	prices             string   // file
	saveLogs, tellCost chan os.Signal
	broken             []error       // what the node was called broken for
	hook               func()        // of the site, for broken nodes
	patience           time.Duration // how long trouble is sat out

	mtx    sync.Mutex
	script []*scene
	seen   []string
	asked  map[string]string // storage classes that Keep was asked for, by hash of the block
}

// scene makes matching requests fail.
type scene struct {
	match *regexp.Regexp             // on "api GET /arvados/v1/…?…"
	times int                        // how often; negative for ever
	fits  func(r *http.Request) bool // nil: all
	do    http.HandlerFunc
}

// status is a failure of one HTTP status.
func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"errors":["made to fail with %d"]}`, code)
	}
}

func newStage(c *check.C) *stage {
	tmp := c.MkDir()
	os.Setenv("TMPDIR", tmp)
	return startStage(c, tmp)
}

func startStage(c *check.C, tmp string) *stage {
	s := &stage{tmp: tmp, hook: func() {}, instance: `{"ProviderType":"test"}`, patience: 2 * time.Second, asked: map[string]string{}}
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	var err error
	s.Cluster, err = localcluster.Start(context.Background(), localcluster.Options{Dir: c.MkDir(), Log: quiet, Wrap: s.wrap})
	c.Assert(err, check.IsNil)
	s.root, s.user = s.Client(s.SystemRootToken), s.UserClient(localcluster.User)
	return s
}

func (s *stage) close(c *check.C) {
	c.Check(s.Stop(), check.IsNil)
	left, err := filepath.Glob(s.tmp + "/*")
	c.Check(err, check.IsNil)
	c.Check(left, check.HasLen, 0, check.Commentf("temporary files left behind"))
	os.Unsetenv("TMPDIR")
}

func (s *stage) wrap(server string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		line := server + " " + r.Method + " " + r.URL.RequestURI()
		s.mtx.Lock()
		s.seen = append(s.seen, line)
		if server == "keep" && r.Method == http.MethodPut {
			s.asked[path.Base(r.URL.Path)] = r.Header.Get(keepclient.XKeepStorageClasses)
		}
		var do http.HandlerFunc
		for _, sc := range s.script {
			if sc.times != 0 && sc.match.MatchString(line) && (sc.fits == nil || sc.fits(r)) {
				sc.times--
				do = sc.do
				break
			}
		}
		s.mtx.Unlock()
		if do != nil {
			do(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// fail makes the next times requests that match fail.
func (s *stage) fail(match string, times int, do http.HandlerFunc) {
	s.play(&scene{match: regexp.MustCompile(match), times: times, do: do})
}

// failLargeBlocks makes writes to Keep fail, but not those of logs.
func (s *stage) failLargeBlocks(times int, do http.HandlerFunc) {
	s.play(&scene{match: regexp.MustCompile("^keep PUT"), times: times, do: do,
		fits: func(r *http.Request) bool { return r.ContentLength > mib }})
}

func (s *stage) play(sc *scene) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.script = append(s.script, sc)
}

// attrs are attributes of a container request.
type attrs = map[string]interface{}

// submit commits a request for a builtin command; changes replace attributes.
func (s *stage) submit(c *check.C, command []string, changes attrs) (cr arvados.ContainerRequest) {
	all := attrs{
		"state":               "Committed",
		"priority":            1,
		"container_image":     "arvados/builtin",
		"command":             command,
		"mounts":              attrs{"/out": attrs{"kind": "tmp"}},
		"output_path":         "/out",
		"runtime_constraints": attrs{"vcpus": 1, "ram": 512 << 20, "API": true},
		"container_count_max": 1,
		"use_existing":        false,
	}
	for key, value := range changes {
		all[key] = value
	}
	err := s.user.RequestAndDecode(&cr, "POST", "arvados/v1/container_requests", nil, attrs{"container_request": all})
	c.Assert(err, check.IsNil)
	return cr
}

// run locks the request's container and runs it as crunch-run would.
func (s *stage) run(ctx context.Context, c *check.C, cr arvados.ContainerRequest, site builtin.Site) ending {
	c.Assert(s.root.RequestAndDecode(nil, "POST", "arvados/v1/containers/"+cr.ContainerUUID+"/lock", nil, nil), check.IsNil)
	var stderr console
	err := s.start(ctx, cr, site, &stderr)
	at := time.Now()
	e := s.look(c, cr)
	e.runError, e.at = err, at
	for _, secret := range []string{s.SystemRootToken, s.Tokens[localcluster.User], secretWord} {
		c.Check(strings.Contains(stderr.String(), secret), check.Equals, false, check.Commentf("secret on stderr"))
		c.Check(err != nil && strings.Contains(err.Error(), secret), check.Equals, false, check.Commentf("secret in an error"))
	}
	return e
}

// console is what crunch-run prints. What it has left to itself may go on to do so.
type console struct {
	mtx  sync.Mutex
	text bytes.Buffer
}

func (o *console) Write(p []byte) (int, error) {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	return o.text.Write(p)
}

func (o *console) String() string {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	return o.text.String()
}

// rerun runs the request's container once more, whatever its state.
func (s *stage) rerun(c *check.C, cr arvados.ContainerRequest, site builtin.Site) error {
	return s.start(context.Background(), cr, site, io.Discard)
}

func (s *stage) start(ctx context.Context, cr arvados.ContainerRequest, site builtin.Site, stderr io.Writer) error {
	dispatcher := s.Client(s.SystemRootToken)
	dispatcher.Timeout, dispatcher.KeepServiceURIs = s.patience, s.keepServices
	return builtinrun.Run(ctx, builtinrun.Config{
		UUID: cr.ContainerUUID, Dispatcher: dispatcher, Links: site.Links, Stderr: stderr,
		InstanceType: s.instance, PricesFile: s.prices, SaveLogs: s.saveLogs, TellCost: s.tellCost,
		Broken: func(err error) { s.broken = append(s.broken, err); s.hook() },
	}, builtinrun.Builtin{Site: site})
}
