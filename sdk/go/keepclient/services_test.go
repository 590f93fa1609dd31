// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
	. "gopkg.in/check.v1"
)

type ServicesSuite struct {
	server *httptest.Server
	// What the API server answers, by path; "" is a refusal.
	answers map[string]string
	listed  atomic.Int32
}

var _ = Suite(&ServicesSuite{})

const listPath = "/arvados/v1/keep_services/accessible"

func (s *ServicesSuite) SetUpTest(c *C) {
	s.listed.Store(0)
	s.answers = map[string]string{
		"/discovery/v1/apis/arvados/v1/rest": `{"defaultCollectionReplication":3}`,
		"/arvados/v1/config": `{"StorageClasses":{"ssd":{"Default":true},"archive":{"Default":false},
			"default":{"Default":true},"odd":7}}`,
		listPath: `{"items":[{"uuid":"zzzzz-bi6l4-000000000000000","service_host":"keep0","service_port":25107,"service_type":"disk"}]}`,
	}
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == listPath {
			s.listed.Add(1)
		}
		if text := s.answers[r.URL.Path]; text != "" {
			io.WriteString(w, text)
			return
		}
		w.WriteHeader(404)
	}))
}

func (s *ServicesSuite) TearDownTest(c *C) { s.server.Close() }

func (s *ServicesSuite) arvados(c *C) *arvadosclient.ArvadosClient {
	arv, err := arvadosclient.New(&arvados.Client{Scheme: "http", APIHost: strings.TrimPrefix(s.server.URL, "http://"), AuthToken: token})
	c.Assert(err, IsNil)
	return arv
}

func (s *ServicesSuite) TestDefaultsOfTheCluster(c *C) {
	kc := New(s.arvados(c))
	c.Check(kc.Want_replicas, Equals, 3)
	c.Check(kc.DefaultStorageClasses, DeepEquals, []string{"default", "ssd"})
	c.Check(kc.Retries, Equals, 2)
	c.Check(s.listed.Load(), Equals, int32(0), Commentf("services are asked for when they are needed"))
}

func (s *ServicesSuite) TestAClusterThatTellsNothing(c *C) {
	for _, trial := range []struct{ discovery, config string }{
		{"", ""}, {`{}`, `{}`}, {`{"defaultCollectionReplication":"2"}`, `{"StorageClasses":[]}`},
		{`{"defaultCollectionReplication":0}`, `{"StorageClasses":{"default":{}}}`},
	} {
		s.answers["/discovery/v1/apis/arvados/v1/rest"] = trial.discovery
		s.answers["/arvados/v1/config"] = trial.config
		kc := New(s.arvados(c))
		c.Check(kc.Want_replicas, Equals, 2)
		c.Check(kc.DefaultStorageClasses, IsNil)
	}
}

func (s *ServicesSuite) TestTheListIsKeptForAWhile(c *C) {
	kc, err := MakeKeepClient(s.arvados(c))
	c.Assert(err, IsNil)
	want := map[string]string{"zzzzz-bi6l4-000000000000000": "http://keep0:25107"}
	c.Check(kc.LocalRoots(), DeepEquals, want)
	c.Check(kc.WritableLocalRoots(), DeepEquals, want)
	c.Check(s.listed.Load(), Equals, int32(1))

	s.answers[listPath] = strings.ReplaceAll(s.answers[listPath], "keep0", "keep1")
	kc.knownSince = time.Now().Add(-servicesValid)
	c.Check(kc.LocalRoots()["zzzzz-bi6l4-000000000000000"], Equals, "http://keep1:25107")
	c.Check(s.listed.Load(), Equals, int32(2))

	delete(s.answers, listPath)
	kc.knownSince = time.Now().Add(-servicesValid)
	c.Check(kc.LocalRoots()["zzzzz-bi6l4-000000000000000"], Equals, "http://keep1:25107", Commentf("an old list is better than none"))
	c.Check(s.listed.Load(), Equals, int32(3))
}

func (s *ServicesSuite) TestNoList(c *C) {
	delete(s.answers, listPath)
	kc, err := MakeKeepClient(s.arvados(c))
	c.Check(err, ErrorMatches, "cannot list Keep services: request failed: .*404 Not Found")
	c.Check(kc.LocalRoots(), IsNil)
	_, err = kc.BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: []byte("foo")})
	c.Check(err, ErrorMatches, "cannot list Keep services: .*")
	_, err = kc.BlockRead(context.Background(), arvados.BlockReadOptions{Locator: foo, WriteTo: io.Discard})
	c.Check(err, ErrorMatches, "cannot list Keep services: .*")
	kc = &KeepClient{Arvados: &arvadosclient.ArvadosClient{}}
	_, err = kc.BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: []byte("foo")})
	c.Check(err, ErrorMatches, ".*ARVADOS_API_HOST is not set")
}

func (s *ServicesSuite) TestNoServices(c *C) {
	s.answers[listPath] = `{"items":[]}`
	kc, err := MakeKeepClient(s.arvados(c))
	c.Assert(err, IsNil)
	_, err = kc.BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: []byte("foo")})
	c.Check(err, ErrorMatches, "could not write 3 replicas, only 0: not enough writable Keep services")
	_, err = kc.BlockRead(context.Background(), arvados.BlockReadOptions{Locator: foo, WriteTo: io.Discard})
	c.Check(err, ErrorMatches, `block `+fooHash+`\+3: no Keep services`)
	c.Check(err == error(BlockNotFound), Equals, false)
}

func (s *ServicesSuite) TestServicesOfTheEnvironment(c *C) {
	arv := s.arvados(c)
	arv.KeepServiceURIs = []string{"http://a:1/", "https://b:2"}
	kc, err := MakeKeepClient(arv)
	c.Assert(err, IsNil)
	want := map[string]string{"00000-bi6l4-000000000000000": "http://a:1", "00000-bi6l4-000000000000001": "https://b:2"}
	c.Check(kc.LocalRoots(), DeepEquals, want)
	c.Check(kc.WritableLocalRoots(), DeepEquals, want)
	c.Check(kc.known.proxies, Equals, true)
	c.Check(kc.known.single, Equals, false)
	c.Check(s.listed.Load(), Equals, int32(0))
}

func (s *ServicesSuite) TestKindsOfServices(c *C) {
	service := func(uuid, rest string) string { return fmt.Sprintf(`{"uuid":%q,%s}`, uuid, rest) }
	for _, trial := range []struct {
		about, list     string
		local, writable map[string]string
		proxies, single bool
	}{
		{"disks", service("a", `"service_host":"h","service_port":1,"service_type":"disk"`) + "," +
			service("b", `"service_host":"h","service_port":2,"service_type":"disk","service_ssl_flag":true,"read_only":true`),
			map[string]string{"a": "http://h:1", "b": "https://h:2"}, map[string]string{"a": "http://h:1"}, false, true},
		{"a proxy", service("a", `"service_host":"h","service_port":1,"service_type":"proxy"`),
			map[string]string{"a": "http://h:1"}, map[string]string{"a": "http://h:1"}, true, false},
		{"a proxy that only gives", service("a", `"service_host":"h","service_port":1,"service_type":"disk"`) + "," +
			service("b", `"service_host":"p","service_port":2,"service_type":"proxy","read_only":true`),
			map[string]string{"a": "http://h:1", "b": "http://p:2"}, map[string]string{"a": "http://h:1"}, true, true},
		{"one service twice", service("a", `"service_host":"h","service_port":1,"service_type":"disk"`) + "," +
			service("b", `"service_host":"h","service_port":1,"service_type":"disk"`),
			map[string]string{"a": "http://h:1"}, map[string]string{"a": "http://h:1"}, false, true},
		{"an IPv6 address", service("a", `"service_host":"::1","service_port":1,"service_type":"disk"`) + "," +
			service("b", `"service_host":"[::2]","service_port":1,"service_type":"disk"`),
			map[string]string{"a": "http://[::1]:1", "b": "http://[::2]:1"}, map[string]string{"a": "http://[::1]:1", "b": "http://[::2]:1"}, false, true},
		{"none", "", map[string]string{}, map[string]string{}, false, true},
	} {
		comment := Commentf(trial.about)
		kc := New(s.arvados(c))
		c.Check(kc.LoadKeepServicesFromJSON(`{"items":[`+trial.list+`]}`), IsNil, comment)
		c.Check(kc.LocalRoots(), DeepEquals, trial.local, comment)
		c.Check(kc.WritableLocalRoots(), DeepEquals, trial.writable, comment)
		c.Check(kc.known.proxies, Equals, trial.proxies, comment)
		c.Check(kc.known.single, Equals, trial.single, comment)
	}
	c.Check(s.listed.Load(), Equals, int32(0))
	c.Check(new(KeepClient).LoadKeepServicesFromJSON(`{"items":7}`), ErrorMatches, "json: .*")
}

func (s *ServicesSuite) TestGivenServices(c *C) {
	kc := New(s.arvados(c))
	kc.SetServiceRoots(map[string]string{"a": "http://a"}, map[string]string{"b": "http://b"}, nil)
	c.Check(kc.LocalRoots(), DeepEquals, map[string]string{"a": "http://a"})
	c.Check(kc.WritableLocalRoots(), DeepEquals, map[string]string{"b": "http://b"})
	c.Check(s.listed.Load(), Equals, int32(0))
}

func (s *ServicesSuite) TestConnectionsSuitTheServices(c *C) {
	kc := New(s.arvados(c))
	disks := kc.httpClient(false).(*http.Client)
	c.Check(kc.httpClient(false), Equals, HTTPClient(disks), Commentf("connections are kept"))
	transport := disks.Transport.(*http.Transport)
	c.Check(transport.TLSHandshakeTimeout, Equals, 4*time.Second)
	c.Check(transport.MaxIdleConnsPerHost >= 16, Equals, true)
	c.Check(transport.ReadBufferSize, Equals, pieceSize)
	proxies := kc.httpClient(true).(*http.Client)
	c.Check(proxies.Transport.(*http.Transport).TLSHandshakeTimeout, Equals, 10*time.Second)
	c.Check(timeoutsFor(false), Equals, timeouts{2 * time.Second, 4 * time.Second, 3 * time.Minute, 20 * time.Second})
	c.Check(timeoutsFor(true), Equals, timeouts{30 * time.Second, 10 * time.Second, 2 * time.Minute, 5 * time.Minute})
	kc.HTTPClient = http.DefaultClient
	c.Check(kc.httpClient(true), Equals, HTTPClient(http.DefaultClient))
}
