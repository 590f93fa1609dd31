// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/lib/keepfile/keeptest"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	check "gopkg.in/check.v1"
)

type validateSuite struct {
	fixture
	img   imagetar.Image
	saved *Saved
	props Properties
}

var _ = check.Suite(&validateSuite{})

func (s *validateSuite) SetUpTest(c *check.C) {
	s.fixture.SetUpTest(c)
	s.img = randomimage.New(1, 5*MiB, 3000, 4*MiB)
	s.saved = s.save(c, 4, s.img)
	s.props = s.saved.Properties(nil, time.Time{})
}

func (s *validateSuite) validate(c *check.C, manifest string, props Properties) Report {
	report, err := Validate(s.ctx, s.cl.client(), manifest, props)
	c.Assert(err, check.IsNil)
	return report
}

// store writes content as the one file of a collection, in blocks that end
// where they may.
func (s *fixture) store(c *check.C, name string, content []byte) string {
	run, err := keepfile.NewWriter(s.cl.client(), 1, arvados.BlockWriteOptions{}).Run(s.ctx, 0)
	c.Assert(err, check.IsNil)
	_, err = run.Write(content)
	c.Assert(err, check.IsNil)
	blocks, err := run.Close(nil)
	c.Assert(err, check.IsNil)
	return keepfile.ManifestText(name, blocks)
}

func (s *validateSuite) TestGoodImage(c *check.C) {
	report := s.validate(c, s.saved.ManifestText, s.props)
	c.Check(report.OK(), check.Equals, true)
	c.Check(report, check.DeepEquals, Report{
		Canonical:    true,
		PDH:          s.saved.PDH,
		ConfigDigest: s.saved.ConfigDigest,
		Platform:     "linux/amd64",
		Layers:       3,
		Size:         s.saved.Size,
	})
	c.Check(s.validate(c, s.saved.ManifestText, Properties{}).OK(), check.Equals, true)
}

// Images of other programs are in order without being canonical: other blocks,
// another order, other headers, other dialects.
func (s *validateSuite) TestForeignImages(c *check.C) {
	archive := archiveOf(c, s.img)
	name := FileName(s.saved.ConfigDigest)
	withFolder := with(c, archive, "folder/", nil)
	withOwner := bytes.Clone(archive)
	copy(withOwner[108:], "0000001")
	repairChecksum(withOwner[:512])
	for _, content := range [][]byte{
		archive,
		reordered(c, archive),
		withFolder,
		withOwner,
		append(bytes.Clone(archive), make([]byte, 8192)...),
		compressed(archive),
	} {
		report := s.validate(c, s.store(c, name, content), Properties{})
		c.Check(report.Problems, check.HasLen, 0)
		c.Check(report.Canonical, check.Equals, false)
	}
}

// repairChecksum makes a changed tar header valid again.
func repairChecksum(header []byte) {
	copy(header[148:], "        ")
	sum := 0
	for _, b := range header {
		sum += int(b)
	}
	for i := 5; i >= 0; i-- {
		header[148+i] = '0' + byte(sum&7)
		sum >>= 3
	}
	header[154] = 0
}

func (s *validateSuite) TestWrongCollections(c *check.C) {
	manifest := s.saved.ManifestText
	archive := archiveOf(c, s.img)
	flipped := func(at int) []byte {
		content := bytes.Clone(archive)
		content[at] ^= 1
		return content
	}
	name := FileName(s.saved.ConfigDigest)
	for problem, manifest := range map[string]string{
		`its manifest is malformed: .*`:                                                       "nonsense",
		`it has 0 files and folders instead of one file`:                                      "",
		`it has 2 files and folders instead of one file`:                                      manifest + "./sub" + strings.TrimPrefix(manifest, "."),
		`its file is in several pieces, .*`:                                                   inPieces(manifest),
		`its file is called "sha256:x.tar" but holds image sha256:.*`:                         s.store(c, "sha256:x.tar", archive),
		`its file is called "dir/.*`:                                                          s.store(c, "dir/"+name, archive),
		`request: read image archive blobs/sha256/.*: the content of the member is sha256:.*`: s.store(c, name, flipped(1000)),
		`request: read image archive: it has neither manifest.json nor index.json .*`:         s.store(c, name, append(with(c, nil, "x.tar", archive[:4096]), make([]byte, 1024)...)),
		`request: read image archive.*it ends early.*`:                                        s.store(c, name, archive[:5*MiB]),
		`request: read image archive.*`:                                                       s.store(c, name, nil),
	} {
		report := s.validate(c, manifest, Properties{})
		c.Check(report.OK(), check.Equals, false)
		c.Check(strings.Join(report.Problems, "\n"), check.Matches, `(?s)`+problem, check.Commentf(problem))
	}
}

// A layer that was put in for another one, with all digests made to fit but
// the config's: engines would refuse it.
func (s *validateSuite) TestLayerThatUnpacksToSomethingElse(c *check.C) {
	for problem, content := range map[string][]byte{
		`layer 1 \(.*\) unpacks to sha256:.* but the config says ` + s.img.Layers[0].DiffID: readLayer(c, randomimage.Layer(9, 5*MiB, imagetar.Gzip)),
		`layer 1 \(.*\) cannot be unpacked: .*`:                                             readLayer(c, s.img.Layers[0])[:4*MiB],
	} {
		fake := layerOf(content, s.img.Layers[0].DiffID)
		fake.MediaType = s.img.Layers[0].MediaType
		img := s.img
		img.Layers = append([]imagetar.Layer{fake}, img.Layers[1:]...)
		img.Manifest = nil
		saved := s.save(c, 1, img)
		report := s.validate(c, saved.ManifestText, saved.Properties(nil, time.Time{}))
		c.Check(strings.Join(report.Problems, "\n"), check.Matches, problem)
	}
}

// No byte of an archive of ours can be changed without being found out, also by
// somebody who mends the property with the hash and the checksum of the header;
// the part is named.
func (s *validateSuite) TestEachByte(c *check.C) {
	img := randomimage.Of(randomimage.Layer(1, 2048, imagetar.Gzip), randomimage.Layer(2, 3333, imagetar.Gzip))
	archive, layout := archiveOf(c, img), layoutOf(c, img)
	name := FileName(layout.ConfigDigest)
	validate := func(what string, changed []byte, want string) {
		manifest := s.store(c, name, changed)
		report := s.validate(c, manifest, Properties{PDH: arvados.PortableDataHash(manifest)})
		c.Check(strings.Join(report.Problems, "\n"), check.Matches, `(?s).*`+want+`.*`, check.Commentf("%s", what))
		c.Check(report.Canonical, check.Equals, false)
	}
	change := func(at int) []byte {
		changed := bytes.Clone(archive)
		changed[at] ^= 1
		return changed
	}
	kinds := []string{"it is a layer", "it is a layer", "its file is named by it", "it is a manifest", "", "", ""}
	start := 0
	for i, m := range layout.Members {
		about, end := regexp.QuoteMeta(m.Name), start+512+int(m.Size)
		for at := start; at < start+512; at += 13 {
			validate(fmt.Sprintf("header of %s, byte %d", m.Name, at-start), change(at), `tar header`)
			mended := change(at)
			repairChecksum(mended[start : start+512])
			if !bytes.Equal(mended, archive) { // more than the checksum itself
				validate(fmt.Sprintf("mended header of %s, byte %d", m.Name, at-start), mended, ``)
			}
		}
		// What names a member that is not there may also be found out by that.
		content := about + `|the archive has no member`
		if kinds[i] != "" {
			content = about + `: the content of the member is .*; ` + kinds[i] + `|` + about + ` cannot be used|the content of `
		}
		for at := start + 512; at < end; at += max(1, int(m.Size/20)) {
			validate(fmt.Sprintf("content of %s, byte %d", m.Name, at-start-512), change(at), content)
		}
		for at := end; at < start+int(m.Span()); at += 17 {
			validate("padding of "+m.Name, change(at), `its archive was changed: the padding after `+about+` is not empty`)
		}
		start += int(m.Span())
	}
	for at := start; at < len(archive); at += 101 {
		validate("end", change(at), `(what follows the last member|it is the tar header after oci-layout)`)
	}
}

func readLayer(c *check.C, layer imagetar.Layer) []byte {
	body, err := layer.Open(context.Background())
	c.Assert(err, check.IsNil)
	content, err := io.ReadAll(body)
	c.Assert(err, check.IsNil)
	return content
}

func (s *validateSuite) TestWrongProperties(c *check.C) {
	for problem, change := range map[string]func(p *Properties){
		`it was changed since it was made: .*`:                                  func(p *Properties) { p.PDH = "d41d8cd98f00b204e9800998ecf8427e+0" },
		`property docker-image-hash is sha256:x but the file is called .*`:      func(p *Properties) { p.Hash = "sha256:x" },
		`property arv:docker-image-size is 1, but the layers say .*`:            func(p *Properties) { p.Size = 1 },
		`property arv:docker-image-layers does not list just the layers .*`:     func(p *Properties) { p.Layers = p.Layers[1:] },
		`property arv:docker-image-layers does not list just the layers that.*`: func(p *Properties) { p.Layers = append(p.Layers, "sha256:x") },
	} {
		props := s.props
		change(&props)
		report := s.validate(c, s.saved.ManifestText, props)
		c.Check(strings.Join(report.Problems, "\n"), check.Matches, problem)
	}
	// Layers can only be reused if their blocks are their own.
	manifest := s.store(c, FileName(s.saved.ConfigDigest), archiveOf(c, s.img))
	report := s.validate(c, manifest, Properties{Layers: s.props.Layers})
	c.Check(report.Problems, check.HasLen, 1)
}

// Trouble of Keep that may pass says nothing about the image; a lost block
// does.
func (s *validateSuite) TestKeepFails(c *check.C) {
	s.cl.keep.Script = func(context.Context, *keeptest.Op) error { return keeptest.Error{Status: 503, Message: "unavailable"} }
	_, err := Validate(s.ctx, s.cl.client(), s.saved.ManifestText, s.props)
	c.Check(err, check.ErrorMatches, `.*keep: read block .*: 503 unavailable`)
	c.Check(fault.Transient(err), check.Equals, true)

	s.cl.keep.Script = func(context.Context, *keeptest.Op) error { return keeptest.Error{Status: 404, Message: "not found"} }
	report := s.validate(c, s.saved.ManifestText, s.props)
	c.Check(strings.Join(report.Problems, "\n"), check.Matches, `.*keep: read block .*: 404 not found`)

	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err = Validate(ctx, s.cl.client(), s.saved.ManifestText, s.props)
	c.Check(err, check.NotNil)
}

// The walk sees the same archive however it is cut.
func (s *validateSuite) TestWalkInPieces(c *check.C) {
	img := randomimage.Of(randomimage.Layer(1, 2048, imagetar.Gzip), randomimage.Layer(2, 3333, imagetar.Gzip))
	archive, layout := archiveOf(c, img), layoutOf(c, img)
	for _, size := range []int{1, 7, 511, 512, 513, 100_000} {
		walk := &tarWalk{}
		for rest := archive; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			walk.Write(rest[:min(size, len(rest))])
		}
		c.Check(walk.differences(layout, img.Layers), check.HasLen, 0)
	}
	for at := range archive {
		changed := bytes.Clone(archive)
		changed[at]++
		walk := &tarWalk{}
		walk.Write(changed)
		if len(walk.differences(layout, img.Layers)) == 0 {
			c.Fatalf("a change of byte %d of %d went unnoticed", at, len(archive))
		}
	}
	for _, n := range []int{len(archive) - 1, len(archive) - 512, len(archive) - 1024, 0} {
		walk := &tarWalk{}
		walk.Write(archive[:n])
		c.Check(walk.differences(layout, img.Layers), check.Not(check.HasLen), 0)
	}
	var other bytes.Buffer
	w := tar.NewWriter(&other)
	c.Assert(w.WriteHeader(&tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "y"}), check.IsNil)
	w.Close()
	walk := &tarWalk{}
	walk.Write(other.Bytes())
	c.Check(walk.broken, check.Equals, true)
}
