// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localcluster"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&setupSuite{})

type setupSuite struct {
	fixture
	static string // arv-docker
}

func (s *setupSuite) SetUpSuite(c *check.C) {
	s.fixture.SetUpSuite(c)
	s.static = filepath.Join(c.MkDir(), "arv-docker")
	build := exec.Command("go", "build", "-o", s.static, "../../cmd/arv-docker")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	c.Assert(err, check.IsNil, check.Commentf("%s", out))
}

// setupResult is what setup --json prints.
type setupResult struct {
	Project   string
	Published []published
	Shared    bool
}

func (r setupResult) states() (states []string) {
	for _, thing := range r.Published {
		states = append(states, thing.State+" "+thing.Kind+" "+thing.Name)
	}
	return states
}

func (s *setupSuite) setup(c *check.C, args ...string) (r setupResult) {
	a := s.run(c, append([]string{"setup", "--json", "--program", s.static}, args...)...)
	c.Assert(json.Unmarshal([]byte(a.out), &r), check.IsNil)
	return r
}

// image is an image in Keep with its config.
func (s *setupSuite) image(c *check.C, pdh string) (img imagetar.Image, config ocispec.Image) {
	img, err := dockerimage.Open(s.ctx, s.keep(c), dockerimage.Found{PDH: pdh, ManifestText: s.collection(c, pdh).ManifestText})
	c.Assert(err, check.IsNil)
	c.Assert(json.Unmarshal(img.Config, &config), check.IsNil)
	return img, config
}

// The first run makes everything, the second nothing.
func (s *setupSuite) TestTwice(c *check.C) {
	c.Check(s.setup(c, "--dry-run").states(), check.DeepEquals, []string{
		"missing image arvados/builtin:latest", "missing collection " + toolsName, "missing workflow docker pull", "missing workflow docker build"})
	var all arvados.CollectionList
	c.Assert(s.user.RequestAndDecode(&all, "GET", "arvados/v1/collections", nil, nil), check.IsNil)
	c.Check(all.Items, check.HasLen, 1) // the empty one, which every cluster has

	first := s.setup(c)
	c.Check(first.states(), check.DeepEquals, []string{
		"new image arvados/builtin:latest", "new collection " + toolsName, "new workflow docker pull", "new workflow docker build"})
	c.Check(first.Shared, check.Equals, false)
	s.asked()
	second := s.setup(c)
	c.Check(second.states(), check.DeepEquals, []string{
		"unchanged image arvados/builtin:latest", "unchanged collection " + toolsName, "unchanged workflow docker pull", "unchanged workflow docker build"})
	for _, request := range s.asked() {
		c.Check(request, check.Matches, "api GET .*|keep PUT .*") // blocks of the tools, to know their hash
	}
	for i := range first.Published {
		c.Check(second.Published[i].UUID, check.Equals, first.Published[i].UUID)
	}
	c.Check(s.run(c, "setup", "--program", s.static).out, check.Matches, `(?s).*Everything was there already: nothing has changed\.\n\nThis is your home, .*`)

	pdh := first.Published[0].PortableDataHash
	c.Check(s.run(c, "inspect", "arvados/builtin").out, check.Matches, "(?s).*"+strings.ReplaceAll(pdh, "+", `\+`)+".*")
	s.run(c, "verify", "arvados/builtin")
	img, config := s.image(c, pdh)
	c.Check(config.Config.Labels, check.DeepEquals, map[string]string{"org.arvados.builtin": "1"})
	c.Check(config.Config.Env, check.DeepEquals, []string{"PATH=/bin", "ARVADOS_BUILTIN_IMAGE=1"})
	c.Check(config.OS+" "+config.RootFS.Type, check.Equals, "linux layers")
	c.Assert(img.Layers, check.HasLen, 1)
	c.Check(names(c, img.Layers[0]), check.DeepEquals, []string{"bin/", "bin/docker"})
}

// For nodes that call images by their manifests, images are named so, and the
// program inside will do the same. Both kinds can be there at a time.
func (s *setupSuite) TestNamedByManifest(c *check.C) {
	byConfig := s.setup(c).Published[0]
	for _, state := range []string{"new", "unchanged"} {
		r := s.setup(c, "--image-id", "manifest")
		c.Check(r.states()[0], check.Equals, state+" image arvados/builtin:latest")
		img, config := s.image(c, r.Published[0].PortableDataHash)
		c.Check(config.Config.Env, check.DeepEquals, []string{"PATH=/bin", "ARVADOS_BUILTIN_IMAGE=manifest"})
		layout, err := imagetar.NewLayout(img)
		c.Assert(err, check.IsNil)
		c.Check(s.collection(c, r.Published[0].UUID).Properties["docker-image-hash"], check.Equals, layout.ManifestDigest)
		c.Check(r.Published[0].UUID, check.Not(check.Equals), byConfig.UUID)
	}
	s.run(c, "verify", "arvados/builtin")
}

// names are the members of a layer.
func names(c *check.C, layer imagetar.Layer) (names []string) {
	r, err := layer.Open(context.Background())
	c.Assert(err, check.IsNil)
	defer r.Close()
	for in := tar.NewReader(r); ; {
		hdr, err := in.Next()
		if err == io.EOF {
			return names
		}
		c.Assert(err, check.IsNil)
		names = append(names, hdr.Name)
	}
}

// The workflows are in the form in which Workbench reads them, and are brought up to
// date in place.
func (s *setupSuite) TestWorkflows(c *check.C) {
	first := s.setup(c)
	tools := first.Published[1].PortableDataHash
	contents := s.files(c, tools)
	c.Check(contents, check.HasLen, 2)
	for _, text := range contents {
		c.Check(text, check.Matches, "(?s).*\n    dockerPull: arvados/builtin\n    arv:dockerCollectionPDH: "+strings.ReplaceAll(first.Published[0].PortableDataHash, "+", `\+`)+"\n.*")
	}
	for i, file := range cwlNames {
		uuid := first.Published[2+i].UUID
		var record struct{ Name, Definition, Description string }
		c.Assert(s.user.RequestAndDecode(&record, "GET", "arvados/v1/workflows/"+uuid, nil, nil), check.IsNil)
		var document struct {
			Graph []struct {
				ID     string
				Inputs []struct {
					ID   string
					Type any
				}
				Steps []struct{ Run string }
			} `json:"$graph"`
		}
		c.Assert(json.Unmarshal([]byte(record.Definition), &document), check.IsNil)
		c.Assert(document.Graph, check.HasLen, 1)
		c.Check(document.Graph[0].ID, check.Equals, "#main")
		c.Check(document.Graph[0].Steps[0].Run, check.Equals, "keep:"+tools+"/"+file)
		c.Check(record.Definition, check.Not(check.Matches), "(?s).*inputBinding.*")
		if file == "docker-pull.cwl" {
			c.Check(document.Graph[0].Inputs[0].Type, check.Equals, "string")
			c.Check(document.Graph[0].Inputs[1].Type, check.DeepEquals, []any{"null", "string"})
		} else {
			c.Check(document.Graph[0].Inputs[0].Type, check.DeepEquals, map[string]any{"type": "array", "items": "string"})
		}
	}
	uuid := first.Published[2].UUID
	c.Assert(s.user.RequestAndDecode(nil, "PUT", "arvados/v1/workflows/"+uuid, nil, attrs{"workflow": attrs{"description": "other"}}), check.IsNil)
	c.Check(s.setup(c, "--dry-run").Published[2].State, check.Equals, stateMissing)
	again := s.setup(c)
	c.Check(again.Published[2].State+" "+again.Published[2].UUID, check.Equals, "changed "+uuid)
}

// The image for runners is its base with one more layer, however often it is made.
func (s *setupSuite) TestRunner(c *check.C) {
	base := randomimage.Of(randomimage.Layer(1, 5<<20, imagetar.Gzip), randomimage.Layer(2, 4096, imagetar.Plain))
	var config map[string]any
	c.Assert(json.Unmarshal(base.Config, &config), check.IsNil)
	config["config"] = attrs{"Env": []string{"A=1", "PATH=/opt/arvados-py/bin:/usr/bin"}, "User": "crunch", "ArgsEscaped": true}
	config["architecture"] = "amd64"
	var err error
	base.Config, err = json.Marshal(config)
	c.Assert(err, check.IsNil)
	base.Manifest = nil
	uuid := s.store(c, base, nil, "arvados/jobs:9.9", "arvados/jobs:latest")

	first := s.setup(c)
	c.Check(first.states()[1], check.Equals, "new image arvados/jobs-builtin:9.9")
	pdh := first.Published[1].PortableDataHash
	img, got := s.image(c, pdh)
	c.Assert(img.Layers, check.HasLen, 3)
	for i, layer := range base.Layers {
		c.Check(img.Layers[i].Digest, check.Equals, layer.Digest)
	}
	c.Check(got.Config.User, check.Equals, "crunch")
	c.Check(got.Config.Env, check.DeepEquals, []string{"PATH=/opt/arvados-builtin/bin:/opt/arvados-py/bin:/usr/bin:/usr/local/bin", "A=1"})
	c.Check(string(img.Config), check.Matches, `.*"ArgsEscaped":true.*`)
	c.Check(got.Config.Labels[keyBase], check.Equals, s.collection(c, uuid).PortableDataHash)
	inside := names(c, img.Layers[2])
	for _, name := range []string{"opt/arvados-builtin/bin/arvados-cwl-runner", "usr/local/bin/arv-docker", "usr/local/bin/docker"} {
		c.Check(slices.Contains(inside, name), check.Equals, true, check.Commentf("%s in %q", name, inside))
	}
	c.Check(dockerimage.ParseProperties(s.collection(c, first.Published[1].UUID).Properties).Bases[0].Name, check.Equals, "arvados/jobs")
	s.run(c, "verify", pdh)

	// Named as its base, it is not made of itself.
	named := s.setup(c, "--runner-image", "arvados/jobs")
	c.Check(named.states()[1], check.Equals, "changed image arvados/jobs:latest")
	c.Check(named.Published[1].PortableDataHash, check.Equals, pdh)
	c.Check(s.setup(c, "--runner-image", "arvados/jobs").states()[1], check.Equals, "unchanged image arvados/jobs:latest")
	c.Check(s.run(c, "setup", "--program", s.static, "--runner-base", "no/such").err, check.Matches, "(?s).*no image for workflow runners is made, since Keep has no image no/such .*")
}

// Sharing is left to the administrator, who is told how.
func (s *setupSuite) TestShare(c *check.C) {
	var project arvados.Group
	c.Assert(s.user.RequestAndDecode(&project, "POST", "arvados/v1/groups", nil, attrs{"group": attrs{"name": "images", "group_class": "project"}}), check.IsNil)
	a := s.run(c, "setup", "--program", s.static, "--project", project.UUID)
	c.Check(a.out, check.Matches, `(?s).*arv link create --link '\{"link_class":"permission","name":"can_read","tail_uuid":"x\w{4}-j7d0g-f{15}","head_uuid":"`+project.UUID+`"\}'\n`)
	_, command, _ := strings.Cut(a.out, "--link '")
	var link map[string]any
	c.Assert(json.Unmarshal([]byte(strings.TrimSuffix(command, "'\n")), &link), check.IsNil)
	c.Assert(s.UserClient(localcluster.Admin).RequestAndDecode(nil, http.MethodPost, "arvados/v1/links", nil, attrs{"link": link}), check.IsNil)
	r := s.setup(c, "--project", project.UUID)
	c.Check(r.Project, check.Equals, project.UUID)
	for _, thing := range r.Published {
		c.Check(thing.State, check.Equals, stateUnchanged)
	}
}

func (s *setupSuite) TestRefused(c *check.C) {
	dir := c.MkDir()
	text := filepath.Join(dir, "text")
	c.Assert(os.WriteFile(text, []byte("#!/bin/sh\n"), 0755), check.IsNil)
	for _, trial := range []struct {
		args      []string
		code      int
		complaint string
	}{
		{[]string{"--program", text}, 1, `.*check --program: .*/text: it is no program for Linux \(name an arv-docker for Linux .*`},
		{[]string{"--program", filepath.Join(dir, "none")}, 1, `.*check --program: .*/none: .*no such file.*`},
		{[]string{"--program", "/bin/sh"}, 1, `.*check --program: .*it needs libraries that an image need not have .*`},
		{[]string{"--program", s.program}, 1, `.*check --program: .*`}, // crunch-run
		{[]string{"--program", s.static, "--runner-image", "Bad"}, 1, `.*lower.*`},
		{[]string{"--program", s.static, "--links", "maybe"}, 1, `.*check --links: "maybe" is not allowed .*`},
		{[]string{"--program", s.static, "--project", "x"}, 1, `.*check --project: "x" is not the UUID of a project .*`},
		{[]string{"--program", s.static, "more"}, 1, `.*`},
		{[]string{"--nonsense"}, 125, `.*unknown flag: --nonsense.*`},
	} {
		a := s.callWith(c, call{}, append([]string{"setup"}, trial.args...)...)
		c.Check(a.code, check.Equals, trial.code, check.Commentf("%q", trial.args))
		c.Check(a.err, check.Matches, "(?s)"+trial.complaint+"\n", check.Commentf("%q", trial.args))
		c.Check(a.out, check.Equals, "")
	}
}

func (*setupSuite) TestLayer(c *check.C) {
	path := filepath.Join(c.MkDir(), "file")
	c.Assert(os.WriteFile(path, []byte("content"), 0600), check.IsNil)
	files := []layerFile{
		{name: "usr/b", mode: 0644, text: []byte("text")},
		{name: "usr/a", mode: 0755, path: path},
		{name: "bin/l", mode: 0777, link: "../usr/a"},
	}
	var once, twice bytes.Buffer
	c.Assert(writeLayer(&once, files), check.IsNil)
	slices.Reverse(files)
	c.Assert(writeLayer(&twice, files), check.IsNil)
	c.Check(bytes.Equal(once.Bytes(), twice.Bytes()), check.Equals, true)

	layer, err := newLayer(files)
	c.Assert(err, check.IsNil)
	c.Check(layer.Size, check.Equals, int64(once.Len()))
	c.Check(names(c, layer), check.DeepEquals, []string{"bin/", "bin/l", "usr/", "usr/a", "usr/b"})
	// A program that is replaced meanwhile is noticed.
	c.Assert(os.WriteFile(path, []byte("CONTENT"), 0600), check.IsNil)
	r, err := layer.Open(context.Background())
	c.Assert(err, check.IsNil)
	_, err = io.Copy(io.Discard, r)
	c.Check(err, check.NotNil)
	r.Close()
}
