// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar_test

import (
	"archive/tar"
	"encoding/json"
	"fmt"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"gopkg.in/check.v1"
)

// The archives that programs write, member by member, for those that cannot
// run here; engine_test.go has those that can.

func mustJSON(v any) string {
	buf, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(buf)
}

// dockerManifest is manifest.json for one image.
func dockerManifest(config string, repoTags []string, layers ...string) file {
	return file{name: "manifest.json", content: mustJSON([]map[string]any{{"Config": config, "RepoTags": repoTags, "Layers": layers}})}
}

func blob(content string) file {
	return file{name: imagetar.BlobName(sum([]byte(content))), content: content}
}

type object = map[string]any

func descriptor(mediaType, content string, more object) object {
	d := object{"mediaType": mediaType, "digest": sum([]byte(content)), "size": len(content)}
	for key, value := range more {
		d[key] = value
	}
	return d
}

const (
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociIndex    = "application/vnd.oci.image.index.v1+json"
)

func index(manifests ...object) string {
	return mustJSON(object{"schemaVersion": 2, "mediaType": ociIndex, "manifests": manifests})
}

func plainImage() imagetar.Image {
	base := randomimage.Layer(1, 3072, imagetar.Plain)
	return randomimage.Of(base, randomimage.Layer(2, 4096, imagetar.Plain), base)
}

// Docker up to 24: a folder for each layer, a link where a layer comes again.
func oldDockerSave(img imagetar.Image) []file {
	config := hexOf(sum(img.Config)) + ".json"
	files := []file{{name: config, content: string(img.Config)}}
	var layers []string
	seen := map[string]string{}
	for i, layer := range img.Layers {
		id := fmt.Sprintf("%064x", 0xfeed+i)
		layers = append(layers, id+"/layer.tar")
		f := file{name: id + "/layer.tar", link: seen[layer.Digest]}
		if f.link == "" {
			f.content = layerBytes(layer)
			seen[layer.Digest] = "../" + id + "/layer.tar"
		}
		files = append(files, file{name: id + "/", typeflag: tar.TypeDir},
			file{name: id + "/VERSION", content: "1.0"},
			file{name: id + "/json", content: `{"id":"` + id + `","created":"1970-01-01T00:00:00Z","container_config":{}}`}, f)
	}
	return append(files,
		dockerManifest(config, []string{"local/x:1", "local/x:2"}, layers...),
		file{name: "repositories", content: `{"local/x":{"1":"` + layers[0] + `"}}`})
}

func (s *scanSuite) TestOldDockerSave(c *check.C) {
	img := plainImage()
	a := checkScan(c, oldDockerSave(img), img)
	c.Check(a.RepoTags, check.DeepEquals, []string{"local/x:1", "local/x:2"})
	c.Check(a.Image.Manifest, check.IsNil)
	c.Check(a.Image.Digests, check.IsNil)
	// The third layer is the first one, which came under the first name.
	c.Check(a.Members[2], check.Equals, a.Members[0])
}

// A folder packed anew by tar: names start with "./", equal files are hard links.
func (s *scanSuite) TestRepackedByTar(c *check.C) {
	img := plainImage()
	files := []file{{name: "./", typeflag: tar.TypeDir}}
	first := ""
	for _, f := range oldDockerSave(img) {
		if f.link != "" {
			f.link, f.typeflag = "./"+first, tar.TypeLink
		} else if first == "" && len(f.content) == 3072 {
			first = f.name
		}
		f.name = "./" + f.name
		files = append(files, f)
	}
	checkScan(c, files, img)
}

// Docker from 25, overlay2: blobs with an OCI manifest, and metadata of old.
func newDockerSave(img imagetar.Image) []file {
	files := []file{
		{name: "blobs/", typeflag: tar.TypeDir}, {name: "blobs/sha256/", typeflag: tar.TypeDir},
		blob(string(img.Config)), blob(string(img.Manifest)), blob(`{"id":"legacy","os":"linux"}`),
		{name: "index.json", content: index(descriptor(ociManifest, string(img.Manifest), object{
			"annotations": object{"io.containerd.image.name": "docker.io/local/x:1", "org.opencontainers.image.ref.name": "1"},
			"platform":    object{"architecture": "amd64", "os": "linux"},
		}))},
		{name: "oci-layout", content: `{"imageLayoutVersion": "1.0.0"}`},
		{name: "repositories", content: `{"local/x":{"1":"abc"}}` + "\n"},
	}
	var layers []string
	seen := map[string]bool{}
	for _, layer := range img.Layers {
		layers = append(layers, imagetar.BlobName(layer.Digest))
		if !seen[layer.Digest] {
			seen[layer.Digest] = true
			files = append(files, blob(layerBytes(layer)))
		}
	}
	return append(files, file{name: "manifest.json", content: mustJSON([]object{{
		"Config": imagetar.BlobName(sum(img.Config)), "RepoTags": []string{"local/x:1"}, "Layers": layers,
		"LayerSources": object{img.Layers[0].DiffID: object{"mediaType": "application/vnd.oci.image.layer.v1.tar"}},
	}})})
}

func (s *scanSuite) TestNewDockerSave(c *check.C) {
	for _, img := range []imagetar.Image{plainImage(), threeLayers(), randomimage.New(1, 5<<20, 5000)} {
		a := checkScan(c, newDockerSave(img), img)
		c.Check(a.RepoTags, check.DeepEquals, []string{"local/x:1"})
		c.Check(string(a.Image.Manifest), check.Equals, string(img.Manifest))
		c.Check(a.Image.ManifestMediaType, check.Equals, ociManifest)
		c.Check(a.Image.Digests, check.DeepEquals, img.Digests)
	}
}

// A manifest that lies about a layer's compression cannot be kept.
func (s *scanSuite) TestNewDockerSaveWithWrongMediaType(c *check.C) {
	img := randomimage.New(1, 5000)
	replaceManifest("tar+gzip", "tar")(&img)
	a := checkScan(c, newDockerSave(img), img)
	c.Check(a.Image.Manifest, check.IsNil)
	c.Check(a.Image.Digests, check.DeepEquals, []string{sum(img.Manifest)})
}

// Engines with containerd's image store: the registry's own index and blobs,
// without those of other platforms, and without manifest.json for an image
// saved by digest.
func containerdSave(img imagetar.Image, attestation string) (files []file, indexDigest string) {
	inner := index(
		descriptor(ociManifest, `{"schemaVersion":2,"arm":"not saved"}`, object{"platform": object{"architecture": "arm64", "os": "linux"}}),
		descriptor(ociManifest, string(img.Manifest), object{"platform": object{"architecture": "amd64", "os": "linux"}}),
		descriptor(ociManifest, attestation, object{
			"platform":    object{"architecture": "unknown", "os": "unknown"},
			"annotations": object{"vnd.docker.reference.type": "attestation-manifest"},
		}))
	files = []file{
		blob(string(img.Config)), blob(string(img.Manifest)), blob(inner), blob(attestation),
		{name: "index.json", content: index(descriptor(ociIndex, inner, nil))},
		{name: "oci-layout", content: `{"imageLayoutVersion":"1.0.0"}`},
	}
	for _, layer := range img.Layers {
		files = append(files, blob(layerBytes(layer)))
	}
	return files, sum([]byte(inner))
}

const attestation = `{"schemaVersion":2,"layers":[{"mediaType":"application/vnd.in-toto+json"}]}`

func (s *scanSuite) TestContainerdSave(c *check.C) {
	img := randomimage.New(1, 5000, 6000)
	files, indexDigest := containerdSave(img, attestation)
	a := checkScan(c, files, img)
	c.Check(a.RepoTags, check.IsNil)
	c.Check(string(a.Image.Manifest), check.Equals, string(img.Manifest))
	c.Check(a.Image.Digests, check.DeepEquals, []string{indexDigest, img.Digests[0]})

	// With the manifest, but nothing else, of another platform.
	files = append(files, blob(`{"schemaVersion":2,"arm":"not saved"}`))
	checkScan(c, files, img)

	// The same with manifest.json, as when saved by name.
	files = append(files, dockerManifest(imagetar.BlobName(sum(img.Config)), nil,
		imagetar.BlobName(img.Layers[0].Digest), imagetar.BlobName(img.Layers[1].Digest)))
	a = checkScan(c, files, img)
	c.Check(string(a.Image.Manifest), check.Equals, string(img.Manifest))
	c.Check(a.Image.Digests, check.DeepEquals, []string{indexDigest, img.Digests[0]})
}

// zstd layers come from the registry as they are; the sink gets them plain.
func (s *scanSuite) TestZstdLayersAreDecompressed(c *check.C) {
	img := randomimage.Of(randomimage.Layer(1, 5000, imagetar.Zstd), randomimage.Layer(2, 5000, imagetar.Gzip))
	files, indexDigest := containerdSave(img, attestation)
	a := checkScan(c, files, img)
	c.Check(a.Image.Manifest, check.IsNil)
	c.Check(a.Image.Digests, check.DeepEquals, []string{indexDigest, img.Digests[0]})
	c.Check(a.Image.Layers[0].Digest, check.Equals, img.Layers[0].DiffID)
	c.Check(a.Members[0], check.Equals, imagetar.BlobName(img.Layers[0].Digest))
	c.Check(a.Image.Layers[1].Digest, check.Equals, img.Layers[1].Digest)
}

// An OCI layout has a descriptor for each name of one image.
func (s *scanSuite) TestOCILayoutWithSeveralNames(c *check.C) {
	img := randomimage.New(1, 5000)
	named := func(name string) object {
		return descriptor(ociManifest, string(img.Manifest), object{"annotations": object{"org.opencontainers.image.ref.name": name}})
	}
	files := []file{
		blob(string(img.Config)), blob(string(img.Manifest)), blob(layerBytes(img.Layers[0])),
		{name: "index.json", content: index(named("local/x:1"), named("local/x:2"), named("latest"))},
	}
	a := checkScan(c, files, img)
	// A mere tag is no name.
	c.Check(a.RepoTags, check.DeepEquals, []string{"local/x:1", "local/x:2"})
}

// crane writes compressed layers under names of its own.
func (s *scanSuite) TestCraneLegacyNames(c *check.C) {
	img := randomimage.New(1, 5000, 6000)
	one, two := hexOf(img.Layers[0].Digest)+".tar.gz", hexOf(img.Layers[1].Digest)+".tar.gz"
	a := checkScan(c, []file{
		{name: sum(img.Config), content: string(img.Config)},
		{name: one, content: layerBytes(img.Layers[0])}, {name: two, content: layerBytes(img.Layers[1])},
		dockerManifest(sum(img.Config), []string{"x:1"}, one, two),
	}, img)
	c.Check(a.Members, check.DeepEquals, []string{one, two})
}

// An empty layer may have no bytes at all (moby issue 18170).
func (s *scanSuite) TestLayerWithoutBytes(c *check.C) {
	config := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["` + sum(nil) + `"]}}`
	a := scanOf(c, file{name: "c.json", content: config}, file{name: "layer.tar"}, dockerManifest("c.json", nil, "layer.tar"))
	c.Check(a.Image.Layers[0].Digest, check.Equals, sum(nil))
	c.Check(a.Image.Layers[0].Size, check.Equals, int64(0))
}

func (s *scanSuite) TestEmptyTarIsALayer(c *check.C) {
	empty := string(make([]byte, 1024))
	config := `{"rootfs":{"type":"layers","diff_ids":["` + sum([]byte(empty)) + `"]}}`
	a := scanOf(c, file{name: "c.json", content: config}, file{name: "layer.tar", content: empty}, dockerManifest("c.json", nil, "layer.tar"))
	c.Check(a.Image.Layers[0].Size, check.Equals, int64(1024))
	c.Check(a.Platform, check.Equals, "")
}

func (s *scanSuite) TestImageWithoutLayers(c *check.C) {
	img := randomimage.New(1)
	checkScan(c, []file{{name: "c.json", content: string(img.Config)}, dockerManifest("c.json", nil)}, img)
}

func (s *scanSuite) TestLayerIsKnownByItsContentNotByItsName(c *check.C) {
	img := randomimage.Of(randomimage.Layer(1, 5000, imagetar.Gzip), randomimage.Layer(2, 5120, imagetar.Plain), randomimage.Layer(3, 5000, imagetar.Zstd))
	a := checkScan(c, []file{
		{name: "c", content: string(img.Config)},
		{name: "1", content: layerBytes(img.Layers[0])}, {name: "2/json", content: layerBytes(img.Layers[1])}, {name: "VERSION", content: layerBytes(img.Layers[2])},
		dockerManifest("c", nil, "1", "2/json", "VERSION"),
	}, img)
	c.Check(a.Members, check.DeepEquals, []string{"1", "2/json", "VERSION"})
}
