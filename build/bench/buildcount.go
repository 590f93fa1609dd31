// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
)

// apiProxy passes API calls on, and notes those that a container's work makes:
// with the container's token, from when it is Running until its output
// collection is made. Calls with the dispatcher's token (state, log, status)
// are not the work's.
type apiProxy struct {
	server *httptest.Server
	next   *httputil.ReverseProxy

	mutex sync.Mutex
	works bool
	calls []string
}

// startAPIProxy puts a proxy before the API server for all who come after.
func startAPIProxy(c *cluster) *apiProxy {
	p := &apiProxy{next: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: c.APIAddress})}
	p.next.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // made up for this run
	p.server = httptest.NewTLSServer(p)
	c.APIAddress = p.server.Listener.Addr().String()
	return p
}

func (p *apiProxy) stop() { p.server.Close() }

// taken are the calls noted since it was last asked.
func (p *apiProxy) taken() []string {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	calls := p.calls
	p.works, p.calls = false, nil
	return calls
}

func (p *apiProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.note(r)
	p.next.ServeHTTP(w, r)
}

func (p *apiProxy) note(r *http.Request) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	method := r.Method
	if meant := r.Header.Get("X-Http-Method-Override"); meant != "" {
		method = meant
	}
	resource, id, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/arvados/v1/"), "/")
	// v2/uuid/secret, and the container's uuid only in its own token
	ofContainer := strings.Count(r.Header.Get("Authorization"), "/") == 3
	switch {
	case !ofContainer:
		// The first change that crunch-run makes of the record is to Running.
		p.works = p.works || method == http.MethodPut && resource == "containers"
	case method == http.MethodPost && resource == "collections":
		p.works = false
	case p.works && id != "":
		p.calls = append(p.calls, method+" "+resource+"/...")
	case p.works:
		p.calls = append(p.calls, method+" "+resource)
	}
}

// engineProxy passes connections on to the Docker Engine, and counts them.
type engineProxy struct {
	host        string // for the site file
	connections atomic.Int64
	listener    *net.UnixListener
}

// engineHost is where build/need-engine has the engine, the default of the site
// file and of the docker CLI.
const (
	engineHost   = "unix://" + engineSocket
	engineSocket = "/var/run/docker.sock"
)

func startEngineProxy(path string) (*engineProxy, error) {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	p := &engineProxy{host: "unix://" + path, listener: listener}
	go func() {
		for {
			conn, err := listener.AcceptUnix()
			if err != nil {
				return // it was stopped
			}
			p.connections.Add(1)
			go pass(conn)
		}
	}()
	return p, nil
}

func (p *engineProxy) stop() { p.listener.Close() }

// pass connects conn to the engine until both sides have sent everything.
func pass(conn *net.UnixConn) {
	defer conn.Close()
	engine, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: engineSocket, Net: "unix"})
	if err != nil {
		return
	}
	defer engine.Close()
	var both sync.WaitGroup
	for _, way := range []struct{ to, from *net.UnixConn }{{conn, engine}, {engine, conn}} {
		both.Go(func() {
			io.Copy(way.to, way.from)
			way.to.CloseWrite()
		})
	}
	both.Wait()
}
