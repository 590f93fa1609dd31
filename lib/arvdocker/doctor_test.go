// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localcluster"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&doctorSuite{})

// doctorSuite examines an embedded cluster.
type doctorSuite struct{ fixture }

// milliseconds differ from run to run.
var milliseconds = regexp.MustCompile(`\b\d+ ms\b`)

// A cluster where all is well.
func (s *doctorSuite) TestHealthy(c *check.C) {
	a := s.run(c, "doctor")
	text := strings.ReplaceAll(milliseconds.ReplaceAllString(a.out, "5 ms"), s.ClusterID+",", "zzzzz,")
	golden(c, "doctor", "$ arv-docker doctor\n", text)
	c.Check(a.err, check.Equals, "")

	var findings []finding
	c.Assert(json.Unmarshal([]byte(s.run(c, "doctor", "--json").out), &findings), check.IsNil)
	lines := strings.Split(strings.TrimSpace(a.out), "\n")
	c.Check(findings, check.HasLen, len(lines))
	for i, f := range findings {
		c.Check(lines[i], check.Matches, f.State+` +`+f.Check+` .*`)
		if f.State == problem {
			c.Errorf("%v", f)
		}
	}
}

// changed is an API server that answers some requests in its own way and passes
// the others on to the cluster.
func (s *doctorSuite) changed(c *check.C, answers map[string]http.HandlerFunc) (*arvados.Client, func()) {
	real := s.UserClient(localcluster.User)
	real.Timeout = time.Minute // a request that is passed on must not fail by itself
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/arvados/v1/"), "/discovery/v1/apis/arvados/v1/")
		if answer := answers[path]; answer != nil {
			answer(w, r)
			return
		}
		var body json.RawMessage
		prefix := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/"), path)
		if err := real.RequestAndDecode(&body, r.Method, prefix+path, nil, r.URL.Query()); err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = w.Write(body)
	}))
	return &arvados.Client{
		Scheme: "http", APIHost: strings.TrimPrefix(server.URL, "http://"), AuthToken: real.AuthToken,
	}, server.Close
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
}

func refuses(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }

// What may be wrong, and what is said then. Only what is vital ends it.
func (s *doctorSuite) TestUnhealthy(c *check.C) {
	user := `{"uuid":"` + s.ClusterID + `-tpzed-000000000000001","username":"me","is_active":`
	token := func(more string) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{"api_client_authorizations/current": says(`{"api_token":"` + secretWord + `",` + more + `}`)}
	}
	one := func(path string, answer http.HandlerFunc) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{path: answer}
	}
	const all = `"scopes":["all"]`
	for _, trial := range []struct {
		answers map[string]http.HandlerFunc
		code    int
		want    string // a line
		last    string // check
	}{
		{one("rest", says("hello")), 1, `problem  server .*: it has no discovery document: ARVADOS_API_HOST names a server .*`, "server"},
		{one("rest", refuses), 1, `problem  server .*: 403 Forbidden: .*`, "server"},
		{one("rest", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
			_, _ = w.Write([]byte(`{"name":"arvados","defaultCollectionReplication":1}`))
		}), 0, `warning  clock +the clock of this machine differs from the server's by (1h0m|59m).*: set it: .*`, "nodes"},
		{one("users/current", says(user+`false}`)), 1, `problem  token +it is that of me \(.*\), whose account is not active: ask the administrator .*`, "token"},
		{one("users/current", refuses), 1, `problem  token .*403 Forbidden.*: you may not do this with this token.*`, "token"},
		{one("api_client_authorizations/current", refuses), 0, `ok       token +it is that of .*; the server does not tell how long .*`, "nodes"},
		{token(all + `,"expires_at":null`), 0, `ok       token .*, and does not expire`, "nodes"},
		{token(all + `,"expires_at":"2099-01-02T03:04:05Z"`), 0, `ok       token .*, and expires on 2099-01-02`, "nodes"},
		{token(all + `,"expires_at":"` + time.Now().Add(90*time.Minute).UTC().Format(time.RFC3339) + `"`), 0, `warning  token .*, and expires in 1h(29|30)m0s: get a new one from Workbench`, "nodes"},
		{token(`"scopes":["GET /arvados/v1/collections"]`), 0, `warning  token .*some requests only: \[GET /arvados/v1/collections\]: .*`, "nodes"},
		{one("config", says(`{"Containers":{},"InstanceTypes":{"a":{"VCPUs":1,"RAM":1073741824},"b":{"VCPUs":8,"RAM":17179869184}}}`)), 1,
			`ok       nodes +the largest have RAM 16 GiB, cores 8`, "nodes"},
		{one("config", says(`{"Containers":{},"InstanceTypes":{"a":{"VCPUs":1,"RAM":1073741824}}}`)), 1,
			`warning  nodes +the largest have RAM 1\.0 GiB, cores 1: builds ask for RAM 2\.0 GiB, cores 2; .*`, "nodes"},
		{one("config", says(`{}`)), 1, `ok       names +the server finds images by links; --links auto writes them`, "nodes"},
		{one("config", says(`{}`)), 1, `problem  builtin +there is no image arvados/builtin, so that pull and build are refused: run arv-docker setup, .*`, "nodes"},
		{one("config", refuses), 1, `warning  config .*403 Forbidden.*`, "nodes"},
		{one("keep_services/accessible", says(`{"items":[]}`)), 1, `problem  keep .*: this machine must reach the cluster's Keep services; .*`, "nodes"},
		{one("keep_services/accessible", says(`{"items":[{"uuid":"x","service_host":"127.0.0.1","service_port":1,"service_type":"proxy"}]}`)), 1,
			`problem  keep +services http://127\.0\.0\.1:1: .*connection refused.*`, "nodes"},
		{one("vocabulary", says(`{"strict_tags":true,"tags":{"docker-image-hash":{"strict":false}}}`)), 0,
			`warning  vocabulary +it is strict, and lacks properties of images, .* \(API\.VocabularyPath\)\n +"docker-image-timestamp": \{"strict": false, "labels": \[\{"label": "Docker image timestamp"\}\]\}`, "nodes"},
		{one("vocabulary", says(`{"strict_tags":true,"tags":{"docker-image-hash":{},"docker-image-timestamp":{}}}`)), 0, `ok       vocabulary +it is strict, and has .*`, "nodes"},
		{one("vocabulary", refuses), 0, `ok       vocabulary +the server shows no vocabulary`, "nodes"},
	} {
		client, end := s.changed(c, trial.answers)
		a := s.callWith(c, call{api: client}, "doctor")
		end()
		comment := check.Commentf("%s\n%s%s", trial.want, a.out, a.err)
		c.Check(a.code, check.Equals, trial.code, comment)
		c.Check(a.out, check.Matches, `(?sm).*^`+strings.ReplaceAll(trial.want, ".*", "[^\n]*")+`$.*`, comment)
		c.Check(a.out, check.Matches, `(?s).*\n?(ok|warning|problem) +`+trial.last+` [^\n]*\n`, comment)
		if a.code == 1 {
			c.Check(a.err, check.Matches, `arv-docker: problems found: [1-9]\n`)
		}
	}
}

// Without settings or server there is nothing more to say.
func (s *doctorSuite) TestNothingThere(c *check.C) {
	a := s.callWith(c, call{api: &arvados.Client{}}, "doctor")
	c.Check(a.code, check.Equals, 1)
	c.Check(a.out, check.Matches, `problem  settings     request: check ARVADOS_API_HOST: it is not set: set it in .*\n`)
	a = s.callWith(c, call{api: &arvados.Client{APIHost: "127.0.0.1:1", AuthToken: "x", Timeout: 100 * time.Millisecond}}, "doctor", "--json")
	c.Check(a.code, check.Equals, 1)
	var findings []finding
	c.Assert(json.Unmarshal([]byte(a.out), &findings), check.IsNil)
	c.Assert(findings, check.HasLen, 2)
	c.Check(findings[1].Text, check.Matches, `api: reach the API server 127\.0\.0\.1:1: .*connection refused`)
	c.Check(findings[1].Advice, check.Equals, "check ARVADOS_API_HOST and the network")
}

// An image of the name decides what a node needs.
func (s *doctorSuite) TestBuiltinImage(c *check.C) {
	s.store(c, randomimage.New(1, 4096), nil, "arvados/builtin:latest")
	c.Check(s.run(c, "doctor").out, check.Matches, `(?s).*warning  builtin +arvados/builtin is collection .*, which only names the builtin commands: pulls and builds need nodes with the front; .*`)

	img := randomimage.New(2, 4096)
	img.Config = bytes.Replace(img.Config, []byte(`"Cmd":`), []byte(`"Labels":{"`+builtin.Label+`":"1"},"Cmd":`), 1)
	img.Config = bytes.Replace(img.Config, []byte("2026-01-02"), []byte("2026-02-02"), 1) // the newer one
	img.Manifest, img.Digests = nil, nil
	s.store(c, img, nil, "arvados/builtin:latest")
	c.Check(s.run(c, "doctor").out, check.Matches, `(?s).*ok       builtin +arvados/builtin is collection .*: pulls run on every node, builds where the front is installed\n.*`)
}

// What does not work is told once, and what to do apart from it.
func (s *doctorSuite) TestFailed(c *check.C) {
	err := error(&fault.Error{Op: "read", Side: fault.API, Err: errors.New("no"), Hint: "try again"})
	c.Check(failed(err), check.DeepEquals, finding{State: problem, Text: "api: read: no", Advice: "try again"})
	c.Check(failed(errors.New("no")), check.DeepEquals, finding{State: problem, Text: "no"})
}
