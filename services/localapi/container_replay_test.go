// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

func init() {
	// Messages show times as Ruby does.
	volatile = append(volatile, struct {
		pattern *regexp.Regexp
		instead string
	}{regexp.MustCompile(`[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:.]+ UTC \+00:00`), "TIME"})
}

// Identifiers in the recordings of things that were there before.
const (
	recordedImage      = "aa74aece2d9695e90ea55207736b74f7+132"
	recordedImageUUID  = "zzzzz-4zz18-84hhfd6bchkcjlb"
	recordedImageHash  = "9f229fb415a34a84345392681674f301c977202620cf9b5da6f5d3bdbcd875b6"
	recordedProject    = "zzzzz-j7d0g-ng7ziymhcmw6fbj"
	recordedContainer  = "zzzzz-dz642-kn361kk1dtidq61"
	recordedCopy       = "zzzzz-4zz18-iqwvk7l3g1ruph4" // of a container's log
	recordedImageStamp = "2026-11-23T15:23:02.890485044Z"
)

// withImage is a replayer on a server with what the genuine one had when
// container requests were recorded: an image of the admin's that arv-keepdocker
// has saved, a project, and the names of the admin.
func (s *replaySuite) withImage(c *check.C) *replayer {
	r := s.replayer(c)
	byAdmin, byRoot := client{c, s.server, admin}, client{c, s.server, rootSecret} // those of the set-up do not report to c
	manifest := `. d41d8cd98f00b204e9800998ecf8427e+0 0:0:sha256\072` + recordedImageHash + ".tar\n"
	image := byAdmin.must("POST", "collections", Record{"manifest_text": manifest,
		"properties": Record{"docker-image-repo-tag": "arvtest/busybox:1.0"}}).body
	for class, name := range map[string]string{
		"docker_image_repo+tag": "arvtest/busybox:1.0", "docker_image_hash": "sha256:" + recordedImageHash,
	} {
		byAdmin.must("POST", "links", Record{"link_class": class, "name": name, "head_uuid": image["uuid"],
			"properties": Record{"image_timestamp": recordedImageStamp}})
	}
	project := byAdmin.must("POST", "groups", Record{"group_class": "project", "name": "project"})
	me := byAdmin.must("GET", "users/current", nil).uuid()
	byRoot.must("PATCH", "users/"+me, Record{"first_name": "Ad", "last_name": "Min", "email": "admin@example.com"})
	r.ids[recordedImage] = textOf(image["portable_data_hash"])
	r.ids[recordedImageUUID] = textOf(image["uuid"])
	r.ids[recordedProject] = project.uuid()
	r.after = func(e exchange, reply answer) {
		switch e.Label {
		case "AUTH by the locking token":
			r.tokens["container-token"] = fmt.Sprintf("v2/%s/%s", reply.uuid(), reply.body["api_token"])
		case "LOG COLLECTION of the container request":
			// The container's UUID is a name in this manifest, on which its
			// hash depends.
			var recorded arvados.Collection
			c.Assert(json.Unmarshal(e.Response, &recorded), check.IsNil)
			r.ids[recorded.PortableDataHash] = arvados.PortableDataHash(withoutSignatures(r.translate(recorded.ManifestText)))
		case "all collections whose properties.container_request is the CR":
			// They come by UUID, which is by chance; the recorded ones come
			// by name as well.
			items := reply.body["items"].([]any)
			name := func(item any) string { return textOf(item.(map[string]any)["name"]) }
			slices.SortFunc(items, func(a, b any) int { return strings.Compare(name(a), name(b)) })
			r.ids[recordedCopy] = textOf(items[0].(map[string]any)["uuid"])
		}
	}
	return r
}

func (s *replaySuite) TestContainerRequests(c *check.C) {
	r := s.withImage(c)
	request := client{c, s.server, admin}.must("POST", "container_requests", Record{"container_image": r.ids[recordedImage],
		"state": "Committed", "command": []string{"true"}, "output_path": "/out", "mounts": Record{"/out": Record{"kind": "tmp"}},
		"runtime_constraints": Record{"vcpus": 1, "ram": 1}})
	r.ids[recordedContainer] = textOf(request.body["container_uuid"])
	r.check("container-requests.jsonl", map[string]string{
		"23 runtime_constraints unknown key, direct to RailsAPI": "asks RailsAPI past controller, which are one here",
	})
}

func (s *replaySuite) TestImagesOfContainerRequests(c *check.C) {
	s.withImage(c).check("images.jsonl", map[string]string{
		"19 arvados/builtin":                 "builtin commands are known here without a link that names an image",
		"52    -> container.container_image": "likewise: the name stands for itself in the container record",
	})
}

func (s *replaySuite) TestLivesOfContainers(c *check.C) {
	s.withImage(c).check("dispatch.jsonl", nil)
}
