// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing/iotest"
	"time"

	. "gopkg.in/check.v1"
)

type ClientSuite struct {
	fake *fakeAPI
}

var _ = Suite(&ClientSuite{})

func (s *ClientSuite) SetUpTest(c *C)    { s.fake = newFakeAPI(answer{200, `{"a":"b"}`, nil}) }
func (s *ClientSuite) TearDownTest(c *C) { s.fake.Close() }

// setenv puts environment and settings file in place for one test.
func setenv(c *C, settings string, env map[string]string) (restore func()) {
	home := c.MkDir()
	if settings != "" {
		dir := filepath.Join(home, ".config", "arvados")
		c.Assert(os.MkdirAll(dir, 0o700), IsNil)
		c.Assert(os.WriteFile(filepath.Join(dir, "settings.conf"), []byte(settings), 0o600), IsNil)
	}
	old := os.Environ()
	os.Clearenv()
	os.Setenv("HOME", home)
	for name, value := range env {
		os.Setenv(name, value)
	}
	return func() {
		os.Clearenv()
		for _, item := range old {
			name, value, _ := strings.Cut(item, "=")
			os.Setenv(name, value)
		}
	}
}

func (*ClientSuite) TestSettings(c *C) {
	const file = "# comment\nARVADOS_API_HOST = file:1 \r\n\tARVADOS_API_TOKEN=a=b\nnonsense\n"
	for _, trial := range []struct {
		about, file string
		env         map[string]string
		want        Client
	}{
		{"nothing", "", nil, Client{}},
		{"file", file, nil, Client{APIHost: "file:1", AuthToken: "a=b"}},
		{"environment before file", file, map[string]string{"ARVADOS_API_HOST": "env:2"}, Client{APIHost: "env:2", AuthToken: "a=b"}},
		{"a variable that is set to nothing", file, map[string]string{"ARVADOS_API_TOKEN": ""}, Client{APIHost: "file:1"}},
		{"insecure", "", map[string]string{"ARVADOS_API_HOST_INSECURE": "Yes"}, Client{Insecure: true}},
		{"insecure by number", "", map[string]string{"ARVADOS_API_HOST_INSECURE": "1"}, Client{Insecure: true}},
		{"not insecure", "", map[string]string{"ARVADOS_API_HOST_INSECURE": "0"}, Client{}},
		{"Keep services", "", map[string]string{"ARVADOS_KEEP_SERVICES": " http://a:1  https://b:2/ not-a-url"},
			Client{KeepServiceURIs: []string{"http://a:1", "https://b:2/"}}},
	} {
		restore := setenv(c, trial.file, trial.env)
		have := NewClientFromEnv()
		restore()
		comment := Commentf(trial.about)
		c.Check(have.Scheme, Equals, "https", comment)
		c.Check(have.Timeout, Equals, 5*time.Minute, comment)
		c.Check(have.APIHost, Equals, trial.want.APIHost, comment)
		c.Check(have.AuthToken, Equals, trial.want.AuthToken, comment)
		c.Check(have.Insecure, Equals, trial.want.Insecure, comment)
		c.Check(have.KeepServiceURIs, DeepEquals, trial.want.KeepServiceURIs, comment)
	}
}

func (*ClientSuite) TestNoHost(c *C) {
	restore := setenv(c, "", nil)
	defer restore()
	err := NewClientFromEnv().RequestAndDecode(nil, "GET", "x", nil, nil)
	c.Check(err, ErrorMatches, "ARVADOS_API_HOST and/or ARVADOS_API_TOKEN environment variables are not set")
	err = new(Client).RequestAndDecode(nil, "GET", "x", nil, nil)
	c.Check(err, ErrorMatches, "arvados.Client cannot perform request: APIHost is not set")
}

func (s *ClientSuite) TestWhereParametersGo(c *C) {
	short := map[string]interface{}{"name": "x"}
	long := map[string]interface{}{"name": strings.Repeat("x", 1000)}
	for _, trial := range []struct {
		about, method string
		body          io.Reader
		params        interface{}
		sent          string // method
		override      string
		inQuery       bool
	}{
		{"read", "GET", nil, short, "GET", "", true},
		{"read with much", "GET", nil, long, "POST", "GET", false},
		{"create", "POST", nil, short, "POST", "", false},
		{"update", "PATCH", nil, long, "PATCH", "", false},
		{"delete", "DELETE", nil, short, "DELETE", "", false},
		{"with a body", "PUT", strings.NewReader("k=v"), short, "PUT", "", true},
		{"read with a body", "GET", strings.NewReader("k=v"), long, "POST", "GET", true},
	} {
		comment := Commentf(trial.about)
		got := s.call(c, s.fake, trial.method, trial.body, trial.params)
		c.Check(got.method, Equals, trial.sent, comment)
		c.Check(got.path, Equals, "/arvados/v1/things", comment)
		c.Check(got.header.Get("X-Http-Method-Override"), Equals, trial.override, comment)
		c.Check(got.header.Get("Content-Type"), Equals, "application/x-www-form-urlencoded", comment)
		c.Check(got.query.Has("name"), Equals, trial.inQuery, comment)
		c.Check(got.form.Has("name"), Equals, !trial.inQuery, comment)
		c.Check(got.form.Has("k"), Equals, trial.body != nil, comment)
	}
}

func (s *ClientSuite) TestParameterEncoding(c *C) {
	limit := 7
	for _, trial := range []struct {
		params interface{}
		want   url.Values
	}{
		{nil, url.Values{}},
		{url.Values{"raw": {"a b", "c"}}, url.Values{"raw": {"a b", "c"}}},
		{map[string]interface{}{"text": `a"b`, "int": 12345678901234567, "float": 1.5, "yes": true, "no": false, "null": nil},
			url.Values{"text": {`a"b`}, "int": {"12345678901234567"}, "float": {"1.5"}, "yes": {"true"}}},
		{map[string]interface{}{"collection": map[string]interface{}{"is_trashed": false}, "select": []string{"uuid"}},
			url.Values{"collection": {`{"is_trashed":false}`}, "select": {`["uuid"]`}}},
		{ResourceListParams{Limit: &limit, Filters: []Filter{{"uuid", "=", "x"}}},
			url.Values{"limit": {"7"}, "filters": {`[["uuid","=","x"]]`}}},
	} {
		c.Check(s.call(c, s.fake, "GET", nil, trial.params).query, DeepEquals, trial.want)
		c.Check(s.call(c, s.fake, "POST", nil, trial.params).form, DeepEquals, trial.want)
	}
	for _, params := range []interface{}{func() {}, []string{"no object"}, "text"} {
		err := s.fake.client().RequestAndDecode(nil, "GET", "x", nil, params)
		c.Check(err, ErrorMatches, "json: .*")
	}
}

func (s *ClientSuite) TestAnswersNobodyWantsAreKeptShort(c *C) {
	c.Check(s.fake.client().RequestAndDecode(nil, "POST", "arvados/v1/things", nil, nil), IsNil)
	c.Check(s.fake.requests()[0].form.Get("select"), Equals, `["uuid"]`)
}

func (s *ClientSuite) TestSlashesBetweenHostAndPath(c *C) {
	client := s.fake.client()
	client.APIHost += "/"
	c.Check(client.RequestAndDecode(nil, "GET", "/arvados/v1/x", nil, nil), IsNil)
	c.Check(s.fake.requests()[0].path, Equals, "/arvados/v1/x")
}

func (s *ClientSuite) TestHeaders(c *C) {
	client := s.fake.client()
	client.SendHeader = http.Header{"X-Extra": {"1"}}
	background := context.Background()
	for _, trial := range []struct {
		about    string
		client   *Client
		ctx      context.Context
		auth, id string
	}{
		{"defaults", client, background, "Bearer v2/token", "req-[0-9a-z]{20}"},
		{"another token", client, ContextWithAuthorization(background, "Bearer other"), "Bearer other", "req-.*"},
		{"request id of the client", client.WithRequestID("req-client"), background, "Bearer v2/token", "req-client"},
		{"request id of the context", client.WithRequestID("req-client"), ContextWithRequestID(background, "req-ctx"), "Bearer v2/token", "req-ctx"},
	} {
		comment := Commentf(trial.about)
		c.Check(trial.client.RequestAndDecodeContext(trial.ctx, nil, "GET", "x", nil, nil), IsNil, comment)
		got := s.fake.requests()[len(s.fake.requests())-1]
		c.Check(got.header.Values("Authorization"), DeepEquals, []string{trial.auth}, comment)
		c.Check(got.header.Get("X-Request-Id"), Matches, trial.id, comment)
		c.Check(got.header.Get("X-Extra"), Equals, "1", comment)
	}
	client.AuthToken = ""
	c.Check(client.RequestAndDecode(nil, "GET", "x", nil, nil), IsNil)
	got := s.fake.requests()[len(s.fake.requests())-1]
	c.Check(got.header["Authorization"], IsNil)
}

func (s *ClientSuite) TestBodiesAreClosed(c *C) {
	body := &closeRecorder{Reader: strings.NewReader("k=v")}
	c.Check(s.fake.client().RequestAndDecode(nil, "POST", "x", body, nil), IsNil)
	c.Check(body.closed, Equals, true)
	broken := errors.New("broken body")
	err := s.fake.client().RequestAndDecode(nil, "POST", "x", iotest.ErrReader(broken), nil)
	c.Check(errors.Is(err, broken), Equals, true)
}

type closeRecorder struct {
	io.Reader
	closed bool
}

func (r *closeRecorder) Close() error {
	r.closed = true
	return nil
}
