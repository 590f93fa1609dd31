// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"fmt"
	"regexp"
	"strings"

	"gopkg.in/check.v1"
)

var _ = check.Suite(&imageSuite{})

type imageSuite struct{ workSuite }

// imageOf is the image that the container of a user's request gets.
func (w *workplace) imageOf(who client, name string) any {
	return w.containerOf(w.submit(who, Record{"container_image": name}))["container_image"]
}

func (w *workplace) noImage(who client, name string) {
	w.refused(422, regexp.QuoteMeta(fmt.Sprintf("docker image %q not found", name)), who,
		"POST", "container_requests", w.request(Record{"container_image": name}))
}

func named(names any, more Record) Record {
	properties := Record{"docker-image-repo-tag": names}
	for key, value := range more {
		properties[key] = value
	}
	return Record{"properties": properties}
}

func (w *workplace) link(who client, class, name string, collection Record, timestamp string) {
	w.post(who, "links", Record{"link_class": class, "name": name, "head_uuid": collection["uuid"],
		"properties": Record{"image_timestamp": timestamp}})
}

func (suite *imageSuite) TestNamesInProperties(c *check.C) {
	s := suite.workplace(c)
	one := s.newImage(s.alice, named("lab/app:1", nil))["portable_data_hash"]
	several := s.newImage(s.alice, named([]string{"lab/app:2", "lab/app:latest"}, nil))["portable_data_hash"]
	c.Check(s.imageOf(s.alice, "lab/app:1"), check.Equals, one)
	c.Check(s.imageOf(s.alice, "lab/app:2"), check.Equals, several)
	c.Check(s.imageOf(s.alice, "lab/app"), check.Equals, several)
	c.Check(s.imageOf(s.alice, "docker.io/lab/app"), check.Equals, several)
	s.noImage(s.alice, "lab/app:3")
	s.noImage(s.bob, "lab/app:1")

	registry := s.newImage(s.alice, named("registry.example:5000/app:latest", nil))["portable_data_hash"]
	c.Check(s.imageOf(s.alice, "registry.example:5000/app"), check.Equals, registry)
}

func (suite *imageSuite) TestNamesInLinks(c *check.C) {
	s := suite.workplace(c)
	image := s.newImage(s.alice, nil)
	s.link(s.alice, "docker_image_repo+tag", "lab/app:latest", image, "2026-01-01T00:00:00Z")
	s.link(s.alice, "docker_image_repo+tag", "Odd Name:latest", image, "2026-01-01T00:00:00Z")
	s.link(s.alice, "docker_image_hash", "sha256:"+strings.Repeat("e", 64), image, "2026-01-01T00:00:00Z")
	for _, name := range []string{"lab/app", "lab/app:latest", "Odd Name", "sha256:" + strings.Repeat("e", 64), "sha256:eeeeeeeeeeee"} {
		c.Check(s.imageOf(s.alice, name), check.Equals, image["portable_data_hash"], check.Commentf(name))
	}
	// Unlike Arvados, which takes any image for these.
	for _, name := range []string{"sha256:" + strings.Repeat("f", 64), "sha", "sha256", strings.Repeat("e", 64)} {
		s.noImage(s.alice, name)
	}

	other := s.collection(s.alice, outputText, nil)
	s.link(s.alice, "docker_image_repo+tag", "bad/app:latest", other, "")
	s.refused(422, "Matching Docker image is incompatible with 'docker_image_formats' configuration", s.alice,
		"POST", "container_requests", s.request(Record{"container_image": "bad/app"}))
	s.alice.must("DELETE", "collections/"+textOf(image["uuid"]), nil)
	s.noImage(s.alice, "lab/app")
}

func (suite *imageSuite) TestTheNewestImageOfAName(c *check.C) {
	s := suite.workplace(c)
	at := func(timestamp string) Record { return named("app:1", Record{"docker-image-timestamp": timestamp}) }
	old := s.newImage(s.alice, at("2026-01-02T00:00:00Z"))
	c.Check(s.imageOf(s.alice, "app:1"), check.Equals, old["portable_data_hash"])
	s.newImage(s.alice, at("2025-01-01T00:00:00Z")) // saved later, made before
	c.Check(s.imageOf(s.alice, "app:1"), check.Equals, old["portable_data_hash"])

	// Today's arv-keepdocker says when by a link only (experiments.md 2).
	legacy := s.newImage(s.alice, named("app:1", nil))
	s.link(s.alice, "docker_image_repo+tag", "app:1", legacy, "2026-01-03T00:00:00Z")
	c.Check(s.imageOf(s.alice, "app:1"), check.Equals, legacy["portable_data_hash"])

	// The date that reproducible builds pretend counts for nothing, and so
	// does the future.
	reproducible := s.newImage(s.alice, at("1970-01-01T00:00:00Z"))
	c.Check(s.imageOf(s.alice, "app:1"), check.Equals, reproducible["portable_data_hash"])
	fast := s.newImage(s.alice, at("2999-01-01T00:00:00Z"))
	c.Check(s.imageOf(s.alice, "app:1"), check.Equals, fast["portable_data_hash"])
	last := s.newImage(s.alice, at("2998-01-01T00:00:00Z"))
	c.Check(s.imageOf(s.alice, "app:1"), check.Equals, last["portable_data_hash"])
}

func (suite *imageSuite) TestCollectionsThatAreNoImage(c *check.C) {
	s := suite.workplace(c)
	image := s.newImage(s.alice, nil)
	hash := textOf(image["portable_data_hash"])
	c.Check(s.imageOf(s.alice, hash), check.Equals, hash)
	c.Check(s.imageOf(s.alice, hash+"+Kzzzzz"), check.Equals, hash)
	s.noImage(s.bob, hash)
	s.noImage(s.alice, textOf(image["uuid"]))
	s.noImage(s.alice, emptyHash)
	s.noImage(s.alice, "ffffffffffffffffffffffffffffffff+99")
	s.noImage(s.alice, textOf(s.collection(s.alice, outputText, nil)["portable_data_hash"]))

	// A copy of an image with something else in it has the image's
	// properties still.
	s.newImage(s.alice, named("copied:1", Record{"arv:docker-image-pdh": outputHash}))
	s.refused(422, "UnresolvableContainerError", s.alice, "POST", "container_requests", s.request(Record{"container_image": "copied:1"}))
}

func (suite *imageSuite) TestBuiltinCommandsNeedNoImage(c *check.C) {
	s := suite.workplace(c)
	seed := Record{"container_image": "arvados/builtin", "command": []string{"docker", "pull", "alpine"},
		"mounts": Record{}, "output_path": "/", "cwd": "/"}
	request := s.submit(s.alice, seed)
	container := s.containerOf(request)
	c.Check(container["container_image"], check.Equals, "arvados/builtin")
	c.Check(container["mounts"], check.DeepEquals, map[string]any{})
	c.Check(container["output_path"], check.Equals, "/")
	c.Check(s.imageOf(s.alice, "arvados/none"), check.Equals, "arvados/none")

	seed["use_existing"] = true
	s.finish(request, nil)
	c.Check(s.submit(s.bob, seed)["container_uuid"], check.Equals, container["uuid"])
	seed["container_image"] = s.image
	s.refused(422, "Output path must be a mount target", s.alice, "POST", "container_requests", s.request(seed))
}
