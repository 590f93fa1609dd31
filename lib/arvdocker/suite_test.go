// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
	"git.arvados.org/arvados.git/sdk/go/keepclient"
	"git.arvados.org/arvados.git/services/localcluster"
	"github.com/sirupsen/logrus"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var update = flag.Bool("update", false, "write the golden files anew")

// fixture is an embedded cluster whose dispatcher starts the real crunch-run,
// and a registry that it may pull from.
type fixture struct {
	*localcluster.Cluster
	ctx      context.Context
	program  string // crunch-run
	site     string // its site file, instead of the usual one
	registry *registrytest.Server
	user     *arvados.Client

	mtx      sync.Mutex
	requests []string // "api GET /arvados/v1/…", as the cluster has got them from arv-docker
	refuse   func(r *http.Request) int
	refusal  string // says why
}

// wrap takes note of the requests that have the token of the user; the dispatcher
// and crunch-run have others.
func (f *fixture) wrap(server string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mtx.Lock()
		status := 0
		if f.Cluster != nil && r.Header.Get("Authorization") == "Bearer "+f.Tokens[localcluster.User] {
			f.requests = append(f.requests, server+" "+r.Method+" "+r.URL.Path)
			if f.refuse != nil {
				status = f.refuse(r)
			}
		}
		f.mtx.Unlock()
		if status != 0 {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"errors":[`+strconv.Quote(cmp.Or(f.refusal, "made to fail"))+`]}`)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (f *fixture) SetUpSuite(c *check.C) {
	arvadosclient.RetryDelay = 10 * time.Millisecond
	f.ctx = context.Background()
	f.program = filepath.Join(c.MkDir(), "crunch-run")
	out, err := exec.Command("go", "build", "-o", f.program, "../../cmd/crunch-run").CombinedOutput()
	c.Assert(err, check.IsNil, check.Commentf("%s", out))
}

func (f *fixture) SetUpTest(c *check.C) {
	dir := c.MkDir()
	site := filepath.Join(dir, "site.yml")
	content := cmp.Or(f.site, "links: never\npull: {registries: ['127.0.0.1:*']}\n")
	c.Assert(os.WriteFile(site, []byte(content), 0600), check.IsNil)
	f.registry = registrytest.New()
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	cluster, err := localcluster.Start(f.ctx, localcluster.Options{
		Dir: filepath.Join(dir, "data"), CrunchRun: f.program, CrunchRunArgs: []string{"-builtin-config=" + site}, Log: quiet, Wrap: f.wrap,
	})
	c.Assert(err, check.IsNil)
	f.mtx.Lock()
	f.Cluster = cluster
	f.mtx.Unlock()
	f.user = cluster.UserClient(localcluster.User)
	f.refuse, f.refusal = nil, ""
}

func (f *fixture) TearDownTest(c *check.C) {
	f.registry.Close()
	c.Check(f.Stop(), check.IsNil)
	f.mtx.Lock()
	f.Cluster = nil
	f.mtx.Unlock()
}

// asked are the requests to the cluster since the last call.
func (f *fixture) asked() []string {
	f.mtx.Lock()
	defer f.mtx.Unlock()
	asked := f.requests
	f.requests = nil
	return asked
}

// call is one call of arv-docker.
type call struct {
	ctx   context.Context
	api   *arvados.Client
	stdin io.Reader
	err   io.Writer
}

// answer is what came of it.
type answer struct {
	code     int
	out, err string
}

func (f *fixture) callWith(c *check.C, with call, args ...string) answer {
	var out, stderr bytes.Buffer
	if with.ctx == nil {
		with.ctx = f.ctx
	}
	if with.api == nil {
		with.api = f.UserClient(localcluster.User)
	}
	if with.stdin == nil {
		with.stdin = strings.NewReader("")
	}
	var watched io.Writer = &stderr
	if with.err != nil {
		watched = io.MultiWriter(&stderr, with.err)
	}
	p := &Program{API: with.api, Stdin: with.stdin, Stdout: &out, Stderr: watched, Poll: 50 * time.Millisecond}
	a := answer{code: p.Run(with.ctx, args)}
	a.out, a.err = out.String(), stderr.String()
	for _, secret := range []string{f.SystemRootToken, f.Tokens[localcluster.User], secretWord} {
		c.Check(strings.Contains(a.out+a.err, secret), check.Equals, false, check.Commentf("secret shown by %q", args))
	}
	return a
}

// run is a call that has to succeed.
func (f *fixture) run(c *check.C, args ...string) answer {
	a := f.callWith(c, call{}, args...)
	c.Assert(a.code, check.Equals, 0, check.Commentf("%q: %s\n%s", args, a.err, a.out))
	return a
}

// result is the result that a call with --json prints.
func (f *fixture) result(c *check.C, args ...string) (r result) {
	c.Assert(json.Unmarshal([]byte(f.run(c, append(args, "--json")...).out), &r), check.IsNil)
	return r
}

// secretWord is the password in every test that has one.
const secretWord = "a-password-that-nobody-may-see"

func (f *fixture) keep(c *check.C) *keepclient.KeepClient {
	arv, err := arvadosclient.New(f.user)
	c.Assert(err, check.IsNil)
	kc, err := keepclient.MakeKeepClient(arv)
	c.Assert(err, check.IsNil)
	return kc
}

func (f *fixture) collection(c *check.C, uuid string) (coll arvados.Collection) {
	c.Assert(f.user.RequestAndDecode(&coll, "GET", "arvados/v1/collections/"+uuid, nil, nil), check.IsNil)
	return coll
}

// links are the names of the links to a collection.
func (f *fixture) links(c *check.C, head string) (names []string) {
	var list arvados.LinkList
	c.Assert(f.user.RequestAndDecode(&list, "GET", "arvados/v1/links", nil, attrs{
		"filters": [][]string{{"head_uuid", "=", head}}, "order": "link_class,name",
	}), check.IsNil)
	for _, link := range list.Items {
		names = append(names, link.LinkClass+" "+link.Name)
	}
	return names
}

// store puts an image into Keep as docker pull would, and returns the UUID of
// its collection.
func (f *fixture) store(c *check.C, img imagetar.Image, change func(attrs), names ...string) string {
	saver := &dockerimage.Saver{API: f.user, Keep: f.keep(c)}
	saved, err := saver.Save(f.ctx, img)
	c.Assert(err, check.IsNil)
	properties := saved.Properties(names, time.Now()).Map()
	if change != nil {
		change(properties)
	}
	var coll arvados.Collection
	c.Assert(f.user.RequestAndDecode(&coll, "POST", "arvados/v1/collections", nil, attrs{
		"collection": attrs{"manifest_text": saved.ManifestText, "properties": properties},
	}), check.IsNil)
	return coll.UUID
}

// files are a collection's files with their contents.
func (f *fixture) files(c *check.C, pdh string) map[string]string {
	list, err := keepfile.ParseManifest(f.collection(c, pdh).ManifestText)
	c.Assert(err, check.IsNil)
	contents := map[string]string{}
	kc := f.keep(c)
	for _, file := range list {
		r := keepfile.NewReader(f.ctx, kc, file)
		text, err := io.ReadAll(r)
		c.Assert(err, check.IsNil)
		r.Close()
		contents[file.Path] = string(text)
	}
	return contents
}

// unstable is what differs from run to run, and what stands for it in
// transcripts.
var unstable = []struct {
	pattern *regexp.Regexp
	stand   string
}{
	{regexp.MustCompile(`\bx[0-9a-z]{4}-([0-9a-z]{5})-[0-9a-z]{15}\b`), "zzzzz-$1-000000000000000"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "registry.example:5000"},
	{regexp.MustCompile(`after \d+\.\d s`), "after 0.0 s"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d\b`), "00:00:00"},
	{regexp.MustCompile(`"\d{4}-\d\d-\d\dT[0-9:.]+Z"`), `"2026-01-01T00:00:00Z"`},
	{regexp.MustCompile(`\d+ (second|minute|hour|day|week|month|year)s? ago|now\b`), "a while ago"},
}

// golden compares a transcript with the file of that name.
func golden(c *check.C, name string, parts ...string) {
	text := strings.Join(parts, "")
	for _, u := range unstable {
		text = u.pattern.ReplaceAllString(text, u.stand)
	}
	path := filepath.Join("testdata", name+".golden")
	if *update {
		c.Assert(os.MkdirAll("testdata", 0777), check.IsNil)
		c.Assert(os.WriteFile(path, []byte(text), 0666), check.IsNil)
		return
	}
	want, err := os.ReadFile(path)
	c.Assert(err, check.IsNil)
	c.Check(text, check.Equals, string(want), check.Commentf("%s differs", path))
}
