// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerstandin

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&cwlSuite{})

// cwlSuite runs the genuine arvados-cwl-runner against an embedded cluster, with
// the stand-in as the only docker, on this machine and in a runner container.
type cwlSuite struct{ cwlFixture }

// What images are made of in the tests, and what the workflow prints.
const (
	pulledText = "from the pulled image"
	builtText  = "from the built image"
)

// pullTool and buildTool are CWL documents of a tool each, with the name of an
// image.
func pullTool(image string) attrs {
	return attrs{
		"class": "CommandLineTool", "cwlVersion": "v1.2", "requirements": attrs{"DockerRequirement": attrs{"dockerPull": image}},
		"baseCommand": []string{"cat", "/text"}, "inputs": []any{}, "stdout": "out.txt", "outputs": attrs{"out": "stdout"},
	}
}

func buildTool(image, from string) attrs {
	tool := pullTool("")
	tool["requirements"] = attrs{"DockerRequirement": attrs{
		"dockerImageId": image, "dockerFile": "FROM " + from + "\nRUN echo " + builtText + " >/text\n"}}
	return tool
}

// On a laptop, the image is pulled.
func (s *cwlSuite) TestLaptopPulls(c *check.C) {
	image := s.push(c, "laptop/tool:1")
	out := s.runner(c, pullTool(image), "--local")
	c.Check(s.content(c, out), check.Equals, pulledText+"\n")
	c.Check(s.calls(c), check.DeepEquals, []string{
		"inspect " + image, "pull " + image, "inspect " + image, "inspect --format={{.Id}} ID"})
	c.Check(s.commands(c, ""), check.DeepEquals, []string{"docker pull " + image + "@DIGEST", "cat /text"})

	// The second time nothing is asked of docker.
	s.runner(c, pullTool(image), "--local")
	c.Check(s.calls(c), check.HasLen, 0)
}

// On a laptop, the image is built; registering the workflow asks for all images.
func (s *cwlSuite) TestLaptopBuilds(c *check.C) {
	base := s.push(c, "laptop/base:1")
	tool := buildTool("laptop/built:1", base)
	out := s.runner(c, tool, "--local")
	c.Check(s.content(c, out), check.Equals, builtText+"\n")
	c.Check(s.calls(c), check.DeepEquals, []string{
		"inspect laptop/built:1", "build --tag=laptop/built:1 FOLDER", "inspect laptop/built:1", "inspect --format={{.Id}} ID"})
	c.Check(s.commands(c, ""), check.DeepEquals, []string{
		"docker build --tag laptop/built:1 --file /Dockerfile /context", "cat /text"})

	// The image for runners only has to be there.
	text, err := s.command(filepath.Join(s.bin, Name), "tag", "laptop/built:1", "arvados/jobs:3.2.1").CombinedOutput()
	c.Assert(err, check.IsNil, check.Commentf("%s", text))
	s.runner(c, tool, "--create-workflow")
	for _, call := range s.calls(c) {
		c.Check(call, check.Matches, `images --no-trunc --all|inspect .*`)
	}
}

// In a runner container, as Workbench starts it, whose image is the usual one
// with the stand-in in it: images are pulled and built by requests of the
// container, and lie in its project.
func (s *cwlSuite) TestRunnerContainer(c *check.C) {
	pulled := s.push(c, "inside/tool:1")
	image := s.runnerImage(c)
	var project arvados.Group
	c.Assert(s.user.RequestAndDecode(&project, "POST", "arvados/v1/groups", nil, attrs{
		"group": attrs{"group_class": "project", "name": "runner"}}), check.IsNil)
	pull, build := pullTool(pulled), buildTool("inside/built:1", pulled)
	pull["id"], build["id"] = "#pull", "#build"
	source := func(step string) attrs {
		return attrs{"id": "#main/" + step, "type": "File", "outputSource": "#main/" + step + "/out"}
	}
	step := func(name string) attrs {
		return attrs{"id": "#main/" + name, "run": "#" + name, "in": []any{}, "out": []string{"#main/" + name + "/out"}}
	}
	for _, tool := range []attrs{pull, build} {
		tool["outputs"] = []attrs{{"id": tool["id"].(string) + "/out", "type": "stdout"}}
		delete(tool, "cwlVersion")
	}
	var cr arvados.ContainerRequest
	c.Assert(s.user.RequestAndDecode(&cr, "POST", "arvados/v1/container_requests", nil, attrs{"container_request": attrs{
		"owner_uuid": project.UUID, "name": "runner", "state": "Committed", "priority": 500, "use_existing": false, "container_image": image,
		"command": []string{"arvados-cwl-runner", "--local", "--api=containers", "--no-log-timestamps", "--disable-color",
			"--project-uuid=" + project.UUID, "/var/lib/cwl/workflow.json#main", "/var/lib/cwl/cwl.input.json"},
		"cwd": "/var/spool/cwl", "output_path": "/var/spool/cwl", "runtime_constraints": attrs{"API": true, "vcpus": 1, "ram": 1 << 30},
		"mounts": attrs{
			"/var/lib/cwl/cwl.input.json": attrs{"kind": "json", "content": attrs{}},
			"/var/lib/cwl/workflow.json": attrs{"kind": "json", "content": attrs{"cwlVersion": "v1.2", "$graph": []attrs{pull, build, {
				"class": "Workflow", "id": "#main", "inputs": []any{}, "outputs": []attrs{source("pull"), source("build")}, "steps": []attrs{step("pull"), step("build")}}}}},
			"/var/spool/cwl": attrs{"kind": "collection", "writable": true},
			"stdout":         attrs{"kind": "file", "path": "/var/spool/cwl/cwl.output.json"},
		},
	}}), check.IsNil)
	for until := time.Now().Add(3 * time.Minute); cr.State != arvados.ContainerRequestStateFinal && time.Now().Before(until); time.Sleep(time.Second) {
		c.Assert(s.user.RequestAndDecode(&cr, "GET", "arvados/v1/container_requests/"+cr.UUID, nil, nil), check.IsNil)
	}
	var ctr arvados.Container
	c.Assert(s.user.RequestAndDecode(&ctr, "GET", "arvados/v1/containers/"+cr.ContainerUUID, nil, nil), check.IsNil)
	c.Log(s.file(c, cr.LogUUID, "stderr.txt"))
	c.Assert(ctr.State, check.Equals, arvados.ContainerStateComplete)
	c.Assert(ctr.ExitCode, check.Equals, 0)
	commands := s.commands(c, ctr.UUID)
	c.Logf("requests of %s:\n%s", ctr.UUID, strings.Join(commands, "\n"))
	c.Check(commands, check.HasLen, 4)
	for _, want := range []string{"docker pull " + pulled + "@DIGEST", "docker build --tag inside/built:1 --file /Dockerfile /context"} {
		c.Check(strings.Join(commands, "\n"), check.Matches, `(?s).*`+want+`.*`)
	}
	var images arvados.CollectionList
	c.Assert(s.user.RequestAndDecode(&images, "GET", "arvados/v1/collections", nil, attrs{
		"filters": [][]string{{"owner_uuid", "=", project.UUID}, {"properties.arv:docker-image", "=", "1"}}}), check.IsNil)
	c.Check(images.Items, check.HasLen, 2)
	var output map[string]struct{ Location string }
	c.Assert(json.Unmarshal([]byte(s.file(c, cr.OutputUUID, "cwl.output.json")), &output), check.IsNil)
	c.Check(output, check.HasLen, 2)
}

// Several hosts that ask for one image at a time cause one container.
func (s *cwlSuite) TestManyHosts(c *check.C) {
	image := s.push(c, "many/tool:1")
	folder := c.MkDir()
	c.Assert(os.WriteFile(filepath.Join(folder, "Dockerfile"), []byte("FROM "+image+"\nRUN sleep 3; echo slow >/slow\n"), 0666), check.IsNil)
	for _, args := range [][]string{{"pull", image}, {"build", "--tag=many/built:1", folder}} {
		var all sync.WaitGroup
		for range 4 {
			all.Add(1)
			go func() {
				defer all.Done()
				out, err := s.command(filepath.Join(s.bin, Name), args...).CombinedOutput()
				c.Check(err, check.IsNil, check.Commentf("%s", out))
			}()
		}
		all.Wait()
		ran := map[string]bool{}
		var list arvados.ContainerRequestList
		c.Assert(s.user.RequestAndDecode(&list, "GET", "arvados/v1/container_requests", nil, nil), check.IsNil)
		for _, cr := range list.Items {
			if cr.Command[1] == args[0] && cr.Priority > 0 {
				ran[cr.ContainerUUID] = true
			}
		}
		c.Check(ran, check.HasLen, 1, check.Commentf("%q", args))
	}
}

// Settings from the file that the Python SDK reads are as good as variables.
func (s *cwlSuite) TestSettingsFile(c *check.C) {
	home := c.MkDir()
	settings := filepath.Join(home, ".config", "arvados", "settings.conf")
	c.Assert(os.MkdirAll(filepath.Dir(settings), 0700), check.IsNil)
	c.Assert(os.WriteFile(settings, []byte(strings.Join(s.settings, "\n")+"\n"), 0600), check.IsNil)
	cmd := exec.Command(filepath.Join(s.bin, Name), "images", "--no-trunc", "--all")
	cmd.Env = []string{"HOME=" + home}
	out, err := cmd.CombinedOutput()
	c.Check(err, check.IsNil)
	c.Check(string(out), check.Matches, `REPOSITORY .*\n`)
}

// runnerImage makes the image of runner containers as a site does: the usual one
// and the stand-in upon it; it returns the name.
func (s *cwlSuite) runnerImage(c *check.C) string {
	const name = "arvados/jobs:3.2.1"
	resp := s.engine(c, "GET", "/images/"+name+"/get")
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		c.Fatalf("the engine has no image %s: run build/need-jobs-image", name)
	}
	load := s.command(filepath.Join(s.bin, "arv-docker"), "load", "-q", "--tag=jobs/plain:1", "-")
	load.Stdin = resp.Body
	out, err := load.CombinedOutput()
	c.Assert(err, check.IsNil, check.Commentf("%s", out))
	folder := c.MkDir()
	c.Assert(os.Link(filepath.Join(s.bin, "arv-docker"), filepath.Join(folder, Name)), check.IsNil)
	c.Assert(os.WriteFile(filepath.Join(folder, "Dockerfile"), []byte("FROM jobs/plain:1\nCOPY docker /usr/local/bin/docker\n"), 0666), check.IsNil)
	out, err = s.command(filepath.Join(s.bin, "arv-docker"), "build", "--links=always", "--tag="+name, folder).CombinedOutput()
	c.Assert(err, check.IsNil, check.Commentf("%s", out))
	return name
}
