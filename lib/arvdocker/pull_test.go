// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&pullSuite{})

type pullSuite struct{ fixture }

const mib = 1 << 20

// A pull, as its user sees it, and the second one, which finds the image.
func (s *pullSuite) TestPullTwice(c *check.C) {
	digest := s.registry.Push("lab/tool:1", randomimage.New(1, 5*mib, 4096))
	name := s.registry.Host() + "/lab/tool:1"
	first := s.run(c, "pull", name)
	settled := withoutStates(first.err)
	golden(c, "pull", "$ arv-docker pull "+name+"\n", settled, first.out)

	s.asked()
	second := s.run(c, "pull", name)
	golden(c, "pull-again", "$ arv-docker pull "+name+"\n", second.err, second.out)
	c.Check(s.asked(), check.DeepEquals, []string{"api GET /arvados/v1/users/current", "api GET /arvados/v1/collections"})

	// By digest it is the same; the name stays.
	r := s.result(c, "pull", s.registry.Host()+"/lab/tool@"+digest)
	c.Check(r.Existed, check.Equals, true)
	c.Check(r.Names, check.DeepEquals, []string{name})
	c.Check(r.Request, check.Matches, `x\w{4}-xvhdp-\w{15}`)

	// Another name of the same image is added to it.
	s.registry.Push("lab/tool:latest", randomimage.New(1, 5*mib, 4096))
	other := s.result(c, "pull", s.registry.Host()+"/lab/tool")
	c.Check(other.Existed, check.Equals, true)
	c.Check(other.Collection, check.Equals, r.Collection)
	c.Check(other.Names, check.DeepEquals, []string{name, s.registry.Host() + "/lab/tool:latest"})
	c.Check(other.Properties["arv:docker-image-pdh"], check.Equals, other.PortableDataHash)

	c.Check(s.run(c, "pull", "-q", name).out, check.Equals, r.PortableDataHash+"\n")
	c.Check(s.links(c, r.Collection), check.HasLen, 0) // this server needs none
}

// withoutStates drops what depends on when the client looked.
func withoutStates(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "container x") && (strings.HasPrefix(line, " ") || strings.HasPrefix(line, "container request ")) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// A tag that has moved is pulled again.
func (s *pullSuite) TestTagMoves(c *check.C) {
	name := s.registry.Host() + "/lab/tool:1"
	s.registry.Push("lab/tool:1", randomimage.New(1, 4096))
	first := s.result(c, "pull", "--links=always", name)
	c.Check(s.links(c, first.Collection), check.DeepEquals, []string{"docker_image_hash " + first.Image, "docker_image_repo+tag " + name})
	s.registry.Push("lab/tool:1", randomimage.New(2, 4096))
	second := s.result(c, "pull", name)
	c.Check(second.Existed, check.Equals, false)
	c.Check(second.PortableDataHash, check.Not(check.Equals), first.PortableDataHash)
}

// Once nodes call images by their manifests, what is there is no good: neither an
// image named otherwise, nor a container that has made one.
func (s *pullSuite) TestNamedOtherwise(c *check.C) {
	name := s.registry.Host() + "/lab/tool:1"
	s.registry.Push("lab/tool:1", randomimage.New(1, 4096))
	first := s.result(c, "pull", name)
	again := s.result(c, "pull", "--image-id", "config", name)
	c.Check(again.Existed, check.Equals, true)
	c.Check(again.Collection, check.Equals, first.Collection)
	var request arvados.ContainerRequest
	c.Assert(json.Unmarshal([]byte(s.run(c, "pull", "--image-id", "manifest", "--dry-run", name).out), &request), check.IsNil)
	c.Check(request.UseExisting, check.Equals, false)
}

func (s *pullSuite) TestDryRunAndNoWait(c *check.C) {
	digest := s.registry.Push("lab/tool:1", randomimage.New(1, 5*mib, 4096))
	name := s.registry.Host() + "/lab/tool:1"
	credentials := filepath.Join(c.MkDir(), "config.json")
	c.Assert(os.WriteFile(credentials, []byte(`{"auths":{"registry.example":{"username":"me","password":"`+secretWord+`"}}}`), 0600), check.IsNil)
	dry := s.run(c, "pull", "--dry-run", "--credentials", credentials, name)
	golden(c, "pull-dry-run", "$ arv-docker pull --dry-run --credentials config.json "+name+"\n", strings.ReplaceAll(dry.out, digest, "sha256:…"))
	sized := s.run(c, "pull", "--dry-run", "--ram", "3GiB", "--cores", "5", "--platform", "linux/amd64", name)
	var request arvados.ContainerRequest
	c.Assert(json.Unmarshal([]byte(sized.out), &request), check.IsNil)
	c.Check(request.RuntimeConstraints.RAM, check.Equals, int64(3<<30))
	c.Check(request.RuntimeConstraints.VCPUs, check.Equals, 5)
	c.Check(request.Command, check.DeepEquals, []string{"docker", "pull", "--platform", "linux/amd64", name + "@" + digest})

	uuid := strings.TrimSpace(s.run(c, "pull", "--no-wait", name).out)
	var cr arvados.ContainerRequest
	c.Assert(s.user.RequestAndDecode(&cr, "GET", "arvados/v1/container_requests/"+uuid, nil, nil), check.IsNil)
	c.Check(cr.Command, check.DeepEquals, []string{"docker", "pull", name + "@" + digest})
	c.Check(cr.UseExisting, check.Equals, true)
}

// What the registry does not show here is left to the node, by its tag.
func (s *pullSuite) TestRegistryOutOfReach(c *check.C) {
	a := s.run(c, "pull", "--dry-run", "127.0.0.1:1/lab/tool:1")
	c.Check(a.err, check.Matches, `(?s)127\.0\.0\.1:1/lab/tool:1 is left to the node, since from here it cannot be seen: .*`)
	var request arvados.ContainerRequest
	c.Assert(json.Unmarshal([]byte(a.out), &request), check.IsNil)
	c.Check(request.Command, check.DeepEquals, []string{"docker", "pull", "127.0.0.1:1/lab/tool:1"})
	c.Check(request.UseExisting, check.Equals, false)
}

// A pull that fails on the node: what the container says, and where its log is.
func (s *pullSuite) TestFailsOnTheNode(c *check.C) {
	a := s.callWith(c, call{}, "pull", "localhost:1/lab/tool:1") // not in the node's list
	c.Check(a.code, check.Equals, 1)
	c.Check(a.out, check.Equals, "")
	c.Check(a.err, check.Matches, `(?s).*arv-docker: container request x\w{4}-xvhdp-\w{15}: request: contact registry localhost:1: not connecting.*\(its log is collection x\w{4}-4zz18-\w{15}\)\n`)
}

// Ctrl-C cancels the request.
func (s *pullSuite) TestInterrupted(c *check.C) {
	s.registry.Push("lab/tool:1", randomimage.New(1, 4096))
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	// As soon as it is said that there is a request.
	a := s.callWith(c, call{ctx: ctx, err: writerFunc(func(text string) {
		if strings.HasPrefix(text, "container request ") {
			cancel()
		}
	})}, "pull", s.registry.Host()+"/lab/tool:1")
	c.Check(a.code, check.Equals, 130)
	uuid := strings.Fields(a.err)[2]
	c.Check(a.err, check.Equals, "container request "+uuid+"\ncontainer request "+uuid+" is cancelled\narv-docker: interrupted\n")
	var cr arvados.ContainerRequest
	c.Assert(s.user.RequestAndDecode(&cr, "GET", "arvados/v1/container_requests/"+uuid, nil, nil), check.IsNil)
	c.Check(cr.Priority, check.Equals, 0)
}

type writerFunc func(string)

func (f writerFunc) Write(p []byte) (int, error) {
	f(string(p))
	return len(p), nil
}

// Trouble of the API server while a request is followed is sat out.
func (s *pullSuite) TestServerInTroubleMeanwhile(c *check.C) {
	s.registry.Push("lab/tool:1", randomimage.New(1, 4096))
	failures := 3
	s.refuse = func(r *http.Request) int {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/container_requests/") && failures > 0 {
			failures--
			return http.StatusBadGateway
		}
		return 0
	}
	api := s.UserClient("user")
	api.Timeout = 0 // so that the first failure counts
	a := s.callWith(c, call{api: api}, "pull", "-q", s.registry.Host()+"/lab/tool:1")
	c.Check(a.code, check.Equals, 0, check.Commentf("%s", a.err))
	c.Check(a.err, check.Matches, `(?s).*trying again: api: GET container_requests/.*502 Bad Gateway.*`)
}

func (*pullSuite) TestResources(c *check.C) {
	for _, trial := range []struct{ total, ram, cores int64 }{
		{0, 272 * mib, 1},
		{64 * mib, 272 * mib, 1},
		{64*mib + 1, 352 * mib, 1},
		{900 * mib, 512 * mib, 1},
		{5 << 30, 512 * mib, 2},
	} {
		c.Check(pullResources(trial.total), check.Equals, resources{trial.ram, int(trial.cores)}, check.Commentf("%d", trial.total))
	}
}
