// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"git.arvados.org/arvados.git/lib/dockerimage"
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
	hash := fmt.Sprintf("sha256:%064x", s.images)
	for _, name := range []string{"lab/app:latest", "deadbeefcafe:latest", "Odd Name:latest"} {
		s.link(s.alice, "docker_image_repo+tag", name, image, "2026-01-01T00:00:00Z")
	}
	s.link(s.alice, "docker_image_hash", hash, image, "2026-01-01T00:00:00Z")
	for _, name := range []string{"lab/app", "lab/app:latest", "deadbeefcafe", hash, hash[:19], hash[:8]} {
		c.Check(s.imageOf(s.alice, name), check.Equals, image["portable_data_hash"], check.Commentf(name))
	}
	// Unlike Arvados, which takes any image for the first four, and the one
	// that a link names for the last.
	for _, name := range []string{"sha256:" + strings.Repeat("f", 64), "sha256:ff", "sha", "sha256", hash[7:], hash[7:19], "Odd Name"} {
		s.noImage(s.alice, name)
	}
	// A link may say anything; the file has the image's hash in its name. The
	// beginning of several hashes is that of none.
	s.link(s.alice, "docker_image_hash", "sha256:00"+strings.Repeat("f", 62), image, "2026-01-01T00:00:00Z")
	s.noImage(s.alice, "sha256:00"+strings.Repeat("f", 62))
	s.noImage(s.alice, hash[:8])
	c.Check(s.imageOf(s.alice, hash[:19]), check.Equals, image["portable_data_hash"])

	other := s.collection(s.alice, outputText, nil)
	s.link(s.alice, "docker_image_repo+tag", "bad/app:latest", other, "")
	s.refused(422, "Matching Docker image is incompatible with 'docker_image_formats' configuration", s.alice,
		"POST", "container_requests", s.request(Record{"container_image": "bad/app"}))
	s.alice.must("DELETE", "collections/"+textOf(image["uuid"]), nil)
	s.noImage(s.alice, "lab/app")
}

// Hashes of images and of their manifests, in properties.
func (suite *imageSuite) TestHashesInProperties(c *check.C) {
	s := suite.workplace(c)
	hash := func(digits string) string { return "sha256:" + strings.Repeat(digits, 64/len(digits)) }
	image := s.newImage(s.alice, Record{"properties": Record{"docker-image-hash": fmt.Sprintf("sha256:%064x", s.images+1),
		"arv:docker-image-digest": []string{hash("ab"), hash("cd")}}})["portable_data_hash"]
	for _, name := range []string{fmt.Sprintf("sha256:%064x", s.images), fmt.Sprintf("sha256:%063x", 0), "sha256:000000000000", "sha256:0",
		hash("ab"), hash("cd"), hash("ab")[:30], "lab/app@" + hash("cd"), "lab/app:1@" + hash("ab")} {
		c.Check(s.imageOf(s.alice, name), check.Equals, image, check.Commentf(name))
		s.noImage(s.bob, name)
	}
	s.noImage(s.alice, hash("ef"))
	s.noImage(s.alice, hash("ef")[:30])
	s.noImage(s.alice, "sha256:ab") // by its beginning only an image
}

// No name makes the server look at all collections.
func (suite *imageSuite) TestSearchesGoByIndex(c *check.C) {
	s := suite.workplace(c)
	user := &Caller{UserUUID: s.aliceUUID}
	for _, name := range []string{"lab/app", "sha256:000000000000", "lab/app@sha256:" + strings.Repeat("e", 64), "sha256:" + strings.Repeat("e", 64)} {
		recorder := &recordingAPI{}
		_, err := dockerimage.Resolve(context.Background(), recorder, name, dockerimage.Policy{Links: true})
		c.Check(errors.Is(err, dockerimage.ErrNotFound), check.Equals, true)
		for _, asked := range recorder.asked {
			sent, err := json.Marshal(asked.params)
			c.Assert(err, check.IsNil)
			var params Params
			c.Assert(json.Unmarshal(sent, &params), check.IsNil)
			c.Assert(s.server.store.View(context.Background(), func(tx *Tx) error {
				if err := (imageAPI{tx, user}).searchByIndex(params); err != nil {
					return err
				}
				filters, err := parseFilters(params["filters"])
				c.Assert(err, check.IsNil)
				k := kinds[asked.kind]
				where, args, err := tx.where(k, Query{Filters: filters, Reader: user})
				c.Assert(err, check.IsNil)
				rows, err := tx.sql.Query("EXPLAIN QUERY PLAN SELECT doc FROM "+k.plural+" t WHERE "+where+" ORDER BY t.created_at DESC LIMIT 100", args...)
				c.Assert(err, check.IsNil)
				defer rows.Close()
				for rows.Next() {
					var id, parent, unused int
					var step string
					c.Assert(rows.Scan(&id, &parent, &unused, &step), check.IsNil)
					c.Check(step, check.Not(check.Matches), `SCAN (t|p)\b.*|.*collections_(created|delete).*`, check.Commentf("%s: %s", name, filters))
				}
				return rows.Err()
			}), check.IsNil)
		}
	}
}

// recordingAPI finds nothing.
type recordingAPI struct{ asked []askedList }

type askedList struct {
	kind   string
	params any
}

func (r *recordingAPI) RequestAndDecodeContext(_ context.Context, _ any, _, path string, _ io.Reader, params any) error {
	r.asked = append(r.asked, askedList{strings.TrimPrefix(path, "arvados/v1/"), params})
	return nil
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
