// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/builtinrun"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
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

	instance           string // of the node; for node.json and the price
	prices             string // file
	saveLogs, tellCost chan os.Signal
	broken             []error       // what the node was called broken for
	patience           time.Duration // how long trouble is sat out

	mtx    sync.Mutex
	script []*scene
	seen   []string
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
	s := &stage{tmp: c.MkDir(), instance: `{"ProviderType":"test"}`, patience: 2 * time.Second}
	os.Setenv("TMPDIR", s.tmp)
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

// ending is how a container ended, and what is left of it.
type ending struct {
	cr       arvados.ContainerRequest
	ctr      arvados.Container
	exit     interface{} // exit_code, nil while there is none
	problem  string      // runtime_status.error
	logs     map[string]string
	output   *arvados.Collection // of the request
	runError error
}

// run locks the request's container and runs it as crunch-run would.
func (s *stage) run(ctx context.Context, c *check.C, cr arvados.ContainerRequest, site builtin.Site) ending {
	c.Assert(s.root.RequestAndDecode(nil, "POST", "arvados/v1/containers/"+cr.ContainerUUID+"/lock", nil, nil), check.IsNil)
	var stderr bytes.Buffer
	err := s.start(ctx, cr, site, &stderr)
	e := s.look(c, cr)
	e.runError = err
	for _, secret := range []string{s.SystemRootToken, s.Tokens[localcluster.User], secretWord} {
		c.Check(strings.Contains(stderr.String(), secret), check.Equals, false, check.Commentf("secret on stderr"))
	}
	return e
}

// rerun runs the request's container once more, whatever its state.
func (s *stage) rerun(c *check.C, cr arvados.ContainerRequest, site builtin.Site) error {
	return s.start(context.Background(), cr, site, io.Discard)
}

func (s *stage) start(ctx context.Context, cr arvados.ContainerRequest, site builtin.Site, stderr io.Writer) error {
	dispatcher := s.Client(s.SystemRootToken)
	dispatcher.Timeout = s.patience
	return builtinrun.Run(ctx, builtinrun.Config{
		UUID: cr.ContainerUUID, Dispatcher: dispatcher, Site: site, Stderr: stderr,
		InstanceType: s.instance, PricesFile: s.prices, SaveLogs: s.saveLogs, TellCost: s.tellCost,
		Broken: func(err error) { s.broken = append(s.broken, err) },
	}, builtinrun.Builtin{Site: site})
}

// look reads how a request's container ended.
func (s *stage) look(c *check.C, cr arvados.ContainerRequest) (e ending) {
	s.mtx.Lock()
	s.script = nil
	s.mtx.Unlock()
	var record map[string]interface{}
	path := "arvados/v1/containers/" + cr.ContainerUUID
	c.Assert(s.root.RequestAndDecode(&record, "GET", path, nil, nil), check.IsNil)
	c.Assert(s.root.RequestAndDecode(&e.ctr, "GET", path, nil, nil), check.IsNil)
	c.Assert(s.user.RequestAndDecode(&e.cr, "GET", "arvados/v1/container_requests/"+cr.UUID, nil, nil), check.IsNil)
	e.exit = record["exit_code"]
	e.problem, _ = e.ctr.RuntimeStatus["error"].(string)
	if e.cr.OutputUUID != "" {
		e.output = s.collection(c, e.cr.OutputUUID)
	}
	e.logs = map[string]string{}
	if e.cr.LogUUID != "" {
		e.logs = s.files(c, s.collection(c, e.cr.LogUUID).ManifestText)
	}
	s.checkNothingSecret(c, record, e)
	return e
}

func (s *stage) collection(c *check.C, uuid string) *arvados.Collection {
	var coll arvados.Collection
	c.Assert(s.user.RequestAndDecode(&coll, "GET", "arvados/v1/collections/"+uuid, nil, nil), check.IsNil)
	return &coll
}

// keep is Keep as the ordinary user sees it.
func (s *stage) keep(c *check.C) *keepclient.KeepClient {
	arv, err := arvadosclient.New(s.user)
	c.Assert(err, check.IsNil)
	kc, err := keepclient.MakeKeepClient(arv)
	c.Assert(err, check.IsNil)
	return kc
}

// files are a small collection's files with their contents.
func (s *stage) files(c *check.C, manifest string) map[string]string {
	list, err := keepfile.ParseManifest(manifest)
	c.Assert(err, check.IsNil)
	contents := map[string]string{}
	kc := s.keep(c)
	for _, file := range list {
		r := keepfile.NewReader(context.Background(), kc, file)
		text, err := io.ReadAll(r)
		c.Assert(err, check.IsNil)
		r.Close()
		contents[file.Path] = string(text)
	}
	return contents
}

// secretWord is the password in every test that has one.
const secretWord = "a-password-that-nobody-may-see"

var logLine = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z [^\r]*$`)

// checkNothingSecret looks for the password and tokens in everything that
// stays, and holds the logs to crunch-run's format.
func (s *stage) checkNothingSecret(c *check.C, record map[string]interface{}, e ending) {
	text, err := json.Marshal([]interface{}{record, e.cr, e.output})
	c.Assert(err, check.IsNil)
	all := map[string]string{"records": string(text)}
	for name, content := range e.logs {
		all[name] = content
	}
	for name, content := range all {
		for _, secret := range []string{s.SystemRootToken, secretWord} {
			c.Check(strings.Contains(content, secret), check.Equals, false, check.Commentf("secret in %s", name))
		}
		if !strings.HasSuffix(name, ".txt") || strings.Contains(name, "/") {
			continue
		}
		for _, line := range strings.Split(strings.TrimSuffix(content, "\n"), "\n") {
			c.Check(line == "" || logLine.MatchString(line), check.Equals, true, check.Commentf("%s: %q", name, line))
		}
	}
}

// visible are the collections of the user that are not in the trash, without
// logs.
func (s *stage) visible(c *check.C) (names []string) {
	var list arvados.CollectionList
	c.Assert(s.user.RequestAndDecode(&list, "GET", "arvados/v1/collections", nil, attrs{"limit": 1000}), check.IsNil)
	for _, coll := range list.Items {
		if coll.Properties["type"] != "log" && coll.Name != "empty collection" {
			names = append(names, coll.Name)
		}
	}
	return names
}
