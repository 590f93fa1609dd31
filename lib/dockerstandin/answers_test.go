// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerstandin

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/arvdocker"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
	"git.arvados.org/arvados.git/sdk/go/keepclient"
	"git.arvados.org/arvados.git/services/localcluster"
	"github.com/sirupsen/logrus"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&answersSuite{})

// answersSuite asks about images in an embedded cluster that runs nothing.
type answersSuite struct {
	*localcluster.Cluster
	user *arvados.Client
}

type attrs = map[string]interface{}

func (s *answersSuite) SetUpTest(c *check.C) {
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	var err error
	s.Cluster, err = localcluster.Start(context.Background(), localcluster.Options{Dir: filepath.Join(c.MkDir(), "data"), Log: quiet})
	c.Assert(err, check.IsNil)
	s.user = s.UserClient(localcluster.User)
}

func (s *answersSuite) TearDownTest(c *check.C) { c.Check(s.Stop(), check.IsNil) }

// docker is one call, and what comes of it.
func (s *answersSuite) docker(args ...string) (code int, out, stderr string) {
	return s.dockerWith(s.user, nil, args...)
}

func (s *answersSuite) dockerWith(api *arvados.Client, in io.Reader, args ...string) (code int, out, stderr string) {
	var stdout, errors bytes.Buffer
	program := &arvdocker.Program{API: api, Stdin: in, Stdout: &stdout, Stderr: &errors}
	code = Run(context.Background(), program, args)
	return code, stdout.String(), errors.String()
}

// store puts an image into Keep as docker pull does, and returns its ID and its
// collection.
func (s *answersSuite) store(c *check.C, img imagetar.Image, names ...string) (id string, coll arvados.Collection) {
	arv, err := arvadosclient.New(s.user)
	c.Assert(err, check.IsNil)
	kc, err := keepclient.MakeKeepClient(arv)
	c.Assert(err, check.IsNil)
	saved, err := (&dockerimage.Saver{API: s.user, Keep: kc}).Save(context.Background(), img)
	c.Assert(err, check.IsNil)
	c.Assert(s.user.RequestAndDecode(&coll, "POST", "arvados/v1/collections", nil, attrs{"collection": attrs{
		"manifest_text": saved.ManifestText, "properties": saved.Properties(names, time.Now()).Map()}}), check.IsNil)
	return saved.ConfigDigest, coll
}

// links are the names of the links to a collection.
func (s *answersSuite) links(c *check.C, head string) (names []string) {
	var list arvados.LinkList
	c.Assert(s.user.RequestAndDecode(&list, "GET", "arvados/v1/links", nil, attrs{
		"filters": [][]string{{"head_uuid", "=", head}}, "order": "link_class, name"}), check.IsNil)
	for _, link := range list.Items {
		names = append(names, link.LinkClass+" "+link.Name)
	}
	return names
}

// inspect as cwltool (an exit code and JSON) and arv-keepdocker (Id, a line)
// read it.
func (s *answersSuite) TestInspect(c *check.C) {
	code, out, stderr := s.docker("inspect", "lab/tool")
	c.Check(code, check.Equals, 1)
	c.Check(out, check.Equals, "[]\n")
	c.Check(stderr, check.Equals, "Error: No such object: lab/tool\n")
	code, out, _ = s.docker("inspect", "--format={{.Id}}", digits)
	c.Check(code, check.Equals, 1)
	c.Check(out, check.Equals, "\n")

	id, coll := s.store(c, randomimage.New(1, 5000), "lab/tool:latest", "lab/tool:1")
	for _, name := range []string{"lab/tool", "lab/tool:1", "docker.io/lab/tool:1", id, id[7:19], coll.PortableDataHash} {
		code, out, stderr = s.docker("inspect", name)
		c.Check(code, check.Equals, 0, check.Commentf("%s: %s", name, stderr))
		c.Check(stderr, check.Equals, "")
		var images []struct {
			ID       string `json:"Id"`
			RepoTags []string
			Size     int64
			Os       string
		}
		c.Assert(json.Unmarshal([]byte(out), &images), check.IsNil)
		c.Assert(images, check.HasLen, 1)
		c.Check(images[0].ID, check.Equals, id)
		c.Check(images[0].RepoTags, check.DeepEquals, []string{"lab/tool:latest", "lab/tool:1"})
		c.Check(images[0].Size > 0, check.Equals, true)
		c.Check(images[0].Os, check.Equals, "linux")
	}
	code, out, _ = s.docker("inspect", "--format={{.Id}}", id)
	c.Check(code, check.Equals, 0)
	c.Check(out, check.Equals, id+"\n")
	_, out, _ = s.docker("inspect", "-f", "{{json .RepoTags}} {{.Arvados.PortableDataHash}}", id)
	c.Check(out, check.Equals, `["lab/tool:latest","lab/tool:1"] `+coll.PortableDataHash+"\n")
	code, _, stderr = s.docker("inspect", "-f", "{{.Nothing}}", id)
	c.Check(code, check.Equals, 1)
	c.Check(stderr, check.Matches, `template parsing error: .*Nothing.*\n`)
	code, _, _ = s.docker("inspect", "-f", "{{", id)
	c.Check(code, check.Equals, 64)

	// What is found is printed though something is not.
	code, out, stderr = s.docker("inspect", "-f", "{{.Id}}", "none", id)
	c.Check(code, check.Equals, 1)
	c.Check(out, check.Equals, id+"\n")
	c.Check(stderr, check.Equals, "Error: No such object: none\n")

	// Programs that look for links find what they were told of.
	c.Check(s.links(c, coll.UUID), check.DeepEquals, []string{"docker_image_hash " + id,
		"docker_image_repo+tag lab/tool:1", "docker_image_repo+tag lab/tool:latest"})
}

// An image that somebody else shares can be used, though no links can be written
// for it.
func (s *answersSuite) TestShared(c *check.C) {
	id, _ := s.store(c, randomimage.New(1, 5000), "lab/tool:1")
	code, archive, _ := s.docker("save", id)
	c.Assert(code, check.Equals, 0)
	admin := s.UserClient(localcluster.Admin)
	var project arvados.Group
	c.Assert(admin.RequestAndDecode(&project, "POST", "arvados/v1/groups", nil, attrs{
		"group": attrs{"group_class": "project", "name": "shared"}}), check.IsNil)
	c.Assert(admin.RequestAndDecode(nil, "POST", "arvados/v1/links", nil, attrs{"link": attrs{"link_class": "permission",
		"name": "can_read", "tail_uuid": s.ClusterID + "-j7d0g-fffffffffffffff", "head_uuid": project.UUID}}), check.IsNil)
	var stderr bytes.Buffer
	loaded := (&arvdocker.Program{API: admin, Stdin: strings.NewReader(archive), Stdout: io.Discard, Stderr: &stderr}).Run(
		context.Background(), []string{"load", "--project", project.UUID, "--links=never", "--tag=shared:1", "-"})
	c.Assert(loaded, check.Equals, 0, check.Commentf("%s", &stderr))

	code, out, said := s.docker("inspect", "-f", "{{.Id}}", "shared:1")
	c.Check(code, check.Equals, 0)
	c.Check(out, check.Equals, id+"\n")
	c.Check(said, check.Matches, `(?s)shared:1 is collection \S+, which belongs to `+project.UUID+`\nshared:1 has no links by which other programs find it: .*`)
}

// Trouble is not the same as an image that is not there.
func (s *answersSuite) TestTrouble(c *check.C) {
	code, out, stderr := s.dockerWith(s.Client("wrong"), nil, "inspect", "lab/tool")
	c.Check(code, check.Equals, 1)
	c.Check(out, check.Equals, "[]\n")
	c.Check(stderr, check.Matches, `api: .*the token is wrong or has expired.*\n`)
	code, out, stderr = s.dockerWith(s.Client("wrong"), nil, "images")
	c.Check(code, check.Equals, 1)
	c.Check(out, check.Equals, "")
	c.Check(stderr, check.Matches, `api: .*the token is wrong or has expired.*\n`)
}

// imageLine is how arvados-cwl-runner and cwltool read the list.
var imageLine = regexp.MustCompile(`^([^ ]+)\s+([^ ]+)\s+([^ ]+)`)

func (s *answersSuite) TestImages(c *check.C) {
	code, out, _ := s.docker("images", "--no-trunc", "--all")
	c.Check(code, check.Equals, 0)
	c.Check(out, check.Equals, "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n")

	first, _ := s.store(c, randomimage.New(1, 5000), "registry.example:5000/lab/tool:1", "moved:1")
	nameless, _ := s.store(c, randomimage.New(2, 5000))
	second, meant := s.store(c, randomimage.New(3, 5000), "moved:1")
	s.store(c, randomimage.New(3, 5000), "moved:1") // once more, in another collection
	_, changed := s.store(c, randomimage.New(4, 5000), "changed:1")
	c.Assert(s.user.RequestAndDecode(nil, "PUT", "arvados/v1/collections/"+changed.UUID, nil,
		attrs{"collection": attrs{"manifest_text": meant.ManifestText}}), check.IsNil)

	code, out, stderr := s.docker("images", "--no-trunc", "--all")
	c.Check(code, check.Equals, 0, check.Commentf("%s", stderr))
	var lines []string
	for line := range strings.Lines(out) {
		m := imageLine.FindStringSubmatch(line)
		c.Assert(m, check.NotNil, check.Commentf("%q", line))
		lines = append(lines, strings.Join(m[1:], " "))
	}
	c.Check(lines, check.DeepEquals, []string{
		"REPOSITORY TAG IMAGE",
		"moved 1 " + second,
		"<none> <none> " + nameless,
		"registry.example:5000/lab/tool 1 " + first,
	})
	_, out, _ = s.docker("images", "-q")
	c.Check(out, check.Equals, second[7:19]+"\n"+nameless[7:19]+"\n"+first[7:19]+"\n")
	_, out, _ = s.docker("images", "-q", "--no-trunc", "moved")
	c.Check(out, check.Equals, second+"\n")
	code, out, _ = s.docker("images", "-q", "none:1")
	c.Check(code, check.Equals, 0)
	c.Check(out, check.Equals, "")
}

// An archive goes in by load and comes out by save, as arv-keepdocker reads it:
// manifest.json names a config, which says when the image was created.
func (s *answersSuite) TestLoadTagAndSave(c *check.C) {
	id, _ := s.store(c, randomimage.New(1, 5000), "lab/tool:1")
	code, archive, stderr := s.docker("save", id)
	c.Assert(code, check.Equals, 0, check.Commentf("%s", stderr))
	files := map[string][]byte{}
	for r := tar.NewReader(strings.NewReader(archive)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		c.Assert(err, check.IsNil)
		files[header.Name], err = io.ReadAll(r)
		c.Assert(err, check.IsNil)
	}
	var manifest []struct{ Config string }
	c.Assert(json.Unmarshal(files["manifest.json"], &manifest), check.IsNil)
	c.Assert(manifest, check.HasLen, 1)
	var config struct{ Created time.Time }
	c.Assert(json.Unmarshal(files[manifest[0].Config], &config), check.IsNil)
	c.Check(config.Created.IsZero(), check.Equals, false)

	admin := s.UserClient(localcluster.Admin)
	code, _, stderr = s.dockerWith(admin, strings.NewReader(archive), "load")
	c.Check(code, check.Equals, 0, check.Commentf("%s", stderr))
	code, _, stderr = s.dockerWith(admin, nil, "tag", id, "lab/other:2")
	c.Check(code, check.Equals, 0, check.Commentf("%s", stderr))
	code, out, stderr := s.dockerWith(admin, nil, "inspect", "--format={{.Id}} {{.RepoTags}}", "lab/other:2")
	c.Check(code, check.Equals, 0, check.Commentf("%s", stderr))
	c.Check(out, check.Equals, id+" [lab/other:2]\n")
}

func (s *answersSuite) TestWithoutTheCluster(c *check.C) {
	code, out, _ := s.docker("--version")
	c.Check(code, check.Equals, 0)
	c.Check(out, check.Matches, `Docker version \S+, build \S+\n`)
	for _, args := range [][]string{{"info"}, {"version"}} {
		code, out, _ = s.docker(args...)
		c.Check(code, check.Equals, 0)
		c.Check(out, check.Equals, about+"API server: "+s.APIAddress+"\n")
	}
	code, out, _ = s.docker()
	c.Check(code, check.Equals, 0)
	c.Check(out, check.Equals, about)
	code, out, stderr := s.docker("run", "--rm", "x")
	c.Check(code, check.Equals, 125)
	c.Check(out, check.Equals, "")
	c.Check(stderr, check.Matches, `docker: run: no container runs here\..*\n`)
	code, _, stderr = s.docker("pull", "--all-tags", "x")
	c.Check(code, check.Equals, 125)
	c.Check(stderr, check.Matches, `(?s)arv-docker: unknown flag: --all-tags\n.*`)
}
