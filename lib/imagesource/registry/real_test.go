// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"gopkg.in/check.v1"
)

// realSuite holds the registry of registrytest against docker-registry: what is
// true of one must be true of the other.
type realSuite struct {
	fixture
	real, locked *registrytest.Real
}

var _ = check.Suite(&realSuite{})

// alice's password is "correct horse".
const htpasswd = "alice:$2a$04$ADJDLM8Zqtf1w4J5S.PWZu7Hprqnsjz3iIee2y7PI65yUkqkrJCWm\n"

func (s *realSuite) SetUpSuite(c *check.C) {
	var err error
	s.real, err = registrytest.StartReal(c.MkDir(), "")
	c.Assert(err, check.IsNil)
	s.locked, err = registrytest.StartReal(c.MkDir(), htpasswd)
	c.Assert(err, check.IsNil)
}

func (s *realSuite) TearDownSuite(c *check.C) {
	s.real.Stop()
	s.locked.Stop()
}

// from resolves the same name in a registry, and reads its layers.
func (s *realSuite) from(c *check.C, credentials, host, nameAndTag, platform string) (*Image, [][]byte, error) {
	source := s.newSource(c, credentials, host)
	defer source.Close()
	ref, err := imageref.Parse(host + "/" + nameAndTag)
	c.Assert(err, check.IsNil)
	image, err := source.Resolve(context.Background(), ref, platform)
	if err != nil {
		return nil, nil, err
	}
	digest, err := source.Digest(context.Background(), ref)
	c.Check(err, check.IsNil)
	c.Check(digest, check.Equals, image.Ref.Digest)
	layers, err := readLayers(image.Image)
	image.Ref.Domain = ""
	return image, layers, err
}

func (s *realSuite) TestSameImageFromBoth(c *check.C) {
	images := map[string]imagetar.Image{
		"app:1":        randomimage.New(1, 3000, 5<<20, 70000),
		"a/b/c:v1.2":   randomimage.Of(randomimage.Layer(3, 5000, imagetar.Plain), randomimage.Layer(4, 6000, imagetar.Zstd)),
		"x:no-layers":  randomimage.New(5),
		"x:same-twice": randomimage.Of(randomimage.Layer(6, 5000, imagetar.Gzip), randomimage.Layer(6, 5000, imagetar.Gzip)),
	}
	for name, img := range images {
		s.server.Push(name, img)
		c.Assert(remote.Write(tag(c, s.real.Host, name), asV1(c, img), remote.WithAuth(authn.Anonymous)), check.IsNil)
		fake, fakeLayers, err := s.from(c, "", s.server.Host(), name, "linux/amd64")
		c.Assert(err, check.IsNil)
		genuine, genuineLayers, err := s.from(c, "", s.real.Host, name, "linux/amd64")
		c.Assert(err, check.IsNil)
		c.Check(cmp.Diff(fake, genuine, cmpopts.IgnoreFields(imagetar.Layer{}, "Open")), check.Equals, "")
		c.Check(genuineLayers, check.DeepEquals, fakeLayers)
		c.Check(genuine.Digests, check.DeepEquals, img.Digests)
		layout, err := imagetar.NewLayout(genuine.Image)
		if name != "a/b/c:v1.2" { // which has a layer to decompress first
			c.Check(err, check.IsNil)
			c.Check(layout.ManifestDigest, check.Equals, img.Digests[0])
		}
	}
}

func (s *realSuite) TestSameIndexFromBoth(c *check.C) {
	arm, amd := withPlatform(randomimage.New(1, 3000), "arm64", "v8"), randomimage.New(2, 3000)
	add := func(img imagetar.Image, os, arch, variant string, annotations map[string]string) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: asV1(c, img), Descriptor: v1.Descriptor{
			MediaType: types.OCIManifestSchema1, Annotations: annotations, Platform: &v1.Platform{OS: os, Architecture: arch, Variant: variant}}}
	}
	index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		add(arm, "linux", "arm64", "v8", nil), add(amd, "linux", "amd64", "", nil),
		add(amd, "unknown", "unknown", "", map[string]string{"vnd.docker.reference.type": "attestation-manifest"}))
	c.Assert(remote.WriteIndex(tag(c, s.real.Host, "multi:1"), index), check.IsNil)
	raw, err := index.RawManifest()
	c.Assert(err, check.IsNil)
	s.server.Push("multi:arm", arm)
	s.server.Push("multi:amd", amd)
	s.server.PutManifest("multi:1", string(types.OCIImageIndex), raw)
	for platform, img := range map[string]imagetar.Image{"linux/arm64": arm, "linux/amd64": amd} {
		fake, _, err := s.from(c, "", s.server.Host(), "multi:1", platform)
		c.Assert(err, check.IsNil)
		genuine, _, err := s.from(c, "", s.real.Host, "multi:1", platform)
		c.Assert(err, check.IsNil)
		c.Check(cmp.Diff(fake, genuine, cmpopts.IgnoreFields(imagetar.Layer{}, "Open")), check.Equals, "")
		c.Check(genuine.Digests, check.DeepEquals, []string{digestOf(raw), img.Digests[0]})
	}
}

func (s *realSuite) TestRealRanges(c *check.C) {
	img := randomimage.New(1, 5<<20)
	c.Assert(remote.Write(tag(c, s.real.Host, "ranges:1"), asV1(c, img)), check.IsNil)
	source := s.newSource(c, "", s.real.Host)
	defer source.Close()
	ref, err := imageref.Parse(s.real.Host + "/ranges:1")
	c.Assert(err, check.IsNil)
	ss, err := source.connect(context.Background(), ref)
	c.Assert(err, check.IsNil)
	want, err := readLayer(img.Layers[0])
	c.Assert(err, check.IsNil)
	for _, offset := range []int64{1, 1 << 20, 5<<20 - 1} {
		body, err := ss.transfer(context.Background(), img.Layers[0].Digest, img.Layers[0].Size, offset)
		c.Assert(err, check.IsNil)
		got, err := io.ReadAll(body)
		c.Check(err, check.IsNil)
		c.Check(bytes.Equal(got, want[offset:]), check.Equals, true)
		c.Check(body.Close(), check.IsNil)
	}
	_, err = ss.transfer(context.Background(), img.Layers[0].Digest, 6<<20, 5<<20)
	c.Check(err, check.ErrorMatches, `the registry has 5242880 bytes of it or fewer, but the manifest says 6291456`)
}

func (s *realSuite) TestSameErrorsFromBoth(c *check.C) {
	s.server.Push("app:1", s.image)
	c.Assert(remote.Write(tag(c, s.real.Host, "app:1"), asV1(c, s.image)), check.IsNil)
	for name, text := range map[string]string{
		"app:2":                        `registry: read manifest \S+/app:2: \S+ has no tag 2 in app \(check the tag; there are 1\)`,
		"apx:1":                        `registry: read manifest \S+/apx:1: \S+ has no repository apx \(check the name of the repository\)`,
		"app@" + digestOf([]byte("x")): `registry: read manifest \S+: \S+ has no image with this digest in app .*`,
	} {
		for _, host := range []string{s.server.Host(), s.real.Host} {
			_, _, err := s.from(c, "", host, name, "")
			checkFault(c, err, fault.Registry, false, text)
		}
	}
}

func (s *realSuite) TestRealCredentials(c *check.C) {
	c.Assert(remote.Write(tag(c, s.locked.Host, "app:1"), asV1(c, s.image), remote.WithAuth(&authn.Basic{Username: "alice", Password: "correct horse"})), check.IsNil)
	_, layers, err := s.from(c, auths(s.locked.Host, "alice", "correct horse"), s.locked.Host, "app:1", "linux/amd64")
	c.Assert(err, check.IsNil)
	c.Check(layers, check.DeepEquals, s.expected(c))
	_, _, err = s.from(c, auths(s.locked.Host, "alice", "wrong horse"), s.locked.Host, "app:1", "")
	checkFault(c, err, fault.Registry, false, `.* refuses the credentials for "127\S+", or they give no access to app .*401 Unauthorized: UNAUTHORIZED: authentication required.*`)
	_, _, err = s.from(c, "", s.locked.Host, "app:1", "")
	checkFault(c, err, fault.Registry, false, `.* wants credentials for app, and there are none .*401 Unauthorized: UNAUTHORIZED: authentication required.*`)
}

func tag(c *check.C, host, nameAndTag string) name.Tag {
	t, err := name.NewTag(host + "/" + nameAndTag)
	c.Assert(err, check.IsNil)
	return t
}

// asV1 gives an image the interface that go-containerregistry pushes.
func asV1(c *check.C, img imagetar.Image) v1.Image {
	out, err := partial.CompressedToImage(core{img})
	c.Assert(err, check.IsNil)
	return out
}

type core struct{ img imagetar.Image }

func (i core) RawConfigFile() ([]byte, error) { return i.img.Config, nil }
func (i core) RawManifest() ([]byte, error)   { return i.img.Manifest, nil }
func (i core) MediaType() (types.MediaType, error) {
	return types.MediaType(i.img.ManifestMediaType), nil
}
func (i core) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, layer := range i.img.Layers {
		if layer.Digest == h.String() {
			return coreLayer{layer}, nil
		}
	}
	return nil, io.EOF
}

type coreLayer struct{ layer imagetar.Layer }

func (l coreLayer) Digest() (v1.Hash, error) { return v1.NewHash(l.layer.Digest) }
func (l coreLayer) Size() (int64, error)     { return l.layer.Size, nil }
func (l coreLayer) MediaType() (types.MediaType, error) {
	return types.MediaType(l.layer.MediaType), nil
}
func (l coreLayer) Compressed() (io.ReadCloser, error) { return l.layer.Open(context.Background()) }

// BenchmarkLayer reads a layer of 256 MiB from docker-registry, next to what a
// loop does that only downloads and hashes.
func BenchmarkLayer(b *testing.B) {
	real, err := registrytest.StartReal(b.TempDir(), "")
	if err != nil {
		b.Fatal(err)
	}
	defer real.Stop()
	img := randomimage.New(1, 256<<20)
	v1img, err := partial.CompressedToImage(core{img})
	if err != nil {
		b.Fatal(err)
	}
	ref := imageref.Ref{Domain: real.Host, Path: "bench", Tag: "1"}
	to, err := name.NewTag(ref.String())
	if err != nil {
		b.Fatal(err)
	}
	if err := remote.Write(to, v1img); err != nil {
		b.Fatal(err)
	}
	read := func(b *testing.B, open func() (io.ReadCloser, error)) {
		b.SetBytes(256 << 20)
		b.ReportAllocs()
		buf := make([]byte, 1<<20)
		for b.Loop() {
			body, err := open()
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{body}, buf); err != nil {
				b.Fatal(err)
			}
			body.Close()
		}
	}
	b.Run("ours", func(b *testing.B) {
		source, err := New(Options{Registries: []string{real.Host}})
		if err != nil {
			b.Fatal(err)
		}
		defer source.Close()
		image, err := source.Resolve(b.Context(), ref, "linux/amd64")
		if err != nil {
			b.Fatal(err)
		}
		read(b, func() (io.ReadCloser, error) { return image.Layers[0].Open(b.Context()) })
	})
	b.Run("plain", func(b *testing.B) {
		defer http.DefaultClient.CloseIdleConnections()
		read(b, func() (io.ReadCloser, error) {
			resp, err := http.Get("http://" + real.Host + "/v2/bench/blobs/" + img.Layers[0].Digest)
			if err != nil {
				return nil, err
			}
			return imagetar.Verify(resp.Body, img.Layers[0].Digest, img.Layers[0].Size), nil
		})
	})
}
