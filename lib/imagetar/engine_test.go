// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"gopkg.in/check.v1"
)

// engineSuite writes archives with the programs that users have, and loads ours
// into the Docker Engine. Its images are its own: their names and their random
// content occur nowhere else.
type engineSuite struct {
	seed int64
	repo string
	dir  string
}

var _ = check.Suite(&engineSuite{})

func (s *engineSuite) SetUpSuite(c *check.C) {
	for _, program := range []string{"docker", "skopeo", "busybox"} {
		if _, err := exec.LookPath(program); err != nil {
			c.Fatalf("this test needs %s: install the Debian packages docker.io, skopeo and busybox", program)
		}
	}
	if out, err := exec.Command("docker", "version").CombinedOutput(); err != nil {
		c.Fatalf("this test needs a Docker Engine: start one (service docker start); %s", out)
	}
}

func (s *engineSuite) SetUpTest(c *check.C) {
	s.seed = time.Now().UnixNano()
	s.repo = fmt.Sprintf("imagetar-test/%d", s.seed)
	s.dir = c.MkDir()
}

// run runs a program and returns what it prints.
func (s *engineSuite) run(c *check.C, stdin io.Reader, program string, args ...string) string {
	cmd := exec.Command(program, args...)
	cmd.Stdin = stdin
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	c.Assert(cmd.Run(), check.IsNil, check.Commentf("%s %s: %s%s", program, args, stdout.String(), stderr.String()))
	return strings.TrimSpace(stdout.String())
}

// load loads the archive of img into the engine, which must say that it is the
// image of its config, and removes it again.
func (s *engineSuite) load(c *check.C, img imagetar.Image) {
	r := mustLayout(c, img).Reader(context.Background(), img.Layers)
	defer r.Close()
	id := sum(img.Config)
	c.Check(s.run(c, r, "docker", "load", "-q"), check.Equals, "Loaded image ID: "+id)
	s.run(c, nil, "docker", "rmi", id)
}

// busybox imports a small image with two tags; undo removes it.
func (s *engineSuite) busybox(c *check.C) (id string, undo func()) {
	program, err := exec.LookPath("busybox")
	c.Assert(err, check.IsNil)
	content, err := os.ReadFile(program)
	c.Assert(err, check.IsNil)
	root := tarOf(file{name: "bin/busybox", content: string(content)}, file{name: "seed", content: fmt.Sprint(s.seed)})
	id = s.run(c, bytes.NewReader(root), "docker", "import", "-c", `CMD ["/bin/busybox"]`, "-", s.repo+":1")
	s.run(c, nil, "docker", "tag", s.repo+":1", s.repo+":2")
	return id, func() { s.run(c, nil, "docker", "rmi", s.repo+":1", s.repo+":2") }
}

// scanFile scans an archive and checks that ours, made of what was found, loads
// as the same image.
func (s *engineSuite) scanFile(c *check.C, path, id string) imagetar.Archive {
	f, err := os.Open(path)
	c.Assert(err, check.IsNil)
	defer f.Close()
	return s.scan(c, f, id)
}

func (s *engineSuite) scan(c *check.C, r io.Reader, id string) imagetar.Archive {
	sink := &memorySink{}
	a, err := imagetar.ScanArchive(r, sink)
	c.Assert(err, check.IsNil)
	c.Check(sum(a.Image.Config), check.Equals, id)
	for i, layer := range a.Image.Layers {
		content := sink.blobs[a.Members[i]]
		a.Image.Layers[i].Open = func(context.Context) (io.ReadCloser, error) {
			return imagetar.Verify(io.NopCloser(bytes.NewReader(content)), layer.Digest, layer.Size), nil
		}
	}
	return a
}

func (s *engineSuite) TestArchivesLoad(c *check.C) {
	plain := randomimage.Layer(s.seed, 5120, imagetar.Plain)
	for _, img := range []imagetar.Image{
		randomimage.New(s.seed, 3000, 5<<20, 4<<20, 4000),
		randomimage.Of(plain, randomimage.Layer(s.seed+1, 5000, imagetar.Gzip), plain),
		// Zeros after the end of the tar, no whole block of them.
		randomimage.Of(randomimage.Layer(s.seed+2, 5001, imagetar.Plain)),
	} {
		s.load(c, img)
		img.Manifest = nil
		s.load(c, img)
	}
}

func (s *engineSuite) TestWhatWasLoadedIsSavedAndScansToItself(c *check.C) {
	base := randomimage.Layer(s.seed, 5000, imagetar.Gzip)
	img := randomimage.Of(base, randomimage.Layer(s.seed+1, 5<<20, imagetar.Plain), base)
	id := sum(img.Config)
	l := mustLayout(c, img)
	s.run(c, l.Reader(context.Background(), img.Layers), "docker", "load")
	defer s.run(c, nil, "docker", "rmi", id)
	a := s.scan(c, strings.NewReader(s.save(c, id)), id)
	c.Check(a.RepoTags, check.HasLen, 0)
	for i, layer := range a.Image.Layers {
		c.Check(layer.DiffID, check.Equals, img.Layers[i].DiffID)
	}
}

func (s *engineSuite) save(c *check.C, names ...string) string {
	path := filepath.Join(s.dir, "saved.tar")
	s.run(c, nil, "docker", append([]string{"save", "-o", path}, names...)...)
	content, err := os.ReadFile(path)
	c.Assert(err, check.IsNil)
	return string(content)
}

func (s *engineSuite) TestDockerSave(c *check.C) {
	id, undo := s.busybox(c)
	defer undo()
	a := s.scan(c, strings.NewReader(s.save(c, s.repo+":1", s.repo+":2")), id)
	c.Check(a.RepoTags, check.DeepEquals, []string{s.repo + ":1", s.repo + ":2"})
	c.Check(a.Platform, check.Equals, "linux/"+s.run(c, nil, "docker", "version", "-f", "{{.Server.Arch}}"))

	// By id, without names; and through a compressor.
	saved := s.save(c, id)
	c.Check(s.scan(c, strings.NewReader(saved), id).RepoTags, check.HasLen, 0)
	s.scan(c, bytes.NewReader(gzipped([]byte(saved))), id)
}

func (s *engineSuite) TestDockerSaveOfSeveralImages(c *check.C) {
	_, undo := s.busybox(c)
	defer undo()
	other := s.repo + "-other:1"
	s.run(c, bytes.NewReader(tarOf(file{name: "seed", content: s.repo})), "docker", "import", "-", other)
	defer s.run(c, nil, "docker", "rmi", other)
	_, err := scan([]byte(s.save(c, s.repo+":1", other)))
	c.Check(err, check.ErrorMatches, `request: read image archive: it holds 2 images \(imagetar-test/.*\) \(make an archive of exactly one image for one platform\)`)
}

func (s *engineSuite) TestSkopeoDockerArchive(c *check.C) {
	id, undo := s.busybox(c)
	defer undo()
	path := filepath.Join(s.dir, "skopeo.tar")
	s.run(c, nil, "skopeo", "copy", "docker-daemon:"+s.repo+":1", "docker-archive:"+path+":"+s.repo+":1")
	a := s.scanFile(c, path, id)
	c.Check(a.RepoTags, check.DeepEquals, []string{"docker.io/" + s.repo + ":1"})
}

// skopeo makes another config (so another image) when it turns Docker's format
// into OCI's, so this starts from an OCI image: our own archive.
func (s *engineSuite) TestSkopeoOCIArchive(c *check.C) {
	img := randomimage.New(s.seed, 5000, 6000)
	ours, path := filepath.Join(s.dir, "ours.tar"), filepath.Join(s.dir, "oci.tar")
	c.Assert(os.WriteFile(ours, archiveOf(c, img), 0666), check.IsNil)
	s.run(c, nil, "skopeo", "copy", "oci-archive:"+ours, "oci-archive:"+path+":"+s.repo+":1")
	a := s.scanFile(c, path, sum(img.Config))
	c.Check(a.RepoTags, check.DeepEquals, []string{s.repo + ":1"})
	c.Check(string(a.Image.Manifest), check.Equals, string(img.Manifest))
	s.load(c, a.Image)
}

func (s *engineSuite) TestSkopeoOCIArchiveWithZstd(c *check.C) {
	img := randomimage.Of(randomimage.Layer(s.seed, 5120, imagetar.Plain))
	ours, path := filepath.Join(s.dir, "ours.tar"), filepath.Join(s.dir, "oci.tar")
	c.Assert(os.WriteFile(ours, archiveOf(c, img), 0666), check.IsNil)
	s.run(c, nil, "skopeo", "copy", "--dest-compress-format", "zstd", "oci-archive:"+ours, "oci-archive:"+path)
	a := s.scanFile(c, path, sum(img.Config))
	c.Check(a.Image.Manifest, check.IsNil)
	c.Check(a.Image.Layers[0].Digest, check.Equals, img.Layers[0].DiffID)
	s.load(c, a.Image)
}

// Our archive is a docker-archive and an OCI archive for others, too.
func (s *engineSuite) TestSkopeoReadsOurs(c *check.C) {
	img := randomimage.New(s.seed, 5000, 6000)
	ours := filepath.Join(s.dir, "ours.tar")
	c.Assert(os.WriteFile(ours, archiveOf(c, img), 0666), check.IsNil)
	for _, transport := range []string{"docker-archive:", "oci-archive:"} {
		config := s.run(c, nil, "skopeo", "inspect", "--config", "--raw", transport+ours)
		c.Check(sum([]byte(config)), check.Equals, sum(img.Config))
	}
}

func (s *engineSuite) TestCraneTarball(c *check.C) {
	id, undo := s.busybox(c)
	defer undo()
	saved, path := filepath.Join(s.dir, "saved.tar"), filepath.Join(s.dir, "crane.tar")
	s.save(c, s.repo+":1")
	img, err := tarball.ImageFromPath(saved, nil)
	c.Assert(err, check.IsNil)
	tag, err := name.NewTag(s.repo + ":1")
	c.Assert(err, check.IsNil)
	c.Assert(tarball.WriteToFile(path, tag, img), check.IsNil)
	a := s.scanFile(c, path, id)
	c.Check(a.RepoTags, check.DeepEquals, []string{s.repo + ":1"})
	c.Check(imagetar.CompressionOf(a.Image.Layers[0].MediaType), check.Equals, imagetar.Gzip)

	// And back: crane reads ours.
	ours := filepath.Join(s.dir, "ours.tar")
	c.Assert(os.WriteFile(ours, archiveOf(c, a.Image), 0666), check.IsNil)
	back, err := tarball.ImageFromPath(ours, nil)
	c.Assert(err, check.IsNil)
	config, err := back.ConfigName()
	c.Assert(err, check.IsNil)
	c.Check(config.String(), check.Equals, id)
}
