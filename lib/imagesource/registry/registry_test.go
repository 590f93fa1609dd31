// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gopkg.in/check.v1"
)

func (s *suite) TestImageIsWhatWasPushed(c *check.C) {
	pushed := randomimage.Of(randomimage.Layer(1, 5000, imagetar.Plain), randomimage.Layer(2, 3<<20, imagetar.Gzip), randomimage.Layer(3, 5000, imagetar.Zstd))
	digest := s.server.Push("some/deep/er/app:1.2", pushed)
	image, err := s.resolve(c, "some/deep/er/app:1.2", "linux/amd64")
	c.Assert(err, check.IsNil)
	c.Check(image.Digests, check.DeepEquals, []string{digest})
	c.Check(image.Ref.String(), check.Equals, s.server.Host()+"/some/deep/er/app:1.2@"+digest)
	c.Check(image.Platform, check.Equals, "linux/amd64")
	c.Check(image.Config, check.DeepEquals, pushed.Config)
	c.Check(image.Manifest, check.DeepEquals, pushed.Manifest)
	c.Check(image.ManifestMediaType, check.Equals, ocispec.MediaTypeImageManifest)
	c.Assert(image.Layers, check.HasLen, 3)
	for i, layer := range image.Layers {
		want, err := readLayer(pushed.Layers[i])
		c.Assert(err, check.IsNil)
		got, err := readLayer(layer)
		c.Assert(err, check.IsNil)
		c.Check(string(got) == string(want), check.Equals, true)
		c.Check([]any{layer.MediaType, layer.Digest, layer.Size, layer.DiffID}, check.DeepEquals,
			[]any{pushed.Layers[i].MediaType, pushed.Layers[i].Digest, pushed.Layers[i].Size, pushed.Layers[i].DiffID})
	}
	c.Check(s.log.String(), check.Matches, `(?s).*app:1.2 is `+digest+` for linux/amd64.*`)
}

func (s *suite) TestTagIsAskedForOnce(c *check.C) {
	s.server.PushIndex("app:multi", registrytest.Entry{Platform: "linux/amd64", Image: s.image})
	_, err := s.pull(c, "app:multi")
	c.Assert(err, check.IsNil)
	c.Check(s.server.Requests("/manifests/multi"), check.HasLen, 1)
	c.Check(s.server.Requests("/manifests/"), check.HasLen, 2)
	c.Check(s.server.Requests(s.blob()), check.HasLen, 1)
}

func (s *suite) TestDigestWinsOverTag(c *check.C) {
	image, err := s.resolve(c, "app:nonsense@"+s.image.Digests[0], "linux/amd64")
	c.Assert(err, check.IsNil)
	c.Check(image.Digests, check.DeepEquals, s.image.Digests)
	c.Check(s.server.Requests("nonsense"), check.HasLen, 0)
}

func (s *suite) TestResolveReadsNoLayer(c *check.C) {
	_, err := s.resolve(c, "app:1", "")
	c.Assert(err, check.IsNil)
	c.Check(s.server.Requests(s.blob()), check.HasLen, 0)
}

func (s *suite) TestDefaultPlatformIsThisMachine(c *check.C) {
	arm, amd := withPlatform(randomimage.New(2, 3000), "arm64", ""), randomimage.New(3, 3000)
	digest := s.server.PushIndex("app:multi",
		registrytest.Entry{Platform: "linux/arm64", Image: arm},
		registrytest.Entry{Platform: "linux/amd64", Image: amd},
		registrytest.Entry{Attestation: true, Image: amd})
	image, err := s.resolve(c, "app:multi", "")
	c.Assert(err, check.IsNil)
	c.Check(image.Platform, check.Equals, "linux/"+runtime.GOARCH)
	c.Check(image.Digests, check.HasLen, 2)
	c.Check(image.Digests[0], check.Equals, digest)
	c.Check(image.Ref.Digest, check.Equals, digest)
}

func (s *suite) TestIndexWithoutTheWantedPlatform(c *check.C) {
	arm := withPlatform(randomimage.New(2, 3000), "arm", "v7")
	s.server.PushIndex("app:multi",
		registrytest.Entry{Platform: "linux/s390x", Image: arm},
		registrytest.Entry{Platform: "linux/arm/v7", Image: arm},
		registrytest.Entry{Attestation: true, Image: arm})
	_, err := s.resolve(c, "app:multi", "linux/arm64")
	checkFault(c, err, fault.Request, false,
		`request: choose platform .*app:multi: there is no image for linux/arm64 \(the image exists for linux/arm/v7, linux/s390x; ask for one of these with --platform\)`)
	_, err = s.resolve(c, "app:multi", "linux/arm/v6")
	checkFault(c, err, fault.Request, false, `.*no image for linux/arm/v6.*`)
	_, err = s.resolve(c, "app:multi", "linux/arm")
	c.Check(err, check.IsNil)
	s.server.PushIndex("app:none", registrytest.Entry{Attestation: true, Image: arm})
	_, err = s.resolve(c, "app:none", "")
	checkFault(c, err, fault.Request, false, `.*there is no image for .* \(name another image\)`)
}

func (s *suite) TestSingleImageOfAnotherPlatform(c *check.C) {
	s.server.Push("arm:1", withPlatform(s.image, "arm", "v7"))
	_, err := s.resolve(c, "arm:1", "linux/amd64")
	checkFault(c, err, fault.Request, false,
		`request: choose platform .*arm:1: the image is for linux/arm/v7, not for linux/amd64 \(ask for --platform linux/arm/v7, or name an image that exists for linux/amd64\)`)

	image, err := s.resolve(c, "arm:1", "")
	c.Assert(err, check.IsNil)
	c.Check(image.Platform, check.Equals, "linux/arm/v7")
	c.Check(s.log.String(), check.Matches, `(?s).*level=warning.*arm:1 is for linux/arm/v7, and there is none of this name for linux/`+runtime.GOARCH+`; it may not run here.*`)

	_, err = s.resolve(c, "arm:1", "linux/armhf")
	c.Check(err, check.IsNil)
}

func (s *suite) TestIndexThatLiesAboutAPlatform(c *check.C) {
	s.server.PushIndex("app:lie", registrytest.Entry{Platform: "linux/arm64", Image: s.image})
	_, err := s.resolve(c, "app:lie", "linux/arm64")
	checkFault(c, err, fault.Request, false, `.*the image is for linux/amd64, not for linux/arm64.*`)
}

func (s *suite) TestIndexOfOneImageWithoutPlatform(c *check.C) {
	s.server.PushIndex("app:plain", registrytest.Entry{Image: s.image})
	image, err := s.resolve(c, "app:plain", "linux/amd64")
	c.Assert(err, check.IsNil)
	c.Check(image.Platform, check.Equals, "linux/amd64")
	_, err = s.resolve(c, "app:plain", "linux/arm64")
	checkFault(c, err, fault.Request, false, `.*the image is for linux/amd64, not for linux/arm64.*`)
}

// withPlatform is img with another platform in its config.
func withPlatform(img imagetar.Image, arch, variant string) imagetar.Image {
	return changed(img, func(config, _ map[string]any) {
		config["architecture"] = arch
		if variant != "" {
			config["variant"] = variant
		}
	})
}

// changed is img with another config and manifest, which fit each other.
func changed(img imagetar.Image, change func(config, manifest map[string]any)) imagetar.Image {
	var config, manifest map[string]any
	if err := json.Unmarshal(img.Config, &config); err != nil {
		panic(err)
	}
	if err := json.Unmarshal(img.Manifest, &manifest); err != nil {
		panic(err)
	}
	change(config, manifest)
	img.Config = marshal(config)
	if descriptor, ok := manifest["config"].(map[string]any); ok {
		descriptor["digest"], descriptor["size"] = digestOf(img.Config), len(img.Config)
	}
	img.Manifest = marshal(manifest)
	img.Digests = []string{digestOf(img.Manifest)}
	return img
}

func (s *suite) TestCancelledResolveAndRead(c *check.C) {
	s.server.Script(s.blob(), registrytest.Stall(100000))
	ctx, cancel := context.WithCancel(context.Background())
	image, err := s.source.Resolve(ctx, s.ref(c, "app:1"), "linux/amd64")
	c.Assert(err, check.IsNil)
	body, err := image.Layers[0].Open(ctx)
	c.Assert(err, check.IsNil)
	defer body.Close()
	_, err = body.Read(make([]byte, 10))
	c.Assert(err, check.IsNil)
	cancel()
	for err == nil {
		_, err = body.Read(make([]byte, 1000))
	}
	checkFault(c, err, fault.Registry, true, `registry: read layer sha256:.*: context canceled`)
	_, err = image.Layers[0].Open(ctx)
	checkFault(c, err, fault.Registry, true, `.*context canceled`)
	_, err = s.source.Resolve(ctx, s.ref(c, "app:1"), "")
	checkFault(c, err, fault.Registry, true, `.*context canceled`)
	c.Check(s.slept, check.HasLen, 0)
}

func (s *suite) TestLayersOpenAtTheSameTime(c *check.C) {
	image, err := s.resolve(c, "app:1", "linux/amd64")
	c.Assert(err, check.IsNil)
	results := make(chan error)
	for range 8 {
		go func() {
			_, err := readLayer(image.Layers[0])
			results <- err
		}()
	}
	for range 8 {
		c.Check(<-results, check.IsNil)
	}
}

func (s *suite) TestClosingStopsATransfer(c *check.C) {
	image, err := s.resolve(c, "app:1", "linux/amd64")
	c.Assert(err, check.IsNil)
	hungUp := make(chan struct{})
	s.server.Script(s.blob(), func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		defer close(hungUp)
		registrytest.Stall(100000)(w, r, serve)
	})
	body, err := image.Layers[0].Open(context.Background())
	c.Assert(err, check.IsNil)
	_, err = body.Read(make([]byte, 1000))
	c.Assert(err, check.IsNil)
	c.Check(body.Close(), check.IsNil)
	<-hungUp
	_, err = body.Read(make([]byte, 1))
	c.Check(err, check.ErrorMatches, `.*http: invalid Read on closed Body`)

	unread, err := image.Layers[0].Open(context.Background())
	c.Assert(err, check.IsNil)
	c.Check(unread.Close(), check.IsNil)
	c.Check(s.server.Requests(s.blob()), check.HasLen, 1)
	c.Check(s.slept, check.HasLen, 0)
}

func (s *suite) TestRequestsThatMakeNoSense(c *check.C) {
	_, err := s.resolve(c, "app:1", "amd64")
	checkFault(c, err, fault.Request, false, `request: read platform "amd64": .*`)
	_, err = s.source.Resolve(context.Background(), imageref.Ref{Domain: "no host", Path: "app", Tag: "1"}, "")
	checkFault(c, err, fault.Request, false, `request: contact registry no host: .*`)
	c.Check(s.server.Requests(""), check.HasLen, 0)
}

func digestOf(content []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(content)) }

func marshal(v any) []byte {
	buf, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return buf
}
