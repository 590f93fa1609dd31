// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"git.arvados.org/arvados.git/lib/buildcontext"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&buildSuite{})

// buildSuite builds from local folders, on the Docker Engine of this machine.
type buildSuite struct{ fixture }

const recipe = `FROM scratch
COPY bin/busybox /bin/sh
COPY data /data
ARG GREETING
RUN --mount=type=secret,id=key,required echo "$GREETING, $(cat /data/name)" > /greeting
`

// folder makes a build context.
func (s *buildSuite) folder(c *check.C, files map[string]string) string {
	dir := filepath.Join(c.MkDir(), "tool")
	for name, content := range files {
		path := filepath.Join(dir, name)
		c.Assert(os.MkdirAll(filepath.Dir(path), 0777), check.IsNil)
		c.Assert(os.WriteFile(path, []byte(content), 0666), check.IsNil)
	}
	return dir
}

func (s *buildSuite) tool(c *check.C) string {
	busybox, err := os.ReadFile("/bin/busybox")
	c.Assert(err, check.IsNil)
	return s.folder(c, map[string]string{
		"Dockerfile":    recipe,
		".dockerignore": "Dockerfile\n*.log\n!keep.log\n",
		"bin/busybox":   string(busybox),
		"data/name":     "world",
		"junk.log":      "not for the build",
		"keep.log":      "for the build",
	})
}

// The whole way: context, secret, build arg, names; then an edit, of which only
// what has changed is sent.
func (s *buildSuite) TestBuildAndEdit(c *check.C) {
	dir := s.tool(c)
	secret := filepath.Join(c.MkDir(), "key")
	c.Assert(os.WriteFile(secret, []byte(secretWord), 0600), check.IsNil)
	args := []string{"build", "-t", "lab/tool:1", "--build-arg", "GREETING=hello", "--secret", "id=key,src=" + secret, dir}
	first := s.result(c, args...)
	c.Check(first.Names, check.DeepEquals, []string{"lab/tool:1"})
	c.Check(s.run(c, "verify", "lab/tool:1").out, check.Matches, `x\w{4}-4zz18-\w{15}: OK, sha256:.*\n`)

	var cr arvados.ContainerRequest
	c.Assert(s.user.RequestAndDecode(&cr, "GET", "arvados/v1/container_requests/"+first.Request, nil, nil), check.IsNil)
	c.Check(cr.Command, check.DeepEquals, []string{"docker", "build", "--tag", "lab/tool:1", "--build-arg", "GREETING=hello",
		"--secret", "id=key,src=/secrets/key", "--file", "/Dockerfile", "/context"})
	c.Check(cr.UseExisting, check.Equals, false)
	var names []string
	for name := range s.files(c, cr.Mounts["/context"].PortableDataHash) {
		names = append(names, name)
	}
	c.Check(names, hasAll, []string{".dockerignore", "bin/busybox", "data/name", "keep.log"})

	// Nothing has changed: nothing is sent, no second context, the same image.
	again := s.run(c, args...)
	c.Check(again.err, check.Matches, `(?s)context tool: .* 0 B sent\n.*the same recipe was built before.*`)
	c.Check(again.out, check.Matches, `(?s)Image: .*`+strings.ReplaceAll(first.PortableDataHash, "+", `\+`)+`.*In CWL:.*dockerPull: lab/tool:1\n.*`)
	c.Check(s.contexts(c), check.Equals, 1)

	c.Assert(os.WriteFile(filepath.Join(dir, "data/name"), []byte("moon"), 0666), check.IsNil)
	edited := s.result(c, args...)
	c.Check(edited.PortableDataHash, check.Not(check.Equals), first.PortableDataHash)
	c.Check(s.contexts(c), check.Equals, 2)
}

// hasAll: two lists of strings have the same items.
var hasAll check.Checker = &sameItems{&check.CheckerInfo{Name: "hasAll", Params: []string{"obtained", "expected"}}}

type sameItems struct{ *check.CheckerInfo }

func (*sameItems) Check(params []interface{}, _ []string) (bool, string) {
	count := map[string]int{}
	for _, name := range params[0].([]string) {
		count[name]++
	}
	for _, name := range params[1].([]string) {
		count[name]--
	}
	for name, n := range count {
		if n != 0 {
			return false, "differs in " + name
		}
	}
	return true, ""
}

// contexts is how many collections are build contexts.
func (s *buildSuite) contexts(c *check.C) int {
	var list arvados.CollectionList
	c.Assert(s.user.RequestAndDecode(&list, "GET", "arvados/v1/collections", nil, attrs{
		"filters": [][]any{{"properties." + keyContext, "exists", true}},
	}), check.IsNil)
	return len(list.Items)
}

// A step that fails: exit code 1, its output, and the line.
func (s *buildSuite) TestAStepFails(c *check.C) {
	dir := s.tool(c)
	a := s.callWith(c, call{stdin: strings.NewReader("FROM scratch\nCOPY bin/busybox /bin/sh\nRUN echo the-reason; exit 7\n")}, "build", "-f", "-", dir)
	c.Check(a.code, check.Equals, 1)
	c.Check(a.out, check.Equals, "")
	c.Check(a.err, check.Matches, `(?s).*the-reason.*arv-docker: .*Dockerfile line 3: RUN echo the-reason; exit 7: exit code 7.*`)
}

// What is printed and not done.
func (s *buildSuite) TestDryRun(c *check.C) {
	dir := s.folder(c, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "content"})
	secret := filepath.Join(c.MkDir(), "key")
	c.Assert(os.WriteFile(secret, []byte(secretWord), 0600), check.IsNil)
	os.Setenv("ARV_DOCKER_TEST", "from the environment")
	defer os.Unsetenv("ARV_DOCKER_TEST")
	s.asked()
	a := s.run(c, "build", "--dry-run", "-t", "tool", "--build-arg", "ARV_DOCKER_TEST", "--build-arg", "ARV_DOCKER_NOT_THERE",
		"--label", "a=b", "--target", "x", "--network", "none", "--no-cache", "--pull", "--secret", "id=key,src="+secret, dir)
	golden(c, "build-dry-run", a.out)
	c.Check(s.asked(), check.DeepEquals, []string{"api GET /arvados/v1/users/current"})
	c.Check(a.err, check.Equals, "")
}

// Other contexts go as they are.
func (s *buildSuite) TestOtherContexts(c *check.C) {
	for _, trial := range []struct{ from, name string }{
		{"keep:d41d8cd98f00b204e9800998ecf8427e+0/sub", "docker build keep:d41d8cd98f00b204e9800998ecf8427e+0/sub"},
		{"https://example.com/repo.git#main:sub", "docker build https://example.com/repo.git#main:sub"},
	} {
		a := s.run(c, "build", "--dry-run", "-f", "x/Dockerfile", trial.from)
		var cr arvados.ContainerRequest
		c.Assert(json.Unmarshal([]byte(a.out), &cr), check.IsNil)
		c.Check(cr.Command, check.DeepEquals, []string{"docker", "build", "--file", "x/Dockerfile", trial.from})
		c.Check(cr.Name, check.Equals, trial.name)
		c.Check(cr.Mounts, check.HasLen, 1)
	}
}

// A Dockerfile of one's own for files in Keep goes with the request.
func (s *buildSuite) TestDockerfileBesideACollection(c *check.C) {
	const pdh = "d41d8cd98f00b204e9800998ecf8427e+0"
	for _, trial := range []struct{ from, path string }{{"keep:" + pdh, ""}, {"keep:" + pdh + "/a/b", "a/b"}} {
		a := s.callWith(c, call{stdin: strings.NewReader("FROM scratch\n")}, "build", "--dry-run", "--file", "-", trial.from)
		c.Assert(a.code, check.Equals, 0, check.Commentf("%s", a.err))
		var cr arvados.ContainerRequest
		c.Assert(json.Unmarshal([]byte(a.out), &cr), check.IsNil)
		c.Check(cr.Command, check.DeepEquals, []string{"docker", "build", "--file", recipeMount, contextMount})
		c.Check(cr.Mounts[recipeMount], check.DeepEquals, arvados.Mount{Kind: "text", Content: "FROM scratch\n"})
		c.Check(cr.Mounts[contextMount], check.DeepEquals, arvados.Mount{Kind: "collection", PortableDataHash: pdh, Path: trial.path})
	}
}

// What becomes of a folder in Keep.
func (s *buildSuite) TestPack(c *check.C) {
	dir := s.folder(c, map[string]string{"a/file": "content", "a/empty": "", "b/c/file": "more", "x y:z": "odd name"})
	c.Assert(os.MkdirAll(filepath.Join(dir, "hollow/within"), 0777), check.IsNil)
	c.Assert(os.Symlink("../a/file", filepath.Join(dir, "b/link")), check.IsNil)
	c.Assert(os.Symlink("b/link", filepath.Join(dir, "link")), check.IsNil)
	root, err := os.OpenRoot(dir)
	c.Assert(err, check.IsNil)
	defer root.Close()
	tree, err := buildcontext.FromFolder(s.ctx, root)
	c.Assert(err, check.IsNil)
	files, copies, err := pack(s.ctx, tree, &blockStore{}, func(int64) {})
	c.Assert(err, check.IsNil)
	c.Check(copies, check.Equals, 2)
	manifest := keepfile.FormatManifest(files)
	golden(c, "pack", manifest)
	again, err := keepfile.ParseManifest(manifest)
	c.Assert(err, check.IsNil)
	var names []string
	for _, file := range again {
		names = append(names, file.Path)
	}
	c.Check(names, hasAll, []string{"a/file", "a/empty", "b/c/file", "b/link", "link", "x y:z", "hollow/within/"})

	// A link to a folder is no file that could be copied.
	c.Assert(os.Symlink("a", filepath.Join(dir, "to-folder")), check.IsNil)
	tree, err = buildcontext.FromFolder(s.ctx, root)
	c.Assert(err, check.IsNil)
	_, _, err = pack(s.ctx, tree, &blockStore{}, func(int64) {})
	c.Check(err, check.ErrorMatches, `request: check context: the symbolic link "to-folder" cannot be stored in Keep: it leads to the folder "a" .*`)
	c.Assert(os.Remove(filepath.Join(dir, "to-folder")), check.IsNil)
}

// An ignore file for one Dockerfile counts alone, also on the node.
func (s *buildSuite) TestIgnoreFileOfTheDockerfile(c *check.C) {
	dir := s.folder(c, map[string]string{
		"gpu.Dockerfile": "FROM scratch\n", "gpu.Dockerfile.dockerignore": "a\n", ".dockerignore": "b\n", "a": "", "b": "",
	})
	p := &session{Program: &Program{}}
	f, err := p.openFolder(s.ctx, dir, filepath.Join(dir, "gpu.Dockerfile"))
	c.Assert(err, check.IsNil)
	defer f.root.Close()
	c.Check(f.recipe, check.DeepEquals, attrs{"/Dockerfile": "FROM scratch\n", "/Dockerfile.dockerignore": "a\n"})
	_, err = f.tree.Lookup("a")
	c.Check(err, check.ErrorMatches, `.*file does not exist.*`)
	_, err = f.tree.Lookup("b")
	c.Check(err, check.IsNil)
}

func (s *buildSuite) TestKnownBlocksAreNotSent(c *check.C) {
	store := &blockStore{next: s.keep(c)}
	one, err := store.BlockWrite(s.ctx, arvados.BlockWriteOptions{Data: []byte("content")})
	c.Assert(err, check.IsNil)
	c.Check(store.sent, check.Equals, int64(7))
	store.know(arvados.CollectionList{Items: []arvados.Collection{
		{ManifestText: ". " + one.Locator + " 0:7:file\n"}, {ManifestText: "nonsense"},
	}})
	two, err := store.BlockWrite(s.ctx, arvados.BlockWriteOptions{Data: []byte("content")})
	c.Assert(err, check.IsNil)
	c.Check(two.Locator, check.Equals, one.Locator)
	c.Check(store.sent, check.Equals, int64(7))
}

// The name that Resolve finds is that of the last build.
func (s *buildSuite) TestWhatTheNameMeans(c *check.C) {
	dir := s.folder(c, map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "1"})
	first := s.result(c, "build", "-t", "lab/a:1", dir)
	c.Assert(os.WriteFile(filepath.Join(dir, "a"), []byte("2"), 0666), check.IsNil)
	second := s.result(c, "build", "-t", "lab/a:1", dir)
	c.Check(second.PortableDataHash, check.Not(check.Equals), first.PortableDataHash)
	found, err := dockerimage.Resolve(s.ctx, s.user, "lab/a:1", dockerimage.Policy{})
	c.Assert(err, check.IsNil)
	c.Check(found.UUID, check.Equals, second.Collection)
}
