// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"git.arvados.org/arvados.git/lib/imagetar"
	bkclient "github.com/moby/buildkit/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"
	check "gopkg.in/check.v1"
)

// secondHost is where build/need-second-engine has its engine listen.
const secondHost = "unix:///run/arvados-engine2/docker.sock"

// building runs against real engines: the node's own, and the second one if it
// is there. Bases come from us; nothing is fetched.
type building struct {
	host   string
	engine *Engine
	info   Info
	base   testImage // a new one for each test
	before map[string]bool
	ignore goleak.Option

	mutex sync.Mutex
	lines []string
}

func init() {
	for _, host := range []string{DefaultHost, secondHost} {
		_, err := os.Stat(strings.TrimPrefix(host, "unix://"))
		if host == DefaultHost || err == nil {
			check.Suite(&building{host: host})
		}
	}
}

func (s *building) SetUpTest(c *check.C) {
	s.ignore = goleak.IgnoreCurrent()
	var err error
	s.engine, err = New(s.host)
	c.Assert(err, check.IsNil)
	s.info, err = s.engine.Ping(context.Background())
	c.Assert(err, check.IsNil, check.Commentf("these tests need a running Docker Engine: build/need-engine"))
	s.base = busyboxImage(c, newLabel(), "linux/amd64")
	s.lines = nil
	s.before = map[string]bool{}
	for _, record := range s.usage(c) {
		s.before[record.ID] = true
	}
}

// TearDownTest sees to it that every build leaves the engine as it was.
func (s *building) TearDownTest(c *check.C) {
	checkGone(c, func() []string { return append(s.records(c), s.images(c)...) })
	s.engine.Close()
	checkNoLeaks(c, s.ignore)
}

// records are those of the build cache that have come in the test.
func (s *building) records(c *check.C) (found []string) {
	for _, record := range s.usage(c) {
		if record.InUse && s.info.Store == StoreContainerd {
			continue // see Build about steps that were cancelled
		}
		if !s.before[record.ID] {
			found = append(found, fmt.Sprintf("cache record %+v", *record))
		}
	}
	return found
}

// usage is the build cache.
func (s *building) usage(c *check.C) []*bkclient.UsageInfo {
	client, err := s.engine.buildkit(context.Background())
	c.Assert(err, check.IsNil)
	defer client.Close()
	usage, err := client.DiskUsage(context.Background())
	c.Assert(err, check.IsNil)
	return usage
}

// images are those of this process that are left on the engine.
func (s *building) images(c *check.C) []string {
	con := &conformance{engine: s.engine, registry: &testRegistry{Host: "none.example"}}
	return con.names(c)
}

// bases is the image of the test as base 0 of owner.
func (s *building) bases(c *check.C, owner string) []Base {
	return []Base{{Name: BaseName(owner, 0), Shown: "busybox:test", Image: s.base.image()}}
}

func (img testImage) image() imagetar.Image {
	return imagetar.Image{Config: img.config, Manifest: img.manifest, ManifestMediaType: ocispec.MediaTypeImageManifest, Layers: []imagetar.Layer{{
		MediaType: ocispec.MediaTypeImageLayerGzip,
		Digest:    digestOf(img.layer),
		Size:      int64(len(img.layer)),
		DiffID:    img.diffID,
		Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(img.layer)), nil
		},
	}}}
}

// tarOf is a build context.
func tarOf(files map[string]string) []byte {
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for name, content := range files {
		if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0644, Size: int64(len(content))}); err != nil {
			panic(err)
		}
		if _, err := io.WriteString(tw, content); err != nil {
			panic(err)
		}
	}
	if err := tw.Close(); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

func stream(content []byte) func(context.Context) io.ReadCloser {
	return func(context.Context) io.ReadCloser { return io.NopCloser(bytes.NewReader(content)) }
}

// request is for a Dockerfile in which BASE is the base image.
func (s *building) request(c *check.C, dockerfile string, files map[string]string) BuildRequest {
	owner := newOwner()
	return BuildRequest{
		Owner:      owner,
		Context:    stream(tarOf(files)),
		Dockerfile: []byte(strings.ReplaceAll(dockerfile, "BASE", BaseName(owner, 0))),
		Bases:      s.bases(c, owner),
		Labels:     map[string]string{testLabel: s.base.label},
		Network:    NetworkNone,
		Log: func(line string) {
			s.mutex.Lock()
			defer s.mutex.Unlock()
			s.lines = append(s.lines, line)
		},
	}
}

func (s *building) log() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return strings.Join(s.lines, "\n")
}

// fileSink keeps the files of all layers.
type fileSink map[string]string

func (f fileSink) Blob(_ string, _ int64, r io.Reader) (imagetar.BlobInfo, error) {
	packed, err := io.ReadAll(r)
	if err != nil {
		return imagetar.BlobInfo{}, err
	}
	plain := io.Reader(bytes.NewReader(packed))
	if zr, err := gzip.NewReader(bytes.NewReader(packed)); err == nil {
		plain = zr
	}
	for tr := tar.NewReader(plain); ; {
		header, err := tr.Next()
		if err != nil { // the end, or a member that is no layer
			break
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			return imagetar.BlobInfo{}, err
		}
		f[header.Name] = string(content)
	}
	return imagetar.BlobInfo{Digest: digestOf(packed), Size: int64(len(packed))}, nil
}

// built is what came of a build.
type built struct {
	image   BuiltImage
	archive imagetar.Archive
	files   fileSink
}

func (s *building) build(ctx context.Context, req BuildRequest) (result built, err error) {
	result.files = fileSink{}
	err = s.engine.Build(ctx, req, func(ctx context.Context, img BuiltImage) error {
		result.image = img
		archive, err := img.Open(ctx)
		if err != nil {
			return err
		}
		defer archive.Close()
		if result.archive, err = imagetar.ScanArchive(archive, result.files); err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, archive)
		return err
	})
	return result, err
}

func (s *building) TestBuild(c *check.C) {
	req := s.request(c, "ARG WHO=nobody\nFROM BASE\nARG WHO\nCOPY greeting /\nRUN echo I am $WHO; cat /label > /found\nENV A=b\n", map[string]string{"greeting": "hello"})
	req.Args = map[string]string{"WHO": "anna", "UNUSED": "x", "BUILDKIT_SYNTAX": "127.0.0.1:1/evil"}
	result, err := s.build(context.Background(), req)
	c.Assert(err, check.IsNil, check.Commentf("%s", s.log()))
	c.Logf("%s", s.log())
	c.Check(result.files["greeting"], check.Equals, "hello")
	c.Check(result.files["found"], check.Equals, s.base.label)
	c.Check(result.image.ID, check.Matches, "sha256:[0-9a-f]{64}")
	c.Check(digestOf(result.archive.Image.Config), check.Equals, result.image.ID)
	c.Check(string(result.archive.Image.Config), check.Matches, `.*"A=b".*`)
	c.Check(result.archive.Image.Layers[0].DiffID, check.Equals, s.base.diffID)
	c.Check(s.log(), check.Matches, `(?s).*#\d I am anna\n.*#\d \[\d/\d\] RUN echo I am anna; cat /label > /found: \d+\.\d s.*`)
	c.Check(s.log(), check.Matches, `(?s).*the build arg BUILDKIT_SYNTAX has no effect.*`)
}

func (s *building) TestStepFails(c *check.C) {
	req := s.request(c, "FROM BASE\n\nRUN true\nRUN for i in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22; do \\\n  echo line $i; done; exit 3\n", nil)
	_, err := s.build(context.Background(), req)
	c.Logf("%v\n%s", err, s.log())
	var failed *BuildError
	c.Assert(errors.As(err, &failed), check.Equals, true)
	c.Check(failed.Line, check.Equals, 4)
	c.Check(failed.ExitCode, check.Equals, 3)
	c.Check(failed.Output, check.HasLen, keptLines)
	c.Check(failed.Output[keptLines-1], check.Equals, "line 22")
	c.Check(err, check.ErrorMatches, `build: Dockerfile line 4: RUN for i in .* do echo line .i; done; exit 3: exit code 3`)
	c.Check(s.log(), check.Matches, `(?s).*line 22\n.*`)
}
