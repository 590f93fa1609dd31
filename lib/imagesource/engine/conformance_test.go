// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/lib/imagetar"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"go.uber.org/goleak"
	check "gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

// conformance runs against real engines: the node's own, or those that
// ENGINE_HOSTS lists, separated by spaces. They must be able to reach registries
// on this machine's loopback address.
type conformance struct {
	host     string
	engine   *Engine
	info     Info
	registry *testRegistry
	image    testImage // a new one for each test, in app:1
	digest   string    // of its manifest
	ref      imageref.Ref
	before   func(*http.Request) // called before each request to the engine
	ignore   goleak.Option
}

func init() {
	hosts := strings.Fields(os.Getenv("ENGINE_HOSTS"))
	if len(hosts) == 0 {
		hosts = []string{DefaultHost}
	}
	for _, host := range hosts {
		check.Suite(&conformance{host: host})
	}
}

func (s *conformance) SetUpSuite(c *check.C) {
	s.registry = startRegistry(c)
	eng, err := New(s.host)
	c.Assert(err, check.IsNil)
	defer eng.Close()
	s.info, err = eng.Ping(context.Background())
	c.Assert(err, check.IsNil, check.Commentf("these tests need a running Docker Engine: apt-get install docker.io and start dockerd, or name others in ENGINE_HOSTS"))
	c.Logf("engine %s: %+v", s.host, s.info)
}

func (s *conformance) TearDownSuite(c *check.C) { s.registry.Close() }

// What is made by this process, others on the engine do not have.
var (
	count       atomic.Int64
	labelPrefix = fmt.Sprintf("%d-%d-", os.Getpid(), time.Now().UnixNano())
	ownerPrefix = fmt.Sprintf("zzzzz-dz642-%07d", os.Getpid())
)

func newLabel() string { return fmt.Sprint(labelPrefix, count.Add(1)) }

func newOwner() string { return fmt.Sprintf("%s%08d", ownerPrefix, count.Add(1)) }

func (s *conformance) SetUpTest(c *check.C) {
	s.ignore = goleak.IgnoreCurrent()
	s.before = nil
	s.engine = s.connect(c)
	s.image = busyboxImage(c, newLabel(), "linux/amd64")
	s.digest = s.registry.Push(c, "app", "1", s.image)
	s.ref = s.parse(c, "app:1")
	s.registry.Intercept(nil)
}

// TearDownTest sees to it that every test leaves the engine as it was.
func (s *conformance) TearDownTest(c *check.C) {
	s.registry.Intercept(nil)
	checkGone(c, func() []string { return s.leftovers(c) })
	s.engine.Close()
	s.registry.proxy.CloseClientConnections()
	checkNoLeaks(c, s.ignore, goleak.IgnoreAnyFunction("net/http.(*conn).serve"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"))
}

func (s *conformance) parse(c *check.C, name string) imageref.Ref {
	ref, err := imageref.Parse(s.registry.Host + "/" + name)
	c.Assert(err, check.IsNil)
	return ref
}

// connect gives an engine whose requests can be watched and delayed by s.before.
func (s *conformance) connect(c *check.C) *Engine {
	socket, ok := strings.CutPrefix(s.host, "unix://")
	c.Assert(ok, check.Equals, true)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	cli, err := client.NewClientWithOpts(client.WithHost(s.host), client.WithAPIVersionNegotiation(),
		client.WithHTTPClient(&http.Client{Transport: watchedTransport{s, transport}}))
	c.Assert(err, check.IsNil)
	return &Engine{cli: cli}
}

type watchedTransport struct {
	suite *conformance
	*http.Transport
}

func (t watchedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.suite.before != nil {
		t.suite.before(req)
	}
	return t.Transport.RoundTrip(req)
}

// names are the names that images of this test have on the engine, without the
// registry's; <none> is for an image that has only its label.
func (s *conformance) names(c *check.C) []string {
	images, err := s.engine.cli.ImageList(context.Background(), image.ListOptions{})
	c.Assert(err, check.IsNil)
	found := map[string]bool{}
	for _, img := range images {
		all := append(img.RepoTags, img.RepoDigests...)
		for _, name := range all {
			short, pulled := strings.CutPrefix(name, s.registry.Host+"/")
			// The containerd store shows a digest for every tag.
			private := strings.HasPrefix(name, "arvados-builtin/"+ownerPrefix) && !strings.Contains(name, "@")
			if pulled || private {
				found[short] = true
			}
		}
		if (len(all) == 0 || strings.HasPrefix(all[0], "<none>")) && strings.HasPrefix(img.Labels[testLabel], labelPrefix) {
			found["<none>"] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// leftovers are names of images, and containers, of this process.
func (s *conformance) leftovers(c *check.C) []string {
	return append(s.names(c), s.containers(c)...)
}

func (s *conformance) containers(c *check.C) (found []string) {
	containers, err := s.engine.cli.ContainerList(context.Background(), container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", testLabel))})
	c.Assert(err, check.IsNil)
	for _, ctr := range containers {
		if strings.HasPrefix(ctr.Labels[testLabel], labelPrefix) {
			found = append(found, "container "+ctr.ID)
		}
	}
	return found
}

// pull pulls for an owner of its own, and scans the save stream.
func (s *conformance) pull(ctx context.Context, req PullRequest, use func(context.Context, PulledImage) error) (archive imagetar.Archive, err error) {
	if req.Ref == (imageref.Ref{}) {
		req.Ref = s.ref
	}
	if req.Owner == "" {
		req.Owner = newOwner()
	}
	err = s.engine.Pull(ctx, req, func(ctx context.Context, img PulledImage) error {
		stream, err := img.Open(ctx)
		if err != nil {
			return err
		}
		defer stream.Close()
		if archive, err = imagetar.ScanArchive(stream, hashSink{}); err != nil {
			return err
		}
		if use != nil {
			return use(ctx, img)
		}
		return nil
	})
	return archive, err
}
