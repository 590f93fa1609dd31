// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imageresolve_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imageresolve"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localcluster"
	"github.com/sirupsen/logrus"
	"gopkg.in/check.v1"
)

// clusterSuite is a layer before an embedded cluster.
type clusterSuite struct {
	cluster *localcluster.Cluster
	handler *imageresolve.Handler
	layer   *httptest.Server
	log     bytes.Buffer
	pdh     string // of the user's image lab/app:1
}

var _ = check.Suite(&clusterSuite{})

func (s *clusterSuite) SetUpSuite(c *check.C) {
	log := logrus.New()
	log.SetOutput(&s.log)
	log.SetLevel(logrus.DebugLevel)
	var err error
	s.cluster, err = localcluster.Start(context.Background(), localcluster.Options{Dir: c.MkDir(), Log: log})
	c.Assert(err, check.IsNil)
	s.handler = imageresolve.New(imageresolve.Config{
		Controller: &url.URL{Scheme: "https", Host: s.cluster.APIAddress},
		TLS:        &tls.Config{InsecureSkipVerify: true},
		Policy:     dockerimage.Policy{Links: true},
		Log:        log,
	})
	s.layer = httptest.NewServer(s.handler)
	s.pdh = s.save(c, localcluster.User, "lab/app:1")
	s.save(c, localcluster.Admin, "admin/private:1")
}

func (s *clusterSuite) TearDownSuite(c *check.C) {
	s.layer.Close()
	s.handler.Close()
	c.Check(s.cluster.Stop(), check.IsNil)
	arvados.InsecureHTTPClient.CloseIdleConnections()
	for _, token := range s.cluster.Tokens {
		c.Check(strings.Contains(s.log.String(), token), check.Equals, false)
	}
}

func (s *clusterSuite) save(c *check.C, user, name string) string {
	var coll arvados.Collection
	hex := fmt.Sprintf("%064x", len(name))
	c.Assert(s.cluster.UserClient(user).RequestAndDecodeContext(context.Background(), &coll, "POST", "arvados/v1/collections", nil, map[string]any{
		"collection": map[string]any{
			"manifest_text": ". d41d8cd98f00b204e9800998ecf8427e+0 0:0:sha256\\072" + hex + ".tar\n",
			"properties":    dockerimage.Properties{Hash: "sha256:" + hex, RepoTags: []string{name}}.Map(),
		}}), check.IsNil)
	return coll.PortableDataHash
}

// send sends a request through the layer as the user, and returns the record.
func (s *clusterSuite) send(c *check.C, method, path, contentType, body string, header ...string) (int, arvados.ContainerRequest) {
	r, err := http.NewRequest(method, s.layer.URL+"/arvados/v1/container_requests"+path, strings.NewReader(body))
	c.Assert(err, check.IsNil)
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Authorization", "Bearer "+s.cluster.Tokens[localcluster.User])
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := s.layer.Client().Do(r)
	c.Assert(err, check.IsNil)
	defer resp.Body.Close()
	var record arvados.ContainerRequest
	text, err := io.ReadAll(resp.Body)
	c.Assert(err, check.IsNil)
	c.Assert(json.Unmarshal(text, &record), check.IsNil, check.Commentf("%s", text))
	return resp.StatusCode, record
}

func container(image string, more string) string {
	return `{"container_image":"` + image + `","command":["true"],"output_path":"/out","mounts":{"/out":{"kind":"tmp"}},` +
		`"runtime_constraints":{"vcpus":1,"ram":1}` + more + `}`
}

// All the ways in which clients send a record.
func (s *clusterSuite) TestWays(c *check.C) {
	const (
		asJSON = "application/json"
		asForm = "application/x-www-form-urlencoded"
	)
	record := container("lab/app:1", "")
	inText, err := json.Marshal(record)
	c.Assert(err, check.IsNil)
	form := "container_request=" + url.QueryEscape(record)
	var parts bytes.Buffer
	w := multipart.NewWriter(&parts)
	c.Assert(w.WriteField("container_request", record), check.IsNil)
	c.Assert(w.Close(), check.IsNil)
	token := s.cluster.Tokens[localcluster.User]
	var made arvados.ContainerRequest
	for _, trial := range []struct {
		what, query, contentType, body string
		header                         []string
	}{
		{what: "the SDKs", contentType: asJSON, body: `{"container_request":` + record + `}`},
		{what: "arvados-cwl-runner", query: "?alt=json", contentType: asJSON, body: record},
		{what: "Ruby's arv", query: "?_profile=true", contentType: asJSON, body: `{"container_request":` + string(inText) + `}`},
		{what: "the Go SDK", contentType: asForm, body: form},
		{what: "a browser", contentType: w.FormDataContentType(), body: parts.String()},
		{what: "token in the form", contentType: asForm, body: form + "&api_token=" + url.QueryEscape(token), header: []string{"Authorization", ""}},
		{what: "token in the query", query: "?api_token=" + url.QueryEscape(token), contentType: asJSON, body: record, header: []string{"Authorization", ""}},
		{what: "OAuth2", contentType: asJSON, body: record, header: []string{"Authorization", "OAuth2 " + token}},
	} {
		var status int
		status, made = s.send(c, "POST", trial.query, trial.contentType, trial.body, trial.header...)
		c.Check(status, check.Equals, 200, check.Commentf(trial.what))
		c.Check(made.ContainerImage, check.Equals, s.pdh, check.Commentf(trial.what))
	}

	update := `{"container_image":"docker.io/lab/app:1"}`
	for _, trial := range []struct {
		method, contentType, body string
		header                    []string
	}{
		{"PUT", asJSON, update, nil},
		{"PATCH", asJSON, `{"container_request":` + update + `}`, nil},
		{"POST", asForm, "_method=PUT&container_request=" + url.QueryEscape(update), nil},
		{"POST", asJSON, update, []string{"X-Http-Method-Override", "PATCH"}},
	} {
		status, changed := s.send(c, "PATCH", "/"+made.UUID, asJSON, `{"container_image":"arvados/builtin"}`)
		c.Check(status, check.Equals, 200)
		c.Check(changed.ContainerImage, check.Equals, "arvados/builtin")
		status, changed = s.send(c, trial.method, "/"+made.UUID, trial.contentType, trial.body, trial.header...)
		c.Check(status, check.Equals, 200, check.Commentf("%v", trial))
		c.Check(changed.ContainerImage, check.Equals, s.pdh, check.Commentf("%v", trial))
	}
}

// What cannot be resolved is answered by the API server as ever.
func (s *clusterSuite) TestTheServerAnswersForTheRest(c *check.C) {
	for _, name := range []string{"lab/app:2", "Lab/App:1", "sha256:ff", "admin/private:1", "user:secret@lab/app", s.pdh, "arvados/builtin"} {
		status, made := s.send(c, "POST", "", "application/json", container(name, ""))
		c.Check(status, check.Equals, 200)
		c.Check(made.ContainerImage, check.Equals, name)
	}
	c.Check(strings.Contains(s.log.String(), "user:secret"), check.Equals, false)
	status, _ := s.send(c, "POST", "", "application/json", container("admin/private:1", `,"state":"Committed","priority":1`))
	c.Check(status, check.Equals, 422)
	status, _ = s.send(c, "POST", "", "application/json", container("lab/app:1", ""), "Authorization", "Bearer wrong")
	c.Check(status, check.Equals, 401)
}

// The container of a request by name runs the image.
func (s *clusterSuite) TestCommitted(c *check.C) {
	status, made := s.send(c, "POST", "", "application/json", container("lab/app:1", `,"state":"Committed","priority":1`))
	c.Assert(status, check.Equals, 200)
	var ctr arvados.Container
	err := s.cluster.UserClient(localcluster.User).RequestAndDecodeContext(context.Background(), &ctr, "GET", "arvados/v1/containers/"+made.ContainerUUID, nil, nil)
	c.Assert(err, check.IsNil)
	c.Check(ctr.ContainerImage, check.Equals, s.pdh)
}
