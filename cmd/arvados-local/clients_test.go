// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

// clientCall is one run of a genuine client of release 3.2.1. {name} in
// arguments and patterns stands for what is known by that name.
type clientCall struct {
	does   string // for people
	args   string // program and arguments
	prints string // pattern of the whole standard output
	keep   string // name for the first UUID that it prints, if not ""
	status int    // exit status
	says   string // pattern somewhere on standard error
}

const (
	aCollection = `\w{5}-4zz18-\w{15}`
	aRequest    = `\w{5}-xvhdp-\w{15}`
	aWorkflow   = `\w{5}-7fd4e-\w{15}`
	aHash       = `[0-9a-f]{32}\+\d+`
	// What arvados-cwl-runner prints of the workflow: the file with the
	// count, in Keep.
	theCount = `\{\s*"count": \{[^}]*"location": "keep:` + aHash + `/count.txt"[^}]*\}\s*\}\s*`
)

// clientCalls are made in this order, as an ordinary user.
var clientCalls = []clientCall{
	{does: "store an image of the Docker Engine", args: "arv-keepdocker {image} 1", prints: aCollection, keep: "stored"},
	{does: "store it again: it is there", args: "arv-keepdocker {image} 1", prints: "{stored}"},
	{does: "copy it into a project", args: "arv-keepdocker --project-uuid {project} {image} 1", prints: aCollection, keep: "copied"},
	{does: "list images", args: "arv-keepdocker", prints: `REPOSITORY +TAG +IMAGE ID +COLLECTION +CREATED *\n({image} +1 +sha256:\w{5} +({stored}|{copied}) +.*\n?){2}`},
	{does: "name what is nowhere", args: "arv-keepdocker arvados-local-test/none 1", status: 1, says: `no matching image found`},
	{does: "store the image of workflow runners", args: "arv-keepdocker arvados/jobs 3.2.1", prints: aCollection},

	{does: "register a workflow", args: "arvados-cwl-runner --create-workflow --no-copy-deps --name Counting {cwl}", prints: aWorkflow, keep: "workflow"},
	{does: "register it anew", args: "arvados-cwl-runner --update-workflow {workflow} --no-copy-deps --name Counting-again {cwl}", prints: "{workflow}"},
	{does: "what does it need", args: "arvados-cwl-runner --print-keep-deps {cwl}", prints: `\["` + aHash + `", "` + aHash + `"\]`},
	{does: "update what is nowhere", args: "arvados-cwl-runner --update-workflow {prefix}-7fd4e-000000000000000 --no-copy-deps {cwl}", status: 1, says: `Path not found`},
	{does: "run it, waiting here", args: "arvados-cwl-runner --submit {cwl} --text {text}", prints: theCount, says: `Final process status is success`},
	{does: "run it from here", args: "arvados-cwl-runner --local {cwl} --text {text}", prints: theCount, says: `Final process status is success`},
	{does: "copy an image to another cluster", args: "arv-copy --no-progress --src {here.conf} --dst {there.conf} --project-uuid {elsewhere} {stored}", prints: aCollection, keep: "image there"},
	{does: "copy a project", args: "arv-copy --no-progress --src {here.conf} --dst {there.conf} --project-uuid {elsewhere} {project}", prints: `\w{5}-j7d0g-\w{15}`, keep: "project there"},
	// With what it needs it cannot be copied: arv-copy does not tell the
	// arvados-cwl-runner that it starts that the certificate is our own.
	{does: "copy a workflow alone", args: "arv-copy --no-progress --no-recursive --src {here.conf} --dst {there.conf} --project-uuid {elsewhere} {workflow}", prints: aWorkflow, keep: "workflow there"},

	{does: "run the registered one in a project", args: "arvados-cwl-runner --submit --no-wait --project-uuid {project} arvwf:{workflow} --text {text}", prints: aRequest, keep: "request"},
}

// workflow counts the bytes of a text in a container of an image.
const workflow = `cwlVersion: v1.2
class: Workflow
inputs: {text: File}
outputs:
  count: {type: File, outputSource: counting/out}
steps:
  counting:
    in: {text: text}
    out: [out]
    run:
      class: CommandLineTool
      requirements:
        DockerRequirement: {dockerPull: "IMAGE:1"}
      baseCommand: [wc, -c]
      stdin: $(inputs.text.path)
      stdout: count.txt
      inputs: {text: File}
      outputs: {out: stdout}
`

// The genuine clients of images and workflows work unchanged. Runners of
// workflows run in containers of their own image, and their steps in others.
func (s *suite) TestClients(c *check.C) {
	dir := c.MkDir()
	known := map[string]string{
		"image":      "arvados-local-test/clients",
		"cwl":        filepath.Join(dir, "count.cwl"),
		"text":       filepath.Join(dir, "text.txt"),
		"here.conf":  filepath.Join(dir, "here.conf"),
		"there.conf": filepath.Join(dir, "there.conf"),
	}
	importBusybox(c, known["image"]+":1")
	defer exec.Command("docker", "rmi", known["image"]+":1").Run()

	other := &suite{program: s.program, dir: c.MkDir()}
	other.start(c)
	defer other.TearDownTest(c)
	for name, content := range map[string]string{
		"cwl": strings.ReplaceAll(workflow, "IMAGE", known["image"]), "text": "twelve bytes",
		"here.conf":  strings.Join(s.env(c, "user"), "\n"),
		"there.conf": strings.Join(other.env(c, "user"), "\n"),
	} {
		c.Assert(os.WriteFile(known[name], []byte(content), 0600), check.IsNil)
	}
	here, _ := s.client(c, "user")
	there, _ := other.client(c, "user")
	known["project"], known["elsewhere"] = makeProject(c, here), makeProject(c, there)
	known["prefix"] = known["project"][:5]

	home := c.MkDir()
	for _, call := range clientCalls {
		s.call(c, call, known, home)
	}
	s.checkRequest(c, here, known["request"])
	checkCopies(c, there, known)
}

// call makes one call, and keeps what it says that others need.
func (s *suite) call(c *check.C, call clientCall, known map[string]string, home string) {
	fill := func(text string, quote func(string) string) string {
		for name, value := range known {
			text = strings.ReplaceAll(text, "{"+name+"}", quote(value))
		}
		return text
	}
	words := strings.Fields(call.args)
	for i, word := range words {
		words[i] = fill(word, func(v string) string { return v })
	}
	program := pythonSDK(c, words[0])
	cmd := exec.Command(program, words[1:]...)
	// Nothing but arv-keepdocker is to find a docker program. arv-copy starts
	// arvados-cwl-runner.
	path := filepath.Dir(program)
	if words[0] == "arv-keepdocker" {
		path = os.Getenv("PATH")
	}
	cmd.Env = append(append(os.Environ(), s.env(c, "user")...), "HOME="+home, "PATH="+path)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	cmd.Run()
	c.Logf("%s: %.1f s", call.does, time.Since(start).Seconds())
	comment := check.Commentf("%s: %s: %s%s", call.does, strings.Join(words, " "), &stdout, &stderr)
	c.Assert(cmd.ProcessState.ExitCode(), check.Equals, call.status, comment)
	if call.status == 0 {
		c.Assert(strings.TrimSpace(stdout.String()), check.Matches, fill(call.prints, regexp.QuoteMeta), comment)
	}
	c.Assert(stderr.String(), check.Matches, `(?s).*`+call.says+`.*`, comment)
	if call.keep != "" {
		known[call.keep] = regexp.MustCompile(`\w{5}-\w{5}-\w{15}`).FindString(stdout.String())
	}
}

// checkRequest waits for the request of a workflow's runner, and looks at what
// it has left.
func (s *suite) checkRequest(c *check.C, client *arvados.Client, uuid string) {
	var request arvados.ContainerRequest
	for deadline := time.Now().Add(3 * time.Minute); request.State != arvados.ContainerRequestStateFinal; time.Sleep(time.Second) {
		c.Assert(time.Now().Before(deadline), check.Equals, true, check.Commentf("%s is still %s", uuid, request.State))
		c.Assert(client.RequestAndDecode(&request, "GET", "arvados/v1/container_requests/"+uuid, nil, nil), check.IsNil)
	}
	c.Check(request.SchedulingParameters.Supervisor, check.Equals, true)
	var runner arvados.Container
	c.Assert(client.RequestAndDecode(&runner, "GET", "arvados/v1/containers/"+request.ContainerUUID, nil, nil), check.IsNil)
	c.Check(runner.State, check.Equals, arvados.ContainerStateComplete)
	c.Check(runner.ExitCode, check.Equals, 0)
	// It has set its output itself.
	var output arvados.Collection
	c.Assert(client.RequestAndDecode(&output, "GET", "arvados/v1/collections/"+request.OutputUUID, nil, nil), check.IsNil)
	c.Check(output.PortableDataHash, check.Equals, runner.Output)
	c.Check(output.ManifestText, check.Matches, `(?s).*:count\.txt.*:cwl\.output\.json.*`)
	var steps arvados.ContainerRequestList
	c.Assert(client.RequestAndDecode(&steps, "GET", "arvados/v1/container_requests", nil, map[string]interface{}{
		"filters": [][]string{{"requesting_container_uuid", "=", request.ContainerUUID}},
	}), check.IsNil)
	c.Assert(steps.Items, check.HasLen, 1)
	c.Check(steps.Items[0].Priority, check.Equals, request.Priority)
	c.Check(steps.Items[0].OwnerUUID, check.Equals, request.OwnerUUID)
}

// checkCopies looks at what arv-copy has brought to another cluster.
func checkCopies(c *check.C, there *arvados.Client, known map[string]string) {
	var copied struct{ Definition, Name string }
	c.Assert(there.RequestAndDecode(&copied, "GET", "arvados/v1/workflows/"+known["workflow there"], nil, nil), check.IsNil)
	c.Check(copied.Name, check.Equals, "Counting-again")
	c.Check(copied.Definition, check.Matches, `(?s).*keep:`+aHash+`/count\.cwl.*`)
	var names arvados.LinkList
	c.Assert(there.RequestAndDecode(&names, "GET", "arvados/v1/links", nil, map[string]interface{}{
		"filters": [][]string{{"link_class", "=", "docker_image_repo+tag"}, {"head_uuid", "=", known["image there"]}},
	}), check.IsNil)
	c.Assert(names.Items, check.HasLen, 1)
	c.Check(names.Items[0].Name, check.Equals, known["image"]+":1")
	var inside struct{ Items []arvados.Collection }
	c.Assert(there.RequestAndDecode(&inside, "GET", "arvados/v1/groups/"+known["project there"]+"/contents", nil, nil), check.IsNil)
	c.Check(inside.Items, check.HasLen, 1)
}

func makeProject(c *check.C, client *arvados.Client) string {
	var project arvados.Group
	c.Assert(client.RequestAndDecode(&project, "POST", "arvados/v1/groups", nil, map[string]interface{}{
		"group": map[string]string{"group_class": "project", "name": "For clients"},
	}), check.IsNil)
	return project.UUID
}

// importBusybox gives the Docker Engine an image with a shell, and as user one
// that is not root.
func importBusybox(c *check.C, name string) {
	program, err := os.ReadFile("/bin/busybox")
	c.Assert(err, check.IsNil)
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	c.Assert(w.WriteHeader(&tar.Header{Name: "bin/busybox", Mode: 0755, Size: int64(len(program))}), check.IsNil)
	w.Write(program)
	for _, link := range []string{"sh", "cat", "wc"} {
		c.Assert(w.WriteHeader(&tar.Header{Name: "bin/" + link, Typeflag: tar.TypeSymlink, Linkname: "busybox"}), check.IsNil)
	}
	c.Assert(w.Close(), check.IsNil)
	cmd := exec.Command("docker", "import", "--change", "ENV PATH=/bin", "--change", "USER 1000", "-", name)
	cmd.Stdin = &image
	out, err := cmd.CombinedOutput()
	c.Assert(err, check.IsNil, check.Commentf("%s", out))
}
