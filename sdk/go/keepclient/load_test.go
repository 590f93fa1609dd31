// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
	"golang.org/x/sync/errgroup"
	. "gopkg.in/check.v1"
)

type LoadSuite struct{}

var _ = Suite(&LoadSuite{})

// store is a Keep service that has one block and counts its connections.
type store struct {
	*httptest.Server
	block       []byte
	connections atomic.Int32
}

func newStore(block []byte, tls bool) *store {
	s := &store{block: block}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	if tls {
		s.StartTLS()
	} else {
		s.Start()
	}
	return s
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%s+%d+Asigned@ffffffff", r.URL.Path[1:], n)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(s.block)))
	w.Write(s.block)
}

func (s *store) client(uris ...string) *KeepClient {
	return &KeepClient{Arvados: &arvadosclient.ArvadosClient{KeepServiceURIs: append(uris, s.URL), ApiInsecure: true}, Want_replicas: 1}
}

func (*LoadSuite) TestManyAtOnceOverFewConnections(c *C) {
	const workers, rounds = 8, 20
	for _, tls := range []bool{false, true} {
		s := newStore(long, tls)
		kc := s.client()
		var group errgroup.Group
		for worker := range workers {
			group.Go(func() error {
				for round := range rounds {
					data := fmt.Appendf(nil, "%d/%d", worker, round)
					resp, err := kc.BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: data})
					if err != nil {
						return err
					}
					if !strings.HasPrefix(resp.Locator, locatorOf(data)+"+A") {
						return fmt.Errorf("%s stored as %s", data, resp.Locator)
					}
					var out bytes.Buffer
					if _, err := kc.BlockRead(context.Background(), arvados.BlockReadOptions{Locator: locatorOf(long), WriteTo: &out}); err != nil {
						return err
					}
				}
				return nil
			})
		}
		c.Check(group.Wait(), IsNil)
		// The transport may dial while another connection becomes free.
		c.Check(int(s.connections.Load()) <= 2*workers, Equals, true, Commentf("%d connections", s.connections.Load()))
		kc.pool.CloseIdleConnections()
		s.Close()
	}
}

// A connection that the service has closed meanwhile is no failure.
func (*LoadSuite) TestClosedConnections(c *C) {
	s := newStore(long, false)
	defer s.Close()
	kc := s.client()
	kc.Retries = 0
	for range 5 {
		_, err := kc.BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: []byte("foo"), Attempts: 2})
		c.Check(err, IsNil)
		s.CloseClientConnections()
	}
}

// A block is not held in memory while it is read, nor copied while it is
// written.
func (*LoadSuite) TestMemory(c *C) {
	data := make([]byte, BLOCKSIZE)
	s := newStore(data, false)
	defer s.Close()
	kc := s.client()
	locator := locatorOf(data)
	for name, operation := range map[string]func() error{
		"read": func() error {
			_, err := kc.BlockRead(context.Background(), arvados.BlockReadOptions{Locator: locator, WriteTo: io.Discard})
			return err
		},
		"read a part": func() error {
			_, err := kc.ReadAt(locator, make([]byte, 100), 1000)
			return err
		},
		"write": func() error {
			_, err := kc.BlockWrite(context.Background(), arvados.BlockWriteOptions{Data: data})
			return err
		},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c.Check(operation(), IsNil, Commentf(name))
		runtime.ReadMemStats(&after)
		used := after.TotalAlloc - before.TotalAlloc
		c.Check(used < BLOCKSIZE/8, Equals, true, Commentf("%s: %d bytes", name, used))
	}
}
