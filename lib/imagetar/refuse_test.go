// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar_test

import (
	"bytes"
	"fmt"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&refuseSuite{})

type refuseSuite struct{}

var (
	hexA = strings.Repeat("a", 64)
	hexB = strings.Repeat("b", 64)
)

// replaceManifest changes the text of the manifest.
func replaceManifest(old, new string) func(*imagetar.Image) {
	return func(img *imagetar.Image) {
		changed := strings.Replace(string(img.Manifest), old, new, 1)
		if changed == string(img.Manifest) {
			panic("the manifest has no " + old)
		}
		img.Manifest = []byte(changed)
	}
}

// config gives an image with this config and nothing else.
func config(text string) func(*imagetar.Image) {
	return func(img *imagetar.Image) { *img = imagetar.Image{Config: []byte(text)} }
}

// Every case damages one thing of an image with a plain layer, a gzip layer and
// a manifest.
var refused = []struct {
	damage  func(*imagetar.Image)
	message string // without the hint
}{
	// Config.
	{config(``), "read image config sha256:e3b0c4.*: it is not the JSON of a config: unexpected end of JSON input"},
	{config(`hello`), "read image config sha256:.*: it is not the JSON of a config: invalid character.*"},
	{config(`{}`), `read image config sha256:.*: it describes no container image \(rootfs.type is "", not "layers"\)`},
	{config(`{"rootfs":{"type":"layers+base"}}`), `read image config .*: it describes no container image .*`},
	{config(`{"rootfs":{"type":"layers","diff_ids":["sha256:../../etc/passwd"]}}`), `read image config .*: the diff ID "sha256:../../etc/passwd" is malformed`},
	{config(`{"rootfs":{"type":"layers","diff_ids":["sha256:` + strings.ToUpper(hexA) + `"]}}`), `read image config .*: the diff ID .* is malformed`},
	{config(`{"rootfs":{"type":"layers","diff_ids":["` + strings.Repeat("x", 1<<20) + `"]}}`), `read image config .*: the diff ID "x{98,100}"? is malformed`},
	{config(strings.Repeat(" ", imagetar.MaxConfig+1)), "read image config .*: 8388609 bytes are more than the 8388608 that a config may have"},
	// Layers and what the config says of them.
	{func(img *imagetar.Image) { img.Layers = img.Layers[:1] }, `check image layers: the image has 1 layers but its config names 2 \(rootfs.diff_ids\)`},
	{func(img *imagetar.Image) { img.Layers = make([]imagetar.Layer, imagetar.MaxLayers+1) }, "check image layers: 1001 layers are more than the 1000 that an image may have"},
	{func(img *imagetar.Image) { img.Layers[1].Digest = "sha256:../" + hexA[3:] }, `check image layers: the digest "sha256:../a*" of layer 2 is malformed`},
	{func(img *imagetar.Image) { img.Layers[1].Digest = hexA }, `check image layers: the digest "a*" of layer 2 is malformed`},
	{func(img *imagetar.Image) { img.Layers[1].Digest = "sha512:" + hexA + hexA }, `check image layers: the digest .* of layer 2 is malformed`},
	{func(img *imagetar.Image) { img.Layers[1].Digest = "" }, `check image layers: the digest "" of layer 2 is malformed`},
	{func(img *imagetar.Image) { img.Layers[1].DiffID = "sha256:" + hexB }, `check image layers sha256:.*: its diff ID is "sha256:b*" but the config names sha256:.*`},
	{func(img *imagetar.Image) { img.Layers[1].DiffID = "" }, `check image layers sha256:.*: its diff ID is "" but the config names .*`},
	{func(img *imagetar.Image) { img.Layers[0].Digest = "sha256:" + hexA }, `check image layers sha256:a*: the layer is not compressed, so its digest should be the diff ID sha256:.*`},
	{func(img *imagetar.Image) { img.Layers[1].Size = -1 }, `check image layers sha256:.*: the size -1 is impossible`},
	{func(img *imagetar.Image) { img.Layers[1].Size = 1<<50 + 1 }, `check image layers sha256:.*: the size 1125899906842625 is impossible`},
	{func(img *imagetar.Image) { img.Layers[1].MediaType = "application/vnd.oci.image.layer.v1.tar+zstd" }, `check image layers sha256:.*: a layer of media type ".*zstd" must be decompressed before it is stored`},
	{func(img *imagetar.Image) { img.Layers[1].MediaType = "text/plain" }, `check image layers sha256:.*: a layer of media type "text/plain" must be decompressed .*`},
	{func(img *imagetar.Image) {
		img.Layers[1].MediaType = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	}, `check image layers sha256:.*: the layer may not be redistributed \(media type application/vnd.docker.image.rootfs.foreign.diff.tar.gzip\)`},
	{func(img *imagetar.Image) {
		img.Layers[1].MediaType = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
	}, `check image layers sha256:.*: the layer may not be redistributed .*`},
	{func(img *imagetar.Image) {
		twice := randomimage.Layer(3, 4000, imagetar.Gzip)
		*img = randomimage.Of(twice, twice)
		img.Layers[1].Size++
	}, `check image layers sha256:.*: the layer occurs twice with different properties`},
	// Manifest.
	{func(img *imagetar.Image) { img.Manifest = bytes.Repeat([]byte(" "), 5<<20) }, `check image manifest sha256:.*: 5242880 bytes are more than the 4194304 that a manifest may have`},
	{func(img *imagetar.Image) { img.Manifest = []byte("<html>") }, `check image manifest sha256:.*: it is not the JSON of a manifest: .*`},
	{func(img *imagetar.Image) { img.Manifest = []byte{} }, `check image manifest sha256:.*: it is not the JSON of a manifest: .*`},
	{func(img *imagetar.Image) { img.ManifestMediaType = "" }, `check image manifest sha256:.*: the media type "" is not that of an image manifest`},
	{func(img *imagetar.Image) { img.ManifestMediaType = "application/vnd.oci.image.index.v1+json" }, `check image manifest sha256:.*: the media type ".*" is not that of an image manifest`},
	{func(img *imagetar.Image) {
		img.ManifestMediaType = "application/vnd.docker.distribution.manifest.v2+json"
	}, `check image manifest sha256:.*: it was offered as .*docker.* but calls itself ".*oci.*"`},
	{replaceManifest(`"schemaVersion":2`, `"schemaVersion":1`), `check image manifest sha256:.*: schema version 1 instead of 2`},
	{replaceManifest(`"size":5000`, `"size":5001`), `check image manifest sha256:.*: layer 2 is "sha256:.*" of 5001 bytes .* but the image's is sha256:.* of 5000 bytes .*`},
	{replaceManifest(`tar+gzip`, `tar`), `check image manifest sha256:.*: layer 2 is .*`},
	{func(img *imagetar.Image) { img.Config = append(img.Config, '\n') }, `check image manifest sha256:.*: it names the config "sha256:.*" of \d+ bytes, but the image's is sha256:.* of \d+ bytes`},
	{func(img *imagetar.Image) { img.Manifest = randomimage.New(1).Manifest }, `check image manifest sha256:.*: it names the config .*`},
	{func(img *imagetar.Image) {
		img.Manifest = []byte(fmt.Sprintf(`{"schemaVersion":2,"config":{"digest":%q,"size":%d},"layers":[]}`, sum(img.Config), len(img.Config)))
	}, `check image manifest sha256:.*: it names 0 layers, but the image has 2`},
	// A name for two members.
	{func(img *imagetar.Image) {
		img.Manifest = nil
		img.Layers[1].Digest = sum(img.Config)
	}, `lay out image sha256:.*: a layer has the digest of the image's own metadata`},
}

func (s *refuseSuite) TestImagesThatContradictThemselves(c *check.C) {
	for _, t := range refused {
		img := randomimage.Of(randomimage.Layer(1, 3072, imagetar.Plain), randomimage.Layer(2, 5000, imagetar.Gzip))
		t.damage(&img)
		_, err := imagetar.NewLayout(img)
		c.Check(err, check.ErrorMatches, `(?s)request: `+t.message+` \(.*\)`)
		failure, ok := err.(*fault.Error)
		if c.Check(ok, check.Equals, true, check.Commentf("%s", t.message)) {
			c.Check(failure.Hint, check.Not(check.Equals), "")
			c.Check(len(failure.Error()) < 2000, check.Equals, true)
		}
	}
}

func (s *refuseSuite) TestImagesAtTheLimits(c *check.C) {
	// Engines of today stop at 125 or so; registries have images with more.
	layer := randomimage.Layer(1, 2048, imagetar.Gzip)
	var layers []imagetar.Layer
	for range imagetar.MaxLayers {
		layers = append(layers, layer)
	}
	_, err := imagetar.NewLayout(randomimage.Of(layers...))
	c.Check(err, check.IsNil)

	config := `{"rootfs":{"type":"layers","diff_ids":[]}}`
	config += strings.Repeat("\n", imagetar.MaxConfig-len(config))
	_, err = imagetar.NewLayout(imagetar.Image{Config: []byte(config)})
	c.Check(err, check.IsNil)

	img := randomimage.New(1, 5000)
	img.Manifest = append(img.Manifest, bytes.Repeat([]byte(" "), imagetar.MaxManifest-len(img.Manifest))...)
	_, err = imagetar.NewLayout(img)
	c.Check(err, check.IsNil)
}

// The registry's answer names the type; the manifest need not repeat it.
func (s *refuseSuite) TestManifestWithoutMediaType(c *check.C) {
	img := randomimage.New(1, 5000)
	replaceManifest(`"mediaType":"application/vnd.oci.image.manifest.v1+json",`, ``)(&img)
	_, err := imagetar.NewLayout(img)
	c.Check(err, check.IsNil)
}
