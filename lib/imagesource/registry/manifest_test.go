// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"encoding/json"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"git.arvados.org/arvados.git/lib/imagetar"
	"gopkg.in/check.v1"
)

const (
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	dockerV2    = "application/vnd.docker.distribution.manifest.v2+json"
	schema1     = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// Manifests, configs and indexes that are not images, or contradict themselves.
func (s *suite) TestManifestsThatAreRefused(c *check.C) {
	edit := func(change func(config, manifest map[string]any)) []byte { return changed(s.image, change).Manifest }
	put := func(change func(config, manifest map[string]any)) func() []byte {
		return func() []byte {
			img := changed(s.image, change)
			s.server.PutBlob(img.Config)
			return img.Manifest
		}
	}
	layer := func(manifest map[string]any) map[string]any { return manifest["layers"].([]any)[0].(map[string]any) }
	text := func(manifest string) func() []byte { return func() []byte { return []byte(manifest) } }
	for _, t := range []struct {
		problem   string
		mediaType string
		manifest  func() []byte
		side      fault.Side
		text      string
	}{
		{"schema 1", schema1, text(`{"schemaVersion": 1, "fsLayers": []}`), fault.Request, `.*it has the old format schema 1, .*\(pull the image with an old docker and push it again, or .*\)`},
		{"schema 1 by content", "application/json", text(`{"schemaVersion": 1, "fsLayers": []}`), fault.Request, `.*schema 1.*`},
		{"no JSON", ociManifest, text(`<html>`), fault.Registry, `.*it is not the JSON of a manifest: .*`},
		{"null", ociManifest, text(`null`), fault.Registry, `.*schema version 0 instead of 2.*`},
		{"schema 3", ociManifest, func() []byte { return edit(func(_, m map[string]any) { m["schemaVersion"] = 3 }) }, fault.Registry, `.*schema version 3 instead of 2.*`},
		{"other type", "application/vnd.example+json", text(`{"schemaVersion": 2, "mediaType": "application/vnd.example+json"}`), fault.Request, `.*it is no container image: its media type is application/vnd.example\+json.*`},
		{"two types", dockerV2, func() []byte { return s.image.Manifest }, fault.Registry, `.*the registry calls it application/vnd.docker.*, but it calls itself "application/vnd.oci.*`},
		{"image and index", ociManifest, func() []byte { return edit(func(_, m map[string]any) { m["manifests"] = []any{} }) }, fault.Registry, `.*it is an image and an index at the same time.*`},
		{"index and image", ociIndex, text(`{"schemaVersion": 2, "manifests": [], "layers": []}`), fault.Registry, `.*at the same time.*`},
		{"no config", ociManifest, func() []byte { return edit(func(_, m map[string]any) { delete(m, "config") }) }, fault.Registry, `.*it names no config.*`},
		{"chart", ociManifest, func() []byte {
			return edit(func(_, m map[string]any) {
				m["config"].(map[string]any)["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
			})
		}, fault.Request, `request: read manifest 127\S+/x:1: it is no container image: the media type of its config is application/vnd.cncf.helm.config.v1\+json \(name a container image; .*\)`},
		{"layers of an artifact", ociManifest, put(func(_, m map[string]any) {
			layer(m)["mediaType"] = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
		}), fault.Request,
			`.*it is no container image: the media type of layer 1 is application/vnd.cncf.*`},
		{"bad config digest", ociManifest, func() []byte {
			return []byte(strings.Replace(string(s.image.Manifest), digestOf(s.image.Config), "sha256:../../etc/passwd", 1))
		}, fault.Registry, `.*digest or size of the config are malformed.*`},
		{"bad layer digest", ociManifest, put(func(_, m map[string]any) { layer(m)["digest"] = "sha256:x" }), fault.Registry, `.*digest or size of layer 1 are malformed.*`},
		{"negative layer", ociManifest, put(func(_, m map[string]any) { layer(m)["size"] = -1 }), fault.Registry, `.*digest or size of layer 1 are malformed.*`},
		{"impossible layer", ociManifest, put(func(_, m map[string]any) { layer(m)["size"] = int64(1) << 60 }), fault.Registry, `.*digest or size of layer 1 are malformed.*`},
		{"huge config", ociManifest, func() []byte {
			return []byte(strings.Replace(string(s.image.Manifest), jsonSize(s.image), `"size":8388609`, 1))
		}, fault.Registry, `.*its 8388609 bytes are more than the 8388608 that a config may have.*`},
		{"config of another size", ociManifest, func() []byte {
			return []byte(strings.Replace(string(s.image.Manifest), jsonSize(s.image), `"size":5`, 1))
		}, fault.Registry, `registry: read image config .*: the registry has \d+ bytes of it, but the manifest says 5`},
		{"config is no JSON", ociManifest, func() []byte {
			digest := s.server.PutBlob([]byte("hello"))
			manifest := strings.Replace(string(s.image.Manifest), jsonSize(s.image), `"size":5`, 1)
			return []byte(strings.Replace(manifest, digestOf(s.image.Config), digest, 1))
		}, fault.Registry, `.*it is not the JSON of a config.*`},
		{"more layers than diff IDs", ociManifest, put(func(_, m map[string]any) { m["layers"] = append(m["layers"].([]any), m["layers"].([]any)...) }), fault.Registry,
			`.*it names 1 layers \(rootfs.diff_ids\), but the manifest 2.*`},
		{"bad diff ID", ociManifest, put(func(c, _ map[string]any) { c["rootfs"].(map[string]any)["diff_ids"] = []string{"x"} }), fault.Registry, `.*the diff ID of layer 1 is malformed.*`},
		{"too many layers", ociManifest, func() []byte {
			return edit(func(_, m map[string]any) {
				for range 10 {
					m["layers"] = append(m["layers"].([]any), m["layers"].([]any)...)
				}
			})
		}, fault.Registry, `.*its 1024 layers are more than the 1000 that an image may have.*`},
		{"index of an index", ociIndex, func() []byte {
			inner := s.server.PutManifest("x", ociIndex, []byte(`{"schemaVersion":2,"manifests":[]}`))
			return []byte(`{"schemaVersion":2,"manifests":[{"mediaType":"` + ociManifest + `","digest":"` + inner + `","size":34,"platform":{"os":"linux","architecture":"amd64"}}]}`)
		}, fault.Registry, `.*the index names another index for linux/amd64.*`},
		{"index with a wrong size", ociIndex, func() []byte {
			return []byte(`{"schemaVersion":2,"manifests":[{"mediaType":"` + ociManifest + `","digest":"` + s.image.Digests[0] + `","size":34}]}`)
		}, fault.Registry, `.*it has \d+ bytes, but the index says 34.*`},
		{"index with a bad digest", ociIndex, text(`{"schemaVersion":2,"manifests":[{"mediaType":"` + ociManifest + `","digest":"sha256:x","size":34}]}`), fault.Registry,
			`.*the digest of the image for linux/amd64 is malformed.*`},
		{"index whose image is gone", ociIndex, text(`{"schemaVersion":2,"manifests":[{"mediaType":"` + ociManifest + `","digest":"sha256:` + strings.Repeat("0", 64) + `","size":34}]}`), fault.Registry,
			`.*answers 404 Not Found: MANIFEST_UNKNOWN: manifest unknown`},
		{"empty index", ociIndex, text(`{"schemaVersion":2,"manifests":[]}`), fault.Request, `.*there is no image for linux/amd64 \(name another image\)`},
	} {
		c.Log(t.problem)
		s.server.PutManifest("x:1", t.mediaType, t.manifest())
		s.server.Push("x:2", s.image) // whatever the manifest shares with it
		_, err := s.pull(c, "x:1")
		checkFault(c, err, t.side, false, t.text)
	}
	c.Check(s.slept, check.HasLen, 0)
}

func jsonSize(img imagetar.Image) string {
	var m struct {
		Config struct {
			Size json.Number `json:"size"`
		} `json:"config"`
	}
	if err := json.Unmarshal(img.Manifest, &m); err != nil {
		panic(err)
	}
	return `"size":` + m.Config.Size.String()
}

// Images that are odd but good.
func (s *suite) TestManifestsThatAreTaken(c *check.C) {
	without := func(key string) []byte {
		return changed(s.image, func(_, m map[string]any) { delete(m, key) }).Manifest
	}
	docker := changed(s.image, func(_, m map[string]any) {
		m["mediaType"] = dockerV2
		m["config"].(map[string]any)["mediaType"] = "application/vnd.docker.container.image.v1+json"
		m["layers"].([]any)[0].(map[string]any)["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	})
	config := changed(s.image, func(_, _ map[string]any) {}).Config
	s.server.PutBlob(config)
	for _, t := range []struct {
		oddity    string
		mediaType string
		manifest  []byte
		want      string
	}{
		{"no media type of its own", ociManifest, without("mediaType"), ociManifest},
		{"nobody names a media type", "application/json", without("mediaType"), ociManifest},
		{"type with a parameter", ociManifest + "; charset=utf-8", s.image.Manifest, ociManifest},
		{"docker", dockerV2, docker.Manifest, dockerV2},
		{"registry without a type", "", docker.Manifest, dockerV2},
	} {
		s.server.PutManifest("x:1", t.mediaType, t.manifest)
		image, err := s.resolve(c, "x:1", "linux/amd64")
		c.Assert(err, check.IsNil, check.Commentf("%s", t.oddity))
		c.Check(image.ManifestMediaType, check.Equals, t.want, check.Commentf("%s", t.oddity))
		_, err = imagetar.NewLayout(image.Image)
		c.Check(err, check.IsNil, check.Commentf("%s", t.oddity))
		_, err = readLayers(image.Image)
		c.Check(err, check.IsNil)
	}
}

func (s *suite) TestIndexWithoutMediaTypes(c *check.C) {
	digest := s.server.PushIndex("multi:1", registrytest.Entry{Platform: "linux/amd64", Image: s.image})
	image, err := s.resolve(c, "multi@"+digest, "linux/amd64")
	c.Assert(err, check.IsNil)
	raw := `{"schemaVersion":2,"manifests":[{"mediaType":"` + ociManifest + `","digest":"` + image.Digests[1] + `","size":` + string(marshal(len(s.image.Manifest))) + `}]}`
	for _, mediaType := range []string{ociIndex, "application/json", "application/vnd.docker.distribution.manifest.list.v2+json"} {
		s.server.PutManifest("multi:2", mediaType, []byte(raw))
		image, err := s.resolve(c, "multi:2", "linux/amd64")
		c.Assert(err, check.IsNil)
		c.Check(image.Digests, check.DeepEquals, []string{digestOf([]byte(raw)), s.image.Digests[0]})
	}
}
