// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&againSuite{})

// againSuite is about pulls of images that are in Keep already.
type againSuite struct{ fixture }

// cost is what a pull takes that finds the image: requests to the registry and to
// the cluster.
func (s *againSuite) cost(c *check.C, args ...string) (r result, registry, cluster []string) {
	before := len(s.registry.Requests(""))
	s.asked()
	r = s.result(c, append([]string{"pull"}, args...)...)
	c.Check(r.Existed, check.Equals, true)
	for _, request := range s.registry.Requests("")[before:] {
		registry = append(registry, request.Method+" "+request.Path)
	}
	return r, registry, s.asked()
}

var twoOfAPI = []string{"api GET /arvados/v1/users/current", "api GET /arvados/v1/collections"}

// Two requests to either side are enough.
func (s *againSuite) TestRequests(c *check.C) {
	var project arvados.Group
	c.Assert(s.user.RequestAndDecode(&project, "POST", "arvados/v1/groups", nil, attrs{"group": attrs{"name": "p", "group_class": "project"}}), check.IsNil)
	image := randomimage.New(1, 5*mib, 4096)
	digest := s.registry.Push("lab/tool:1", image)
	index := s.registry.PushIndex("lab/tool:many", registrytest.Entry{Platform: "linux/amd64", Image: image})
	host := s.registry.Host()
	for _, trial := range []struct {
		args     []string
		registry []string
	}{
		{[]string{host + "/lab/tool:1"}, []string{"GET /v2/", "HEAD /v2/lab/tool/manifests/1"}},
		{[]string{host + "/lab/tool@" + digest}, nil},
		{[]string{"--project", project.UUID, host + "/lab/tool:many"}, []string{"GET /v2/", "HEAD /v2/lab/tool/manifests/many"}},
		{[]string{"--project", project.UUID, host + "/lab/tool@" + index}, nil},
		{[]string{"--project", project.UUID, "--platform", "linux/amd64", host + "/lab/tool:many"}, []string{"GET /v2/", "HEAD /v2/lab/tool/manifests/many"}},
	} {
		s.run(c, append([]string{"pull"}, trial.args...)...)
		_, registry, cluster := s.cost(c, trial.args...)
		c.Check(registry, check.DeepEquals, trial.registry, check.Commentf("%q", trial.args))
		c.Check(cluster, check.DeepEquals, twoOfAPI, check.Commentf("%q", trial.args))
	}
	// With more to ask about, it still is no container: another tag of the
	// image, in an index that was not pulled.
	s.registry.PushIndex("lab/tool:more", registrytest.Entry{Platform: "linux/amd64", Image: image}, registrytest.Entry{Attestation: true, Image: image})
	r, _, _ := s.cost(c, host+"/lab/tool:more")
	c.Check(r.Names, check.DeepEquals, []string{host + "/lab/tool:1", host + "/lab/tool:more"})
}

// forPlatform is img for another architecture.
func forPlatform(img imagetar.Image, arch string) imagetar.Image {
	digest := func(content []byte) []byte { return fmt.Appendf(nil, "%x", sha256.Sum256(content)) }
	before := digest(img.Config)
	img.Config = bytes.Replace(img.Config, []byte("amd64"), []byte(arch), 1)
	img.Manifest = bytes.Replace(img.Manifest, before, digest(img.Config), 1)
	return img
}

// One index has images for several platforms.
func (s *againSuite) TestPlatforms(c *check.C) {
	image := randomimage.New(1, 4096)
	s.registry.PushIndex("lab/tool:1", registrytest.Entry{Platform: "linux/arm64", Image: forPlatform(image, "arm64")},
		registrytest.Entry{Platform: "linux/amd64", Image: image})
	name := s.registry.Host() + "/lab/tool:1"
	arm := s.result(c, "pull", "--platform", "linux/arm64", name)
	c.Check(arm.Platform, check.Equals, "linux/arm64")
	amd := s.result(c, "pull", "--platform", "linux/amd64", name)
	c.Check(amd.Existed, check.Equals, false)
	c.Check(amd.Platform, check.Equals, "linux/amd64")
	for platform, want := range map[string]result{"linux/arm64/v8": arm, "linux/aarch64": arm, "linux/x86_64": amd, "linux/amd64": amd} {
		r, _, cluster := s.cost(c, "--platform", platform, name)
		c.Check(r.Collection, check.Equals, want.Collection, check.Commentf("%s", platform))
		c.Check(cluster, check.DeepEquals, twoOfAPI)
	}
	// The index has no image for just this platform, so the one that is to be
	// taken has to be asked for.
	r, _, _ := s.cost(c, "--platform", "linux/arm64/v9", name)
	c.Check(r.Collection, check.Equals, arm.Collection)
}

// olderServer makes the API server one that looks for links.
func (s *againSuite) olderServer() {
	s.refuse = func(r *http.Request) int {
		if strings.HasSuffix(r.URL.Path, "/config") {
			return http.StatusNotFound
		}
		return 0
	}
}

func (s *againSuite) TestLinks(c *check.C) {
	s.olderServer()
	s.registry.Push("lab/tool:1", randomimage.New(1, 4096))
	name := s.registry.Host() + "/lab/tool:1"
	first := s.result(c, "pull", name)
	links := s.links(c, first.Collection)
	c.Check(links, check.DeepEquals, []string{"docker_image_hash " + first.Image, "docker_image_repo+tag " + name})
	// They are not looked for again.
	_, _, cluster := s.cost(c, name)
	c.Check(cluster, check.DeepEquals, twoOfAPI)

	// But where nobody has seen to them, they are made.
	s.forget(c, first.Collection)
	_, _, _ = s.cost(c, name)
	c.Check(s.links(c, first.Collection), check.DeepEquals, links)
	_, _, cluster = s.cost(c, name)
	c.Check(cluster, check.DeepEquals, twoOfAPI)

	// A name that is added gets its link, too; for it this is the first time.
	s.registry.Push("lab/tool:2", randomimage.New(1, 4096))
	second := s.registry.Host() + "/lab/tool:2"
	_, _, _ = s.cost(c, second)
	c.Check(s.links(c, first.Collection), check.DeepEquals, append(links, "docker_image_repo+tag "+second))
	_, _, cluster = s.cost(c, second)
	c.Check(cluster, check.DeepEquals, twoOfAPI)

	// Asked to, it looks however that is.
	s.forget(c, first.Collection)
	_, _, _ = s.cost(c, "--links=never", name)
	c.Check(s.links(c, first.Collection), check.HasLen, 0)
	_, _, _ = s.cost(c, "--links=always", name)
	c.Check(s.links(c, first.Collection), check.HasLen, 3)
}

// forget removes the links to a collection, and what says that they are there.
func (s *againSuite) forget(c *check.C, uuid string) {
	var list arvados.LinkList
	c.Assert(s.user.RequestAndDecode(&list, "GET", "arvados/v1/links", nil, attrs{"filters": [][]string{{"head_uuid", "=", uuid}}}), check.IsNil)
	for _, link := range list.Items {
		c.Assert(s.user.RequestAndDecode(nil, "DELETE", "arvados/v1/links/"+link.UUID, nil, nil), check.IsNil)
	}
	properties := s.collection(c, uuid).Properties
	delete(properties, keyLinks)
	c.Assert(s.user.RequestAndDecode(nil, "PUT", "arvados/v1/collections/"+uuid, nil, attrs{"collection": attrs{"properties": properties}}), check.IsNil)
}

// Whoever does not wait for a pull gets the links with the next one.
func (s *againSuite) TestLinksAfterNoWait(c *check.C) {
	s.olderServer()
	s.registry.Push("lab/tool:1", randomimage.New(1, 4096))
	name := s.registry.Host() + "/lab/tool:1"
	uuid := strings.TrimSpace(s.run(c, "pull", "--no-wait", name).out)
	var cr arvados.ContainerRequest
	for deadline := time.Now().Add(30 * time.Second); cr.State != arvados.ContainerRequestStateFinal; time.Sleep(50 * time.Millisecond) {
		c.Assert(time.Now().Before(deadline), check.Equals, true)
		c.Assert(s.user.RequestAndDecode(&cr, "GET", "arvados/v1/container_requests/"+uuid, nil, nil), check.IsNil)
	}
	c.Check(s.links(c, cr.OutputUUID), check.HasLen, 0)
	r, _, _ := s.cost(c, name)
	c.Check(r.Collection, check.Equals, cr.OutputUUID)
	c.Check(s.links(c, cr.OutputUUID), check.HasLen, 2)
}

// An image in a project that the user cannot write to can be used all the same.
func (s *againSuite) TestLinksThatCannotBeWritten(c *check.C) {
	s.olderServer()
	s.registry.Push("lab/tool:1", randomimage.New(1, 4096))
	name := s.registry.Host() + "/lab/tool:1"
	first := s.result(c, "pull", name)
	s.forget(c, first.Collection)
	s.refuse = func(r *http.Request) int {
		switch {
		case strings.HasSuffix(r.URL.Path, "/config"):
			return http.StatusNotFound
		case r.Method == http.MethodPost || r.Method == http.MethodPut:
			return http.StatusForbidden
		}
		return 0
	}
	a := s.run(c, "pull", "-q", name)
	c.Check(a.out, check.Equals, first.PortableDataHash+"\n")
	c.Check(a.err, check.Matches, `image \S+ is in collection `+first.Collection+`, but its link "\S+" cannot be written: .*403 Forbidden.*\n`)
}
