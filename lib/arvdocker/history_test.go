// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&historySuite{})

// historySuite is about where images came from.
type historySuite struct{ fixture }

// withHistory is an image whose configuration has such a history.
func withHistory(c *check.C, img imagetar.Image, history ...map[string]any) imagetar.Image {
	var config, manifest map[string]any
	c.Assert(json.Unmarshal(img.Config, &config), check.IsNil)
	c.Assert(json.Unmarshal(img.Manifest, &manifest), check.IsNil)
	config["history"] = history
	var err error
	img.Config, err = json.Marshal(config)
	c.Assert(err, check.IsNil)
	described := manifest["config"].(map[string]any)
	described["digest"], described["size"] = digestOf(img.Config), len(img.Config)
	img.Manifest, err = json.Marshal(manifest)
	c.Assert(err, check.IsNil)
	img.Digests = []string{digestOf(img.Manifest)}
	return img
}

// traced is the record that history prints as JSON.
func (s *historySuite) traced(c *check.C, name string) (shown struct {
	Record  origin
	History []step
}) {
	c.Assert(json.Unmarshal([]byte(s.run(c, "history", "--json", name).out), &shown), check.IsNil)
	return shown
}

// An image that was built upon one that was pulled, as its user sees it.
func (s *historySuite) TestBuiltUponPulled(c *check.C) {
	s.registry.Push("lab/base:1", withHistory(c, randomimage.New(1, 4096, 8192),
		map[string]any{"created": "2026-01-02T03:04:05Z", "created_by": "ADD rootfs.tar / # buildkit", "comment": "buildkit.dockerfile.v0"},
		map[string]any{"created": "2026-01-02T03:04:05Z", "created_by": "ENV LANG=C.UTF-8", "empty_layer": true},
		map[string]any{"created": "2026-01-02T03:04:05Z", "created_by": "RUN /bin/sh -c set -eux;\n\tapt-get update && apt-get install -y everything # buildkit"}))
	base := s.registry.Host() + "/lab/base:1"
	pulled := s.result(c, "pull", base)
	dir := c.MkDir()
	c.Assert(os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM "+base+"\nCOPY Dockerfile /recipe\n"), 0666), check.IsNil)
	built := s.result(c, "build", "-t", "lab/tool:1", dir)

	a := s.run(c, "history", "lab/tool:1")
	golden(c, "history", "$ arv-docker history lab/tool:1\n", withoutDigests(a.out))
	c.Check(s.run(c, "history", "--no-trunc", built.PortableDataHash).out, check.Matches,
		`(?s).*RUN /bin/sh -c set -eux; apt-get update && apt-get install -y everything # buildkit .*`)

	shown := s.traced(c, "lab/tool:1")
	c.Check(shown.Record.Image, check.Equals, built.Image)
	c.Check(shown.Record.Request, check.Equals, built.Request)
	c.Check(shown.Record.Log, check.Equals, built.Log)
	c.Check(shown.Record.Command[:2], check.DeepEquals, []string{"docker", "build"})
	c.Assert(shown.Record.Bases, check.HasLen, 1)
	c.Check(shown.Record.Bases[0].Name, check.Equals, base)
	c.Check(shown.Record.Bases[0].PortableDataHash, check.Equals, pulled.PortableDataHash)
	c.Check(shown.Record.Bases[0].Request, check.Equals, pulled.Request)
	c.Check(shown.History, check.HasLen, 4)
	c.Check(shown.History[0].CreatedBy, check.Matches, "COPY .*")
	c.Check(shown.History[2].EmptyLayer, check.Equals, true)
	c.Check(shown.History[3].Size > 0, check.Equals, true) // engines store layers their own way

	// What is removed is named, and all else stays.
	for _, path := range []string{"collections/" + pulled.Collection, "container_requests/" + built.Request, "collections/" + built.Log} {
		c.Assert(s.user.RequestAndDecode(nil, "DELETE", "arvados/v1/"+path, nil, nil), check.IsNil)
	}
	later := s.traced(c, "lab/tool:1")
	c.Check(later.Record.Missing, check.DeepEquals, []string{"container request " + built.Request + ": it is gone, or you may not read it"})
	c.Check(later.Record.Bases[0].Missing, check.DeepEquals, []string{"image: it was in Keep, and is gone or you may not read it"})
	c.Check(later.History, check.HasLen, 4)
}

// severalSpaces are more or fewer, as long as "3 months ago" is.
var severalSpaces = regexp.MustCompile("  +")

// withoutDigests has dots for what differs from engine to engine and from day to
// day.
func withoutDigests(text string) string {
	text, table, _ := strings.Cut(text, "\nCREATED")
	table = severalSpaces.ReplaceAllString(table, "  ")
	var lines []string
	for line := range strings.Lines(text) {
		name, value, found := strings.Cut(line, "sha256:")
		if i := strings.IndexAny(value, " \n"); found && i >= 0 {
			line = name + "sha256:…" + value[i:]
		}
		if name, _, found := strings.Cut(line, "Portable data hash:"); found {
			line = name + "Portable data hash: …\n"
		}
		if name, _, found := strings.Cut(line, "Stored:"); found {
			line = name + "Stored: …\n"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "") + "\nCREATED" + table
}

// An image that was loaded, by a program that writes no history.
func (s *historySuite) TestLoaded(c *check.C) {
	uuid := s.store(c, randomimage.New(1, 4096), nil, "lab/plain:1")
	a := s.run(c, "history", "lab/plain:1")
	c.Check(a.out, check.Matches, `(?s)lab/plain:1\n  Image: .*  Collection: +`+uuid+`\n.*  Made by: +no container request; it was loaded or copied\n\nCREATED +CREATED BY +SIZE +COMMENT\n`)
	c.Check(s.traced(c, "lab/plain:1").History, check.HasLen, 0)
}

// Bases that are in Keep though they came from a registry, that are not, that
// are the image itself, and more than anybody wants to read.
func (s *historySuite) TestBases(c *check.C) {
	below := s.store(c, randomimage.New(2, 4096), nil, "lab/below:1")
	hash := s.collection(c, below).Properties["docker-image-hash"].(string)
	nowhere := "sha256:" + strings.Repeat("0", 64)
	uuid := s.store(c, randomimage.New(1, 4096), func(p attrs) {
		p["arv:docker-image-base"] = []string{"below", hash, "nowhere", nowhere}
	}, "lab/top:1")
	shown := s.traced(c, "lab/top:1").Record
	c.Assert(shown.Bases, check.HasLen, 2)
	c.Check(shown.Bases[0].Collection, check.Equals, below)
	c.Check(shown.Bases[0].Missing, check.HasLen, 0)
	c.Check(shown.Bases[1].Collection, check.Equals, "")
	c.Check(shown.Bases[1].Missing, check.DeepEquals, []string{"image: it came from its registry, and is not in Keep"})

	coll := s.collection(c, uuid)
	coll.Properties["arv:docker-image-base"] = []string{"itself", coll.Properties["docker-image-hash"].(string), coll.PortableDataHash}
	s.change(c, coll)
	shown = s.traced(c, "lab/top:1").Record
	c.Check(shown.Bases, check.HasLen, 1)
	c.Check(shown.Bases[0].Bases, check.HasLen, 0)

	var many []string
	for i := range 3 * maxOrigins {
		many = append(many, "many", fmt.Sprintf("sha256:%064x", i))
	}
	coll.Properties["arv:docker-image-base"] = many
	s.change(c, coll)
	shown = s.traced(c, "lab/top:1").Record
	c.Check(shown.Bases, check.HasLen, maxOrigins-1)
	c.Check(shown.Missing, check.DeepEquals, []string{"more bases: no more than 50 images are looked up"})
}

func (s *historySuite) change(c *check.C, coll arvados.Collection) {
	c.Assert(s.user.RequestAndDecode(nil, "PUT", "arvados/v1/collections/"+coll.UUID, nil,
		attrs{"collection": attrs{"properties": coll.Properties}}), check.IsNil)
}

// Of an image whose data cannot be read, the record is still shown; of a server
// in trouble, what it did not say is named.
func (s *historySuite) TestTrouble(c *check.C) {
	s.store(c, randomimage.New(1, 4096), func(p attrs) { p["container_request"] = s.ClusterID + "-xvhdp-000000000000000" }, "lab/tool:1")
	s.refuse = func(r *http.Request) int {
		if strings.Contains(r.URL.Path, "/container_requests/") {
			return http.StatusForbidden
		}
		return 0
	}
	shown := s.traced(c, "lab/tool:1").Record
	c.Assert(shown.Missing, check.HasLen, 1)
	c.Check(shown.Missing[0], check.Matches, `container request .*: .*403 Forbidden.*`)
	s.refuse = func(r *http.Request) int {
		if strings.Contains(r.URL.Path, "/keep_services") {
			return http.StatusForbidden
		}
		return 0
	}
	a := s.callWith(c, call{}, "history", "lab/tool:1")
	c.Check(a.code, check.Equals, 1)
	c.Check(a.out, check.Matches, `(?s)lab/tool:1\n  Image: .*`)
	c.Check(a.err, check.Matches, `(?s).*arv-docker: keep: find services .*`)
}

var _ = check.Suite(&stepsSuite{})

// stepsSuite needs no cluster.
type stepsSuite struct{}

// Sizes are given only where it is clear whose they are.
func (*stepsSuite) TestSteps(c *check.C) {
	img := randomimage.New(1, 4096, 8192)
	entry := func(empty bool) map[string]any { return map[string]any{"created_by": "x", "empty_layer": empty} }
	for _, trial := range []struct {
		history []map[string]any
		sizes   []int64 // the last first
	}{
		{nil, []int64{}},
		{[]map[string]any{entry(false), entry(true), entry(false)}, []int64{8192, 0, 4096}},
		{[]map[string]any{entry(false), entry(true)}, []int64{0, -1}},
		{[]map[string]any{entry(false), entry(false), entry(false)}, []int64{-1, -1, -1}},
	} {
		all, err := steps(withHistory(c, img, trial.history...))
		c.Assert(err, check.IsNil)
		sizes := []int64{}
		for _, st := range all {
			sizes = append(sizes, st.Size)
		}
		c.Check(sizes, check.DeepEquals, trial.sizes)
	}
	img.Config = []byte(`{"history": "none"}`)
	_, err := steps(img)
	c.Check(err, check.NotNil)

	var out bytes.Buffer
	c.Check(printSteps(&out, []step{{CreatedBy: strings.Repeat("ä", 50), Size: -1}}, false), check.IsNil)
	c.Check(out.String(), check.Matches, `\nCREATED .*\nN/A +ä{44}…  <none>  \n`)
}

// Passwords in a command are not shown again.
func (*stepsSuite) TestPasswords(c *check.C) {
	for word, want := range map[string]string{
		"https://me:" + secretWord + "@host/x.git#main": "https://me:xxxxx@host/x.git#main",
		"https://host/x.git":                            "https://host/x.git",
		"--build-arg":                                   "--build-arg",
		"a b:c@d":                                       "a b:c@d",
	} {
		c.Check(withoutPassword(word), check.Equals, want)
	}
}

// The record as text, whatever of it is there.
func (*stepsSuite) TestRecordAsText(c *check.C) {
	o := &origin{Name: "top", Image: "sha256:1", Bases: []*origin{{Name: "below", Image: "sha256:2", Request: "R", Title: "T", Command: []string{"docker", "pull"}}}}
	o.miss("log L", errors.New("no answer"))
	var out strings.Builder
	c.Check(o.print(&out, ""), check.IsNil)
	c.Check(out.String(), check.Equals, `top
  Image:              sha256:1
  Not to be read:     log L: no answer
  Built upon:
    below
      Image:              sha256:2
      Made by:            R T
      Command:            docker pull
`)
	c.Check(hashOf(dockerimage.Found{ManifestText: "bad", Properties: dockerimage.Properties{Hash: "sha256:3"}}), check.Equals, "sha256:3")
}
