// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun_test

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imagesource/engine"
	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&lifeSuite{})

// lifeSuite follows containers from Locked to their ends.
type lifeSuite struct {
	*stage
	registry *registrytest.Server
	site     builtin.Site
}

func (s *lifeSuite) SetUpSuite(c *check.C) {
	arvadosclient.RetryDelay = 10 * time.Millisecond // else each failure is sat out for minutes
}

func (s *lifeSuite) SetUpTest(c *check.C) {
	s.stage = newStage(c)
	s.open(c)
}

// open makes a registry with the image app:1, and a site that allows it.
func (s *lifeSuite) open(c *check.C) {
	s.registry = registrytest.New()
	s.registry.Push("app:1", app)
	var err error
	s.site, err = builtin.ParseSite([]byte(`{pull: {source: registry, registries: ["127.0.0.1:*"]}}`))
	c.Assert(err, check.IsNil)
}

func (s *lifeSuite) TearDownTest(c *check.C) {
	s.registry.Close()
	s.close(c)
}

// atOnce calls do for each of n rows of a table, some at the same time, since they
// wait most of the time. row has a cluster and a registry of its own.
func (s *lifeSuite) atOnce(c *check.C, n int, do func(i int, row *lifeSuite)) {
	var all sync.WaitGroup
	defer all.Wait()
	turns := make(chan struct{}, 4)
	for i := range n {
		turns <- struct{}{}
		row := &lifeSuite{stage: startStage(c, s.tmp)}
		row.open(c)
		all.Go(func() {
			defer func() {
				row.registry.Close()
				c.Check(row.Stop(), check.IsNil)
				<-turns
			}()
			do(i, row)
		})
	}
}

func (s *lifeSuite) pull(c *check.C, name string) ending {
	cr := s.submit(c, []string{"docker", "pull", s.registry.Host() + "/" + name}, nil)
	return s.run(context.Background(), c, cr, s.site)
}

// A good end: everything that a user or another program looks for.
func (s *lifeSuite) TestComplete(c *check.C) {
	e := s.pull(c, "app:1")
	c.Assert(e.runError, check.IsNil)
	c.Check(e.ctr.State, check.Equals, arvados.ContainerStateComplete)
	c.Check(e.ctr.RuntimeStatus, check.HasLen, 0)
	c.Assert(e.output, check.NotNil)
	c.Check(e.output.PortableDataHash, check.Equals, e.ctr.Output)
	c.Check(e.output.IsTrashed, check.Equals, false)
	p := dockerimage.ParseProperties(e.output.Properties)
	c.Check(p.RepoTags, check.DeepEquals, []string{s.registry.Host() + "/app:1"})
	c.Check(p.PDH, check.Equals, e.ctr.Output)
	c.Check(p.Platform, check.Equals, "linux/amd64")
	c.Check(p.Layers, check.DeepEquals, []string{app.Layers[0].Digest})
	c.Check(e.output.ManifestText, check.Matches, `\. \S+( \S+)* 0:\d+:`+strings.Replace(p.Hash, ":", `\\072`, 1)+`\.tar\n`)
	c.Check(e.output.Properties["container_request"], check.Equals, e.cr.UUID)

	names := []string{}
	for name := range e.logs {
		if !strings.Contains(name, "/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	c.Check(names, check.DeepEquals, []string{"container.json", "crunch-run.txt", "node.json", "stderr.txt", "stdout.txt"})
	c.Check(e.logs["container.json"], check.Matches, `(?s)\{\n    ".*"uuid": "`+e.ctr.UUID+`".*`)
	c.Check(e.logs["node.json"], check.Equals, `{"ProviderType":"test"}`)
	c.Check(e.logs["stderr.txt"], check.Equals, "")
	c.Check(e.logs["stdout.txt"], check.Matches, `(?s).*app:1: pulling linux/amd64\n.*Digest: sha256:.*Status: in Keep as `+regexp.QuoteMeta(e.ctr.Output)+`.*`)

	// The image is what was in the registry, byte by byte.
	report, err := dockerimage.Validate(context.Background(), s.keep(c), e.output.ManifestText, dockerimage.ParseProperties(e.output.Properties))
	c.Assert(err, check.IsNil)
	c.Check(report.Problems, check.HasLen, 0)
}

// The same image pulled in another cluster, on another day, has the same
// portable data hash; pulled again here, nothing is downloaded or stored.
func (s *lifeSuite) TestSameImageSameHash(c *check.C) {
	first := s.pull(c, "app:1")
	sent := s.registry.Sent("/blobs/" + app.Layers[0].Digest)
	again := s.pull(c, "app:1")
	c.Check(again.ctr.Output, check.Equals, first.ctr.Output)
	c.Check(s.registry.Sent("/blobs/"+app.Layers[0].Digest), check.Equals, sent)

	other := newStage(c)
	defer other.close(c)
	cr := other.submit(c, []string{"docker", "pull", s.registry.Host() + "/app:1"}, nil)
	c.Check(other.run(context.Background(), c, cr, s.site).ctr.Output, check.Equals, first.ctr.Output)
}

// A site that names images by their manifests gets new ones so, also of images that
// it has under the other name: the blocks are there, the collection is a new one.
func (s *lifeSuite) TestNamedByManifest(c *check.C) {
	first := s.pull(c, "app:1")
	s.site.ImageID = dockerimage.ByManifest
	for _, e := range []ending{s.pull(c, "app:1"), s.pull(c, "app:1")} {
		c.Assert(e.runError, check.IsNil)
		c.Check(e.output.Properties["docker-image-hash"], check.Equals, app.Digests[0])
		c.Check(e.output.ManifestText, check.Matches, `.*:`+strings.Replace(app.Digests[0], ":", `\\072`, 1)+`\.tar\n`)
		c.Check(e.ctr.Output, check.Not(check.Equals), first.ctr.Output)
	}
}

// A layer in another's collection that is not what its properties say is
// found out, named, and fetched from the registry instead.
func (s *lifeSuite) TestPoisonedLayer(c *check.C) {
	wrong := randomimage.Layer(99, app.Layers[0].Size, imagetar.Gzip)
	s.registry.Push("wrong:1", randomimage.Of(wrong))
	poison := s.pull(c, "wrong:1").output
	poison.Properties["arv:docker-image-layers"] = []string{app.Layers[0].Digest}
	c.Assert(s.user.RequestAndDecode(nil, "PATCH", "arvados/v1/collections/"+poison.UUID, nil,
		attrs{"collection": attrs{"properties": poison.Properties}}), check.IsNil)

	e := s.pull(c, "app:1")
	c.Check(e.ctr.State, check.Equals, arvados.ContainerStateComplete)
	c.Check(e.exit, check.Equals, 0.0)
	c.Check(e.logs["crunch-run.txt"], check.Matches, `(?s).*warning: .*`+poison.UUID+`.*`)
	report, err := dockerimage.Validate(context.Background(), s.keep(c), e.output.ManifestText, dockerimage.ParseProperties(e.output.Properties))
	c.Assert(err, check.IsNil)
	c.Check(report.Problems, check.HasLen, 0)
}

func (s *lifeSuite) TestSeveralAtOnceOnANode(c *check.C) {
	var all sync.WaitGroup
	endings := make([]ending, 4)
	for i := range endings {
		cr := s.submit(c, []string{"docker", "pull", s.registry.Host() + "/app:1"}, nil)
		all.Go(func() { endings[i] = s.run(context.Background(), c, cr, s.site) })
	}
	all.Wait()
	for _, e := range endings {
		c.Check(e.ctr.State, check.Equals, arvados.ContainerStateComplete)
		c.Check(e.ctr.Output, check.Equals, endings[0].ctr.Output)
	}
	c.Check(s.visible(c), check.HasLen, 4)
}

// stageOf is a request of a run without what differs from run to run.
var varying = regexp.MustCompile(`x\w{4}-\w{5}-\w{15}|\?.*|[0-9a-f]{32}.*`)

func stageOf(line string) string { return varying.ReplaceAllString(line, "*") }

// stages are the different requests of a good run, in order.
func (s *lifeSuite) stages(c *check.C) (all []string) {
	s.seen = nil
	cr := s.submit(c, []string{"docker", "pull", s.registry.Host() + "/app:1"}, nil)
	start := len(s.seen) + 1 // after the lock
	s.run(context.Background(), c, cr, s.site)
	for _, line := range s.seen[start:] {
		if name := stageOf(line); !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	end := slices.Index(all, "api GET /arvados/v1/container_requests/*")
	c.Assert(end > 10, check.Equals, true, check.Commentf("%q", all))
	return all[:end]
}

func pattern(name string) string {
	return "^" + strings.ReplaceAll(regexp.QuoteMeta(name), `\*`, ".*") + "$"
}

// Whatever request fails for good, the container is either untouched, so that
// the dispatcher tries again, or Cancelled, so that Arvados does; Running is
// left to the dispatcher only if the final update itself is what fails.
func (s *lifeSuite) TestEachRequestFails(c *check.C) {
	all := s.stages(c)
	s.atOnce(c, len(all), func(i int, s *lifeSuite) {
		name, code := all[i], http.StatusInternalServerError
		if strings.Contains(name, "/keep_services/") {
			code = http.StatusForbidden // else the SDK tries for a minute, whoever asks
		}
		cr := s.submit(c, []string{"docker", "pull", s.registry.Host() + "/app:1"}, nil)
		s.fail(pattern(name), -1, status(code))
		e := s.run(context.Background(), c, cr, s.site)
		about := check.Commentf("%s fails: %s, %v, %v", name, e.ctr.State, e.ctr.RuntimeStatus, e.runError)
		c.Log(about.CheckCommentString())
		switch e.ctr.State {
		case arvados.ContainerStateLocked:
			c.Check(e.runError, check.NotNil, about)
			c.Check(e.ctr.Log, check.Equals, "", about)
		case arvados.ContainerStateRunning:
			c.Check(e.runError, check.NotNil, about)
			c.Check(name, check.Equals, "api PUT /arvados/v1/containers/*")
		case arvados.ContainerStateCancelled:
			c.Check(e.runError, check.IsNil, about)
			c.Check(e.exit, check.IsNil, about)
		case arvados.ContainerStateComplete: // could do without
			c.Check(e.runError, check.IsNil, about)
			c.Check(e.output, check.NotNil, about)
			return
		default:
			c.Error(about.CheckCommentString())
		}
		c.Check(s.visible(c), check.HasLen, 0, about)
	})
}

// A request that fails once is tried again, whichever it is.
func (s *lifeSuite) TestEachRequestFailsOnce(c *check.C) {
	for _, name := range s.stages(c) {
		cr := s.submit(c, []string{"docker", "pull", s.registry.Host() + "/app:1"}, nil)
		s.fail(pattern(name), 1, status(503))
		e := s.run(context.Background(), c, cr, s.site)
		c.Check(e.ctr.State, check.Equals, arvados.ContainerStateComplete, check.Commentf("%s fails once: %v", name, e.runError))
	}
}

// A signal at any stage ends the container: untouched before Running,
// Cancelled after it. Once the work is done and its log is being saved, it is
// too late.
func (s *lifeSuite) TestStoppedAtEachStage(c *check.C) {
	all := s.stages(c)
	running := slices.Index(all, "api PUT /arvados/v1/containers/*")
	all = slices.DeleteFunc(all, func(name string) bool { return name == "api PUT /arvados/v1/collections/*" })
	for i, name := range append(all, "registry /manifests/", "registry /blobs/"+app.Layers[0].Digest) {
		s.TearDownTest(c)
		s.SetUpTest(c)
		cr := s.submit(c, []string{"docker", "pull", s.registry.Host() + "/app:1"}, nil)
		ctx, stop := context.WithCancelCause(context.Background())
		caught := errors.New("caught signal: terminated")
		if part, ok := strings.CutPrefix(name, "registry "); ok {
			s.registry.Script(part, func(w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
				stop(caught)
				<-r.Context().Done() // it would go on for ever
			})
		} else {
			s.fail(pattern(name), 1, func(w http.ResponseWriter, r *http.Request) {
				stop(caught)
				status(503)(w, r)
			})
		}
		e := s.run(ctx, c, cr, s.site)
		about := check.Commentf("stopped at %s: %s, %v", name, e.ctr.State, e.runError)
		c.Log(about.CheckCommentString())
		if i <= running {
			c.Check(e.ctr.State, check.Equals, arvados.ContainerStateLocked, about)
			c.Check(e.runError, check.NotNil, about)
		} else {
			c.Check(e.ctr.State, check.Equals, arvados.ContainerStateCancelled, about)
			c.Check(e.runError, check.IsNil, about)
			c.Check(e.logs["crunch-run.txt"], check.Matches, `(?s).*Z stopping container: caught signal: terminated\n.*Z Cancelled\n`, about)
		}
		c.Check(e.exit, check.IsNil, about)
		c.Check(s.visible(c), check.HasLen, 0, about)
	}
}

func (s *lifeSuite) TestNotLocked(c *check.C) {
	cr := s.submit(c, []string{"docker", "pull", s.registry.Host() + "/app:1"}, nil)
	e := s.run(context.Background(), c, cr, s.site)
	c.Check(e.ctr.State, check.Equals, arvados.ContainerStateComplete)
	again := s.rerun(c, cr, s.site)
	c.Check(again, check.ErrorMatches, `.*dispatch error detected: container "`+cr.ContainerUUID+`" has state "Complete"`)
}

func (s *lifeSuite) TestMaxRunTime(c *check.C) {
	s.registry.Always("/blobs/"+app.Layers[0].Digest, registrytest.Stall(mib))
	cr := s.submit(c, []string{"docker", "pull", s.registry.Host() + "/app:1"}, attrs{"scheduling_parameters": attrs{"max_run_time": 1}})
	e := s.run(context.Background(), c, cr, s.site)
	c.Check(e.ctr.State, check.Equals, arvados.ContainerStateCancelled)
	c.Check(e.problem, check.Matches, `request: run scheduling_parameters.max_run_time: maximum run time exceeded .*`)
}

// A node whose engine cannot be reached is broken; one where something else fails
// is not.
func (s *lifeSuite) TestBrokenNode(c *check.C) {
	s.site.Engine.Host = "unix://" + c.MkDir() + "/none"
	s.failLargeBlocks(-1, status(http.StatusInsufficientStorage))
	e := s.pull(c, "app:1")
	c.Check(e.ctr.State, check.Equals, arvados.ContainerStateCancelled)
	c.Check(s.broken, check.HasLen, 0)

	cr := s.submit(c, []string{"docker", "build", "-t", "x:1"}, attrs{"mounts": attrs{
		"/out":        attrs{"kind": "tmp"},
		"/Dockerfile": attrs{"kind": "text", "content": "FROM scratch\nCOPY Dockerfile /\n"},
	}})
	e = s.run(context.Background(), c, cr, s.site)
	c.Check(e.ctr.State, check.Equals, arvados.ContainerStateCancelled)
	c.Check(e.problem, check.Matches, `engine: .*/none.*`)
	c.Assert(s.broken, check.HasLen, 1)
	c.Check(errors.Is(s.broken[0], engine.ErrUnreachable), check.Equals, true)
}
