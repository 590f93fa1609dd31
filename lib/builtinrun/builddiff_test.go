// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun_test

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&buildDiffSuite{})

// buildDiffSuite builds the recipes of testdata/dockerfiles twice, by container
// requests and by the docker program on the same engine, and compares what
// comes of it: the images with all their files, or that both fail.
type buildDiffSuite struct {
	builds *buildSuite
	cli    dockerCLI
	prefix string // of names of images
}

// onSecondEngine are the recipes for an engine with the other image store.
// Building all of them twice takes too long.
var onSecondEngine = []string{
	"add-tar", "copy-chown-chmod", "copy-from-image", "dockerignore-negation", "heredoc-copy", "heredoc-run", "mount-bind", "mount-secret",
	"multi-stage", "names-not-utf8", "onbuild", "opaque-folder", "run-fails",
}

func (s *buildDiffSuite) SetUpSuite(c *check.C) {
	arvadosclient.RetryDelay = 10 * time.Millisecond
}

func (s *buildDiffSuite) TestNodeEngine(c *check.C) {
	s.compareAll(c, "", func(recipe) bool { return true })
}

func (s *buildDiffSuite) TestSecondEngine(c *check.C) {
	if _, err := os.Stat(strings.TrimPrefix(secondEngine, "unix://")); err != nil {
		c.Fatal("no second engine answers; build/need-second-engine starts one")
	}
	s.compareAll(c, secondEngine, func(r recipe) bool { return slices.Contains(onSecondEngine, r.name) })
}

func (s *buildDiffSuite) compareAll(c *check.C, host string, wanted func(recipe) bool) {
	s.builds = &buildSuite{}
	s.builds.SetUpTest(c)
	defer s.builds.TearDownTest(c)
	s.builds.setEngine(c, host, "")
	s.prefix = "builddiff-" + s.builds.ClusterID
	s.cli = dockerCLI{host: host, config: c.MkDir()}
	cache := openBuildCache(c, host)
	defer cache.close()
	defer cache.forget(c, cache.records(c, true))
	defer s.cli.forget(c, s.prefix)
	s.setBase(c)

	all := readRecipes(c, s.prefix)
	c.Assert(len(all) >= 40, check.Equals, true)
	for _, r := range all {
		if wanted(r) {
			s.compare(c, r)
		}
	}
}

// base is what all recipes build upon.
const base = `FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
COPY passwd group /etc/
ENV PATH=/bin BASE=base
LABEL base=yes both=base
CMD ["base"]
`

// setBase builds the base by a container request, and loads it into the engine
// for the docker program.
func (s *buildDiffSuite) setBase(c *check.C) {
	name := s.prefix + "/base"
	e := s.builds.build(c, []string{"-t", name, "/src"}, attrs{"/src": collection(s.builds.store(c, map[string]string{
		"Dockerfile": base,
		"busybox":    s.builds.shellProgram(c),
		"passwd":     "root:x:0:0:root:/:/bin/sh\nuser:x:1000:1001::/home:/bin/sh\n",
		"group":      "root:x:0:\nusers:x:1001:\nothers:x:1002:\n",
	}))}, nil)
	s.builds.ok(c, e)
	archive := s.image(c, e)
	defer archive.Close()
	loaded, err := s.cli.run(archive, "load", "-q")
	c.Assert(err, check.IsNil)
	words := strings.Fields(loaded)
	_, err = s.cli.run(nil, "tag", words[len(words)-1], name)
	c.Assert(err, check.IsNil)
}

// image is the archive that a build has stored.
func (s *buildDiffSuite) image(c *check.C, e ending) *keepfile.Reader {
	files, err := keepfile.ParseManifest(e.output.ManifestText)
	c.Assert(err, check.IsNil)
	c.Assert(files, check.HasLen, 1)
	return keepfile.NewReader(context.Background(), s.builds.keep(c), files[0])
}

// outcome is how a build ended, ours or the docker program's.
type outcome struct {
	image   described
	names   []string
	problem string // "" for success
}

// compare builds a recipe twice and looks for differences.
func (s *buildDiffSuite) compare(c *check.C, r recipe) {
	dir, secret := c.MkDir(), c.MkDir()
	c.Assert(r.write(dir, filepath.Join(secret, "secret")), check.IsNil)
	ours := s.request(c, r)
	dockers := s.cli.build(r, dir, filepath.Join(secret, "secret"), s.prefix)

	about := check.Commentf("%s: ours: %s\ndocker's: %s", r.name, ours.problem, dockers.problem)
	if r.docker != "" && dockers.problem != "" {
		c.Check(dockers.problem, check.Matches, "(?s)"+r.docker, about)
		c.Check(ours.problem, check.Equals, "", about)
		return
	}
	fails := r.fails
	if dockers.problem != "" && r.either != "" {
		fails = r.either
	}
	c.Check(dockers.problem != "", check.Equals, fails != "", about)
	c.Check(dockers.problem, check.Not(check.Matches), `(?s).*(dial tcp|lookup |i/o timeout).*`, about) // it fails for that reason
	if fails == "" {
		fails = r.refused
	}
	if fails != "" {
		c.Check(ours.problem, check.Matches, "(?s)"+fails, about)
		return
	}
	if ours.problem != "" || dockers.problem != "" {
		c.Check(ours.problem, check.Equals, dockers.problem, about)
		return
	}
	c.Check(slices.Equal(ours.names, dockers.names), check.Equals, true, check.Commentf("%s: %q is not %q", r.name, ours.names, dockers.names))
	found := differences(ours.image, dockers.image)
	c.Check(found, check.HasLen, 0, check.Commentf("%s:\n%s", r.name, strings.Join(found[:min(len(found), 20)], "\n")))
}

// request builds by container requests.
func (s *buildDiffSuite) request(c *check.C, r recipe) (o outcome) {
	for _, words := range r.builds(s.prefix) {
		mounts := attrs{}
		if r.text {
			for name, content := range r.files {
				mounts["/src/"+name] = text(content)
			}
		} else {
			mounts["/src"] = collection(s.store(c, r.files))
		}
		changes := attrs{}
		if r.secretPath != "" {
			changes["secret_mounts"] = attrs{r.secretPath: text(r.secret)}
		}
		e := s.builds.build(c, append(words, "/src"), mounts, changes)
		if o.problem = e.problem; o.problem != "" || e.output == nil {
			c.Check(e.ctr.State, check.Equals, arvados.ContainerStateComplete, check.Commentf("%s: %s", r.name, o.problem)) // nobody tries it again
			c.Check(e.output, check.IsNil)
			return o
		}
		archive := s.image(c, e)
		defer archive.Close()
		var err error
		o.image, err = describe(archive)
		c.Assert(err, check.IsNil)
		o.names = dockerimage.ParseProperties(e.output.Properties).RepoTags
		slices.Sort(o.names)
	}
	return o
}

// store makes a collection of files. JSON cannot have names that are not UTF-8,
// manifests can.
func (s *buildDiffSuite) store(c *check.C, files map[string]string) (pdh string) {
	pack := keepfile.NewPacker(context.Background(), keepfile.NewWriter(s.builds.keep(c), 1, arvados.BlockWriteOptions{}))
	for name, content := range files {
		c.Assert(pack.Add(name, strings.NewReader(content)), check.IsNil)
	}
	packed, err := pack.Close()
	c.Assert(err, check.IsNil)
	var manifest strings.Builder
	for text := keepfile.FormatManifest(packed); text != ""; {
		if r, n := utf8.DecodeRuneInString(text); r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&manifest, `\%03o`, text[0])
			text = text[1:]
		} else {
			manifest.WriteString(text[:n])
			text = text[n:]
		}
	}
	var coll arvados.Collection
	c.Assert(s.builds.user.RequestAndDecode(&coll, "POST", "arvados/v1/collections", nil, attrs{
		"collection": attrs{"manifest_text": manifest.String(), "properties": attrs{"type": "log"}}, // not an image
	}), check.IsNil)
	return coll.PortableDataHash
}

// builds are the words after docker build for each build of a recipe. Where
// there is a Dockerfile.first, it comes first and gives the image local/first.
func (r recipe) builds(prefix string) [][]string {
	all := [][]string{r.flags}
	if _, ok := r.files["Dockerfile.first"]; ok {
		all = [][]string{{"-f", "Dockerfile.first", "-t", prefix + "/first"}, r.flags}
	}
	return all
}

// write writes the build context into a folder, with the permissions that
// mounts have.
func (r recipe) write(dir, secret string) error {
	mode := os.FileMode(0755) // of all files of a collection
	if r.text {
		mode = 0644
	}
	for name, content := range r.files {
		name = dir + "/" + name
		if err := os.MkdirAll(path.Dir(name), 0755); err != nil { // that of a folder is itself
			return err
		}
		if strings.HasSuffix(name, "/") {
			continue
		}
		if err := os.WriteFile(name, []byte(content), mode); err != nil {
			return err
		}
	}
	// The docker program would fetch the frontend that a syntax line names.
	file := filepath.Join(dir, "Dockerfile")
	if recipe, ok := r.files["Dockerfile"]; ok && strings.HasPrefix(recipe, "# syntax=") {
		if err := os.WriteFile(file, []byte("#"+strings.TrimPrefix(recipe, "# syntax=")), mode); err != nil {
			return err
		}
	}
	return os.WriteFile(secret, []byte(r.secret), 0600)
}
