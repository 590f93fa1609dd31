// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&keptSuite{})

// keptSuite is about images that are in Keep.
type keptSuite struct{ fixture }

// link makes a link as arv-keepdocker does.
func (s *keptSuite) link(c *check.C, class, name, head string) {
	c.Assert(s.user.RequestAndDecode(nil, "POST", "arvados/v1/links", nil, attrs{"link": attrs{
		"link_class": class, "name": name, "head_uuid": head, "properties": attrs{"image_timestamp": "2020-02-02T02:02:02Z"},
	}}), check.IsNil)
}

// legacy stores an image of which only links tell.
func (s *keptSuite) legacy(c *check.C, seed int64, names ...string) string {
	uuid := s.store(c, randomimage.New(seed, 4096), func(properties attrs) { clear(properties) })
	var hash string
	for name := range s.files(c, uuid) {
		hash = strings.TrimSuffix(name, ".tar")
	}
	s.link(c, linkHash, hash, uuid)
	for _, name := range names {
		s.link(c, linkName, name, uuid)
	}
	return uuid
}

func (s *keptSuite) TestImages(c *check.C) {
	first := s.store(c, randomimage.New(1, 4096), nil, "lab/tool:1", "lab/tool:latest")
	s.store(c, randomimage.New(2, 4096), nil)
	s.legacy(c, 3, "old:1", "lab/tool:0")
	s.link(c, linkName, "lab/tool:linked", first)
	dead := s.legacy(c, 4, "dead:1")
	c.Assert(s.user.RequestAndDecode(nil, "DELETE", "arvados/v1/collections/"+dead, nil, nil), check.IsNil)

	golden(c, "images", "$ arv-docker images\n", s.run(c, "images").out,
		"\n$ arv-docker images lab/tool\n", s.run(c, "images", "lab/tool").out,
		"\n$ arv-docker images old:1\n", s.run(c, "images", "old:1").out,
		"\n$ arv-docker images lab/tool:latest\n", s.run(c, "images", "lab/tool:latest").out,
		"\n$ arv-docker images none\n", s.run(c, "images", "none").out)

	var lines []listed
	for dec := json.NewDecoder(strings.NewReader(s.run(c, "images", "--json", "lab/tool:1").out)); dec.More(); {
		var line listed
		c.Assert(dec.Decode(&line), check.IsNil)
		lines = append(lines, line)
	}
	c.Assert(lines, check.HasLen, 1)
	c.Check(lines[0].Collection, check.Equals, first)
	c.Check(lines[0].CreatedAt, check.Equals, "2026-01-02T03:04:05Z")
	c.Check(lines[0].ID, check.Matches, `sha256:[0-9a-f]{64}`)
}

// More images than a page has: each once, the newest first.
func (s *keptSuite) TestManyImages(c *check.C) {
	var made []string
	for i := range 4*firstPage + 3 {
		var coll arvados.Collection
		c.Assert(s.user.RequestAndDecode(&coll, "POST", "arvados/v1/collections", nil, attrs{"collection": attrs{
			"properties": attrs{keyMarker: "1", keyRepoTag: fmt.Sprintf("many:%d", i)},
		}}), check.IsNil)
		made = append(made, coll.UUID)
		if i%3 == 0 {
			s.link(c, linkName, fmt.Sprintf("many:%d", i), coll.UUID)
		}
	}
	slices.Reverse(made)
	var listedUUIDs []string
	for dec := json.NewDecoder(strings.NewReader(s.run(c, "images", "--json").out)); dec.More(); {
		var line listed
		c.Assert(dec.Decode(&line), check.IsNil)
		listedUUIDs = append(listedUUIDs, line.Collection)
	}
	c.Check(listedUUIDs, check.DeepEquals, made)
}

func (s *keptSuite) TestInspect(c *check.C) {
	s.store(c, randomimage.New(1, 5*mib, 4096), nil, "lab/tool:1")
	a := s.run(c, "inspect", "lab/tool:1")
	golden(c, "inspect", a.out)
	var images []inspected
	c.Assert(json.Unmarshal([]byte(a.out), &images), check.IsNil)
	for _, name := range []string{images[0].ID, images[0].ID[7:19], images[0].Arvados.PortableDataHash, "lab/tool@" + images[0].Digests[0]} {
		c.Check(s.run(c, "inspect", name).out, check.Equals, a.out, check.Commentf("%s", name))
	}
	two := s.callWith(c, call{}, "inspect", "none", "lab/tool:1")
	c.Check(two.code, check.Equals, 1)
	c.Check(two.out, check.Equals, a.out)
}

func (s *keptSuite) TestTag(c *check.C) {
	uuid := s.store(c, randomimage.New(1, 4096), func(properties attrs) { properties["mine"] = "stays" }, "lab/tool:1")
	c.Check(s.run(c, "tag", "--links", "always", "lab/tool:1", "docker.io/library/other").out, check.Equals, "")
	coll := s.collection(c, uuid)
	c.Check(coll.Properties[keyRepoTag], check.DeepEquals, []interface{}{"lab/tool:1", "other:latest"})
	c.Check(coll.Properties["mine"], check.Equals, "stays")
	hash := coll.Properties["docker-image-hash"].(string)
	all := []string{"docker_image_hash " + hash, "docker_image_repo+tag lab/tool:1", "docker_image_repo+tag other:latest"}
	c.Check(s.links(c, uuid), check.DeepEquals, all)

	// Once more changes nothing.
	s.asked()
	s.run(c, "tag", coll.PortableDataHash, "other")
	for _, request := range s.asked() {
		c.Check(request, check.Matches, "api GET .*")
	}
	c.Check(s.links(c, uuid), check.DeepEquals, all)
	c.Check(s.collection(c, uuid).ModifiedAt, check.Equals, coll.ModifiedAt)

	// A newer image of the name stays the one that is meant.
	newer := randomimage.New(2, 4096)
	newer.Config = bytes.Replace(newer.Config, []byte("2026-01-02"), []byte("2026-02-02"), 1)
	newer.Manifest = nil
	newerUUID := s.store(c, newer, nil, "lab/new:1")
	a := s.run(c, "tag", "lab/tool:1", "lab/new:1")
	c.Check(a.err, check.Equals, "warning: lab/new:1 means collection "+newerUUID+", which has the name too and holds a newer image\n")
}

// docker is what the docker program prints.
func (s *keptSuite) docker(c *check.C, stdin io.Reader, args ...string) []byte {
	cmd := exec.Command("docker", args...)
	cmd.Stdin = stdin
	out, err := cmd.Output()
	c.Assert(err, check.IsNil, check.Commentf("docker %q", args))
	return out
}

// An image of the engine goes into Keep, and back.
// What the file is called is up to the nodes' engines; the rest stays the same.
func (s *keptSuite) TestLoadNamedByManifest(c *check.C) {
	img := randomimage.New(7, 4096)
	layout, err := imagetar.NewLayout(img)
	c.Assert(err, check.IsNil)
	r := layout.Reader(s.ctx, img.Layers)
	archive, err := io.ReadAll(r)
	c.Assert(err, check.IsNil)
	c.Check(r.Close(), check.IsNil)
	var before result
	for _, existed := range []bool{false, true} {
		a := s.callWith(c, call{stdin: bytes.NewReader(archive)}, "load", "--json", "--image-id", "manifest", "-t", "named:1", "-")
		c.Assert(a.code, check.Equals, 0, check.Commentf("%s", a.err))
		var r result
		c.Assert(json.Unmarshal([]byte(a.out), &r), check.IsNil)
		c.Check(r.Image, check.Equals, layout.ManifestDigest)
		c.Check(r.Existed, check.Equals, existed)
		c.Check(!existed || r.Collection == before.Collection, check.Equals, true)
		before = r
	}
	c.Check(s.run(c, "verify", "named:1").code, check.Equals, 0)
	c.Check(s.run(c, "save", "named:1").out == string(archive), check.Equals, true)
	for _, name := range []string{layout.ManifestDigest, layout.ConfigDigest} {
		c.Check(s.run(c, "inspect", name).out, check.Matches, "(?s).*"+before.Collection+".*")
	}
	c.Check(s.callWith(c, call{}, "load", "--image-id", "index", "-").err, check.Matches, `(?s).*"index" is neither config nor manifest.*`)
}

func (s *keptSuite) TestLoadAndSave(c *check.C) {
	const name = "arv-docker-test/roundtrip:1"
	dir := c.MkDir()
	c.Assert(os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY Dockerfile /\nLABEL a=b\n"), 0600), check.IsNil)
	s.docker(c, nil, "build", "-q", "-t", name, dir)
	defer func() { _ = exec.Command("docker", "rmi", "-f", name).Run() }()
	id := strings.TrimSpace(string(s.docker(c, nil, "inspect", "--format", "{{.Id}}", name)))
	archive := s.docker(c, nil, "save", name)

	a := s.callWith(c, call{stdin: bytes.NewReader(archive)}, "load", "--json", "--links=always", "-t", "second:1", "-")
	c.Assert(a.code, check.Equals, 0, check.Commentf("%s", a.err))
	var r result
	c.Assert(json.Unmarshal([]byte(a.out), &r), check.IsNil)
	c.Check(r.Image, check.Equals, id)
	c.Check(r.Names, check.DeepEquals, []string{"second:1", name})
	c.Check(s.links(c, r.Collection), check.HasLen, 3)
	c.Check(s.run(c, "verify", name).code, check.Equals, 0)

	// The same from a file: no second collection.
	file := filepath.Join(dir, "image.tar")
	c.Assert(os.WriteFile(file, archive, 0600), check.IsNil)
	again := s.result(c, "load", "-t", "third:1", file)
	c.Check(again.Existed, check.Equals, true)
	c.Check(again.Collection, check.Equals, r.Collection)
	c.Check(again.Names, check.DeepEquals, []string{"second:1", name, "third:1"})

	saved := s.run(c, "save", name)
	output := filepath.Join(dir, "saved.tar")
	c.Check(s.run(c, "save", "-o", output, "third:1").out, check.Equals, "")
	written, err := os.ReadFile(output)
	c.Assert(err, check.IsNil)
	c.Check(string(written) == saved.out, check.Equals, true)
	left, err := filepath.Glob(output + ".*")
	c.Check(err, check.IsNil)
	c.Check(left, check.HasLen, 0)
	s.docker(c, nil, "rmi", "-f", name)
	c.Check(string(s.docker(c, bytes.NewReader(written), "load")), check.Matches, `(?s).*`+id+`.*`)
	s.docker(c, nil, "rmi", "-f", id)
}

// An image that cannot be read leaves no file and no collection.
func (s *keptSuite) TestSaveAndLoadFail(c *check.C) {
	uuid := s.store(c, randomimage.New(1, 4096), nil, "lab/tool:1")
	output := filepath.Join(c.MkDir(), "none", "saved.tar")
	a := s.callWith(c, call{}, "save", "-o", output, "lab/tool:1")
	c.Check(a.code, check.Equals, 1)
	c.Check(a.err, check.Matches, `arv-docker: request: check --output: .*no such file.*\n`)

	cut := strings.NewReader(s.run(c, "save", s.collection(c, uuid).PortableDataHash).out[:6000])
	a = s.callWith(c, call{stdin: cut}, "load", "-")
	c.Check(a.code, check.Equals, 1)
	c.Check(a.err, check.Matches, `arv-docker: request: read image archive.*\n`)
}

// verify names what is wrong.
func (s *keptSuite) TestVerify(c *check.C) {
	good := s.store(c, randomimage.New(1, 4096), nil, "good:1")
	a := s.run(c, "verify", "good:1")
	c.Check(a.out, check.Matches, good+`: OK, sha256:[0-9a-f]{64} for linux/amd64, 1 layers, .* unpacked\n`)
	var v verified
	c.Assert(json.Unmarshal([]byte(s.run(c, "verify", "--json", "good:1").out), &v), check.IsNil)
	c.Check(v.OK, check.Equals, true)
	c.Check(v.Canonical, check.Equals, true)
	c.Check(v.Problems, check.DeepEquals, []string{})

	for name, trial := range map[string]struct {
		change func(attrs)
		want   string
	}{
		"hash":   {func(p attrs) { p["docker-image-hash"] = "sha256:" + strings.Repeat("0", 64) }, `.*property docker-image-hash is .*`},
		"pdh":    {func(p attrs) { p["arv:docker-image-pdh"] = strings.Repeat("0", 32) + "+1" }, `.*it was changed since it was made.*`},
		"layers": {func(p attrs) { p["arv:docker-image-layers"] = []string{"sha256:0"} }, `.*arv:docker-image-layers.*`},
	} {
		bad := s.store(c, randomimage.New(1, 4096), trial.change, name+":1")
		a := s.callWith(c, call{}, "verify", name+":1")
		c.Check(a.code, check.Equals, 1)
		c.Check(a.out, check.Matches, bad+`: `+trial.want+`\n`)
		c.Check(a.err, check.Matches, `(?s).*arv-docker: request: verify `+name+`:1: it is not in order \(do not run it; store the image again\)\n`)
	}
}

// Whoever watches on a terminal sees how far it is.
func (s *keptSuite) TestProgress(c *check.C) {
	s.store(c, randomimage.New(1, 4096), nil, "lab/tool:1")
	file := filepath.Join(c.MkDir(), "image.tar")
	var shown bytes.Buffer
	p := &Program{API: s.UserClient("user"), Stdout: io.Discard, Stderr: &shown, Terminal: true}
	c.Check(p.Run(s.ctx, []string{"save", "-o", file, "lab/tool:1"}), check.Equals, 0)
	c.Check(shown.String(), check.Matches, `saved \[=* *\]  +\d+%  .* of .*\r\x1b\[K`)
	shown.Reset()
	c.Check(p.Run(s.ctx, []string{"load", file}), check.Equals, 0)
	c.Check(shown.String(), check.Matches, `stored \[=* *\]  +\d+%  .* of .*\r\x1b\[K`)
	shown.Reset()
	c.Check(p.Run(s.ctx, []string{"load", "-q", file}), check.Equals, 0)
	c.Check(shown.String(), check.Equals, "")
}
