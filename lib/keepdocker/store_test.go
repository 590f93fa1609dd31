// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepdocker

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/lib/keepfile/keepaccess"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&storeSuite{})

// storeSuite is about images on their way from a real engine, or a file, into an
// embedded cluster.
type storeSuite struct{ *cluster }

func (s *storeSuite) SetUpTest(c *check.C) { s.cluster = startCluster(c) }

func (s *storeSuite) TearDownTest(c *check.C) {
	removeImages(c, firstEngine)
	c.Check(s.Stop(), check.IsNil)
}

// All properties are there from the first moment on.
func (s *storeSuite) TestStore(c *check.C) {
	name, id := makeImage(c, firstEngine, "store:1")
	uuid := s.store(c, call{}, name)
	var changes []string
	for _, request := range s.written() {
		if strings.HasPrefix(request, "api ") && !strings.HasSuffix(request, "/groups") {
			changes = append(changes, request)
		}
	}
	c.Check(changes, check.DeepEquals, []string{"api POST /arvados/v1/collections", "api POST /arvados/v1/links", "api POST /arvados/v1/links"})
	coll := s.collection(c, uuid)
	c.Check(files(c, coll), check.DeepEquals, []string{id + ".tar"})
	written := attrs{
		"docker-image-hash": id, "docker-image-repo-tag": name, "arv:docker-image": "1",
		"arv:docker-image-pdh": coll.PortableDataHash, "arv:docker-image-platform": "linux/amd64",
	}
	for key, want := range written {
		c.Check(coll.Properties[key], check.DeepEquals, want, check.Commentf("%s", key))
	}
	c.Check(coll.Properties["docker-image-timestamp"], check.Matches, `20.*Z`)
	c.Check(s.linksTo(c, uuid), check.DeepEquals, []string{"docker_image_hash " + id, "docker_image_repo+tag " + name})

	// Once more changes nothing.
	s.written()
	c.Check(s.store(c, call{}, name), check.Equals, uuid)
	c.Check(s.written(), check.HasLen, 0)
}

// With the containerd store the engine's id is not the name of the file, and an
// image is found again all the same.
func (s *storeSuite) TestContainerdStore(c *check.C) {
	defer removeImages(c, secondEngine)
	name, id := makeImage(c, secondEngine, "containerd:1")
	uuid := s.store(c, call{engine: secondEngine}, name)
	coll := s.collection(c, uuid)
	hash := coll.Properties["docker-image-hash"].(string)
	c.Check(hash, check.Not(check.Equals), id)
	c.Check(files(c, coll), check.DeepEquals, []string{hash + ".tar"})
	digests, err := json.Marshal(coll.Properties["arv:docker-image-digest"])
	c.Assert(err, check.IsNil)
	c.Check(string(digests), check.Matches, `.*"`+id+`".*`)

	s.written()
	c.Check(s.store(c, call{engine: secondEngine}, name), check.Equals, uuid)
	c.Check(s.written(), check.HasLen, 0)

	// The other kind of store calls the image by its config. It keeps layers
	// in another form, and yet the image is the same one.
	archive := docker(c, secondEngine, nil, "save", name)
	docker(c, firstEngine, strings.NewReader(archive), "load")
	c.Check(docker(c, firstEngine, nil, "inspect", "--format", "{{.Id}}", name), check.Equals, hash)
	c.Check(s.store(c, call{}, name), check.Equals, uuid)

	// The Python tool names it as this engine calls it, so that only nodes with
	// such a store find it. Where all nodes are like that, ours can be told to.
	a := s.python(c, secondEngine, "--force", name)
	c.Assert(a.code, check.Equals, 0, check.Commentf("%s", a.err))
	c.Check(files(c, s.collection(c, strings.TrimSpace(a.out))), check.DeepEquals, []string{id + ".tar"})
	c.Assert(s.user.RequestAndDecode(nil, "DELETE", "arvados/v1/collections/"+strings.TrimSpace(a.out), nil, nil), check.IsNil)
	for _, from := range []string{secondEngine, firstEngine} {
		named := s.collection(c, s.store(c, call{engine: from}, "--image-id", "manifest", name))
		c.Check(named.UUID, check.Not(check.Equals), uuid)
		list, err := keepfile.ParseManifest(named.ManifestText)
		c.Assert(err, check.IsNil)
		kc, err := keepaccess.Open(context.Background(), s.user)
		c.Assert(err, check.IsNil)
		archive := keepfile.NewReader(context.Background(), kc, list[0])
		loaded := strings.TrimPrefix(docker(c, secondEngine, archive, "load", "-q"), "Loaded image ID: ")
		archive.Close()
		c.Check(list[0].Path, check.Equals, loaded+".tar")
		c.Check(named.Properties["docker-image-hash"], check.Equals, loaded)
		if loaded != id { // else it was there before
			docker(c, secondEngine, nil, "rmi", loaded)
		}

		// Both are found again, each under its name.
		c.Check(s.store(c, call{engine: from}, "--image-id", "manifest", name), check.Equals, named.UUID)
		c.Check(s.store(c, call{engine: from}, name), check.Equals, uuid)
	}
}

func (s *storeSuite) TestCopyKeepsProperties(c *check.C) {
	name, id := makeImage(c, firstEngine, "copy:1")
	uuid := s.store(c, call{}, name)
	properties := s.collection(c, uuid).Properties
	properties["mine"] = "stays"
	c.Assert(s.user.RequestAndDecode(nil, "PUT", "arvados/v1/collections/"+uuid, nil, attrs{"collection": attrs{"properties": properties}}), check.IsNil)
	copied := s.store(c, call{}, "--project-uuid", s.project, name)
	c.Check(copied, check.Not(check.Equals), uuid)
	coll := s.collection(c, copied)
	c.Check(coll.OwnerUUID, check.Equals, s.project)
	c.Check(coll.Properties, check.DeepEquals, properties)
	c.Check(s.linksTo(c, copied), check.DeepEquals, []string{"docker_image_hash " + id, "docker_image_repo+tag " + name})
}

// What the Python tool has stored gets the properties that it does not write.
func (s *storeSuite) TestLegacyIsCompleted(c *check.C) {
	name, id := makeImage(c, firstEngine, "legacy:1")
	a := s.python(c, firstEngine, name)
	c.Assert(a.code, check.Equals, 0, check.Commentf("%s", a.err))
	legacy := strings.TrimSpace(a.out)
	c.Assert(s.collection(c, legacy).Properties, check.HasLen, 1)

	copied := s.collection(c, s.store(c, call{}, "--project-uuid", s.project, name))
	c.Check(copied.Properties["docker-image-hash"], check.Equals, id)
	c.Check(copied.Properties["docker-image-timestamp"], check.Matches, "20.*Z")
	c.Check(copied.Properties["arv:docker-image-pdh"], check.Equals, copied.PortableDataHash)

	c.Check(s.store(c, call{engine: noEngine}, "--tag-existing", legacy, "other"), check.Equals, legacy)
	coll := s.collection(c, legacy)
	c.Check(coll.Properties["docker-image-hash"], check.Equals, id)
	c.Check(coll.Properties["docker-image-timestamp"], check.Equals, copied.Properties["docker-image-timestamp"])
	c.Check(coll.Properties["docker-image-repo-tag"], check.DeepEquals, []interface{}{name, "other:latest"})
}

func (s *storeSuite) TestTagExisting(c *check.C) {
	name, id := makeImage(c, firstEngine, "tagged:1")
	uuid := s.store(c, call{}, name)
	removeImages(c, firstEngine)
	pdh := s.collection(c, uuid).PortableDataHash
	for i, image := range []string{uuid, pdh, id, id[7:19], name} {
		tag := string(rune('a'+i)) + ":1"
		c.Check(s.store(c, call{engine: noEngine}, "--tag-existing", image, tag), check.Equals, uuid)
	}
	c.Check(s.store(c, call{engine: noEngine}, "--tag-existing="+uuid, "docker.io/library/f", "2"), check.Equals, uuid)
	coll := s.collection(c, uuid)
	c.Check(coll.Properties["docker-image-repo-tag"], check.DeepEquals,
		[]interface{}{name, "a:1", "b:1", "c:1", "d:1", "e:1", "f:2"})
	c.Check(slices.Contains(s.linksTo(c, uuid), "docker_image_repo+tag docker.io/library/f:2"), check.Equals, true)
	// Into a project: a copy.
	copied := s.store(c, call{engine: noEngine}, "--project-uuid", s.project, "--tag-existing", pdh, "g")
	c.Check(s.collection(c, copied).OwnerUUID, check.Equals, s.project)
	c.Check(s.store(c, call{engine: noEngine}, "--project-uuid", s.project, "--tag-existing", pdh, "h"), check.Equals, copied)

	var empty arvados.Collection
	c.Assert(s.user.RequestAndDecode(&empty, "POST", "arvados/v1/collections", nil, attrs{"collection": attrs{}}), check.IsNil)
	for _, trial := range []struct{ image, name, want string }{
		{empty.UUID, "x", `.*collection .* cannot pass as an image: it has 0 files.*`},
		{uuid[:12] + "000000000000000", "x", `.*there is no collection .* that you can read.*`},
		{"none:such", "x", `.*there is no such image in Arvados.*`},
		{"d41d8cd98f00b204e9800998ecf8427e+9", "x", `.*there is no such image in Arvados.*`},
		{uuid, id, `.*is no name but a hash.*`},
		{uuid, "x@" + id, `.*is no name but a hash or has a digest.*`},
		{uuid, "X", `.*lower case.*`},
	} {
		a := s.callWith(c, call{engine: noEngine}, "--tag-existing", trial.image, trial.name)
		c.Check(a.code, check.Equals, 1, check.Commentf("%v", trial))
		c.Check(a.out, check.Equals, "")
		c.Check(a.err, check.Matches, trial.want+"\n", check.Commentf("%v", trial))
	}
}

func (s *storeSuite) TestFile(c *check.C) {
	name, id := makeImage(c, firstEngine, "file:1")
	dir := c.MkDir()
	path := filepath.Join(dir, "image.tar")
	docker(c, firstEngine, nil, "save", "-o", path, name)
	removeImages(c, firstEngine)
	uuid := s.store(c, call{engine: noEngine}, path)
	coll := s.collection(c, uuid)
	c.Check(coll.Properties["docker-image-repo-tag"], check.Equals, name)
	c.Check(files(c, coll), check.DeepEquals, []string{id + ".tar"})
	c.Check(s.linksTo(c, uuid), check.HasLen, 2)

	// Again, with another name, and from elsewhere: no second collection.
	c.Check(s.store(c, call{engine: noEngine}, path, "given:1"), check.Equals, uuid)
	other := filepath.Join(dir, "image")
	c.Assert(os.Rename(path, other), check.IsNil)
	c.Check(s.store(c, call{engine: noEngine}, "--tar", other, "given", "2"), check.Equals, uuid)
	content, err := os.ReadFile(other)
	c.Assert(err, check.IsNil)
	c.Check(s.store(c, call{engine: noEngine, stdin: bytes.NewReader(content)}, "--tar", "-"), check.Equals, uuid)
	c.Check(s.collection(c, uuid).Properties["docker-image-repo-tag"], check.DeepEquals, []interface{}{name, "given:1", "given:2"})

	c.Assert(os.Mkdir(path, 0777), check.IsNil)
	for _, trial := range []struct {
		args []string
		in   string
		want string
	}{
		{[]string{"--tar", "-"}, string(content[:len(content)/2]), `(?s).*archive.*`},
		{[]string{"--tar", "-"}, "", `(?s).*archive.*`},
		{[]string{"--tar", dir}, "", `(?s).*is a directory.*`},
		{[]string{"--tar", dir + "/none"}, "", `(?s).*check FILE: .*no such file.*`},
		{[]string{"--tar", other, id}, "", `(?s).*is no name.*`},
		{[]string{"none.tar"}, "", `(?s).*look at image none.tar:latest.*start the engine.*`}, // no file, so it is a name
		{[]string{path}, "", `(?s).*request: read image name ".*image.tar:latest".*`},         // a folder is none, either
	} {
		a := s.callWith(c, call{engine: noEngine, stdin: strings.NewReader(trial.in)}, trial.args...)
		c.Check(a.code, check.Equals, 1, check.Commentf("%v", trial.args))
		c.Check(a.out, check.Equals, "")
		c.Check(a.err, check.Matches, trial.want, check.Commentf("%v", trial.args))
	}
}

// An image that a registry has, and then a newer one of that name.
func (s *storeSuite) TestPull(c *check.C) {
	registry := registrytest.New()
	defer registry.Close()
	registry.RequireBasic("reader", "a-password")
	name := registry.Host() + "/tool:1"
	defer func() { docker(c, firstEngine, nil, "rmi", name) }()
	config := `{"auths": {"` + registry.Host() + `": {"auth": "` + base64.StdEncoding.EncodeToString([]byte("reader:a-password")) + `"}}}`
	registry.Push("tool:1", randomimage.New(1, 4096))

	a := s.callWith(c, call{config: config}, name)
	c.Check(a.code, check.Equals, 1)
	c.Check(a.err, check.Matches, `arv-keepdocker: engine: look for image .*: there is no such image \(--pull has the engine pull it\)\n`)
	a = s.callWith(c, call{}, "--pull", name)
	c.Check(a.code, check.Equals, 1)
	c.Check(a.err, check.Matches, `(?s)arv-keepdocker: registry: pull .*`)

	first := s.store(c, call{config: config}, "--pull", name)
	registry.Push("tool:1", randomimage.New(2, 4096))
	c.Check(s.store(c, call{config: config}, name), check.Equals, first)
	second := s.store(c, call{config: config}, "--pull", registry.Host()+"/tool", "1")
	c.Check(second, check.Not(check.Equals), first)
	// The engine keeps what it was told to pull.
	id := docker(c, firstEngine, nil, "inspect", "--format", "{{.Id}}", name)
	c.Check(s.collection(c, second).Properties["docker-image-hash"], check.Equals, id)

	// By digest. Older programs know such an image by a link.
	digest := registry.Push("tool:2", randomimage.New(3, 4096))
	byDigest := s.store(c, call{config: config}, "--pull", registry.Host()+"/tool@"+digest)
	defer docker(c, firstEngine, nil, "rmi", registry.Host()+"/tool@"+digest)
	c.Check(s.collection(c, byDigest).Properties["docker-image-repo-tag"], check.IsNil)
	c.Check(s.linksTo(c, byDigest)[1], check.Equals, "docker_image_repo+tag "+registry.Host()+"/tool@"+digest)
}

// Of several calls for one image, one brings it in.
func (s *storeSuite) TestAtTheSameTime(c *check.C) {
	name, id := makeImage(c, firstEngine, "same:1")
	var wg sync.WaitGroup
	uuids := make([]string, 4)
	for i := range uuids {
		wg.Add(1)
		go func() {
			defer wg.Done()
			uuids[i] = s.store(c, call{}, name)
		}()
	}
	wg.Wait()
	c.Check(slices.Compact(uuids), check.HasLen, 1)

	// The Python tool's lock is ours, too. Ctrl-C ends the wait.
	lock, err := os.Create(filepath.Join(s.locks, id+".tar.lock"))
	c.Assert(err, check.IsNil)
	defer lock.Close()
	c.Assert(syscall.Flock(int(lock.Fd()), syscall.LOCK_EX), check.IsNil)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stderr := &watched{text: "waiting", then: cancel}
	p := &Program{API: s.user, Stdout: io.Discard, Stderr: stderr, LockDir: s.locks}
	c.Check(p.Run(ctx, []string{name}), check.Equals, exitInterrupted)
	c.Check(stderr.String(), check.Equals, "arv-keepdocker: waiting for another arv-keepdocker that brings this image in\narv-keepdocker: interrupted\n")
}

// watched does something once a text is written.
type watched struct {
	bytes.Buffer
	text string
	then func()
}

func (w *watched) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.text) {
		w.then()
	}
	return w.Buffer.Write(p)
}

// refuse answers requests of one kind with a status.
func refuse(method, path string, status int) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != method || r.URL.Path != path {
			return false
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"errors":["made to fail"]}`))
		return true
	}
}

// Where something fails there is no half image, or the way to mend it is told.
func (s *storeSuite) TestFailures(c *check.C) {
	name, _ := makeImage(c, firstEngine, "failing:1")
	s.change = refuse("POST", "/arvados/v1/collections", http.StatusForbidden)
	a := s.callWith(c, call{}, name)
	c.Check(a.code, check.Equals, 1)
	c.Check(a.out, check.Equals, "")
	c.Check(a.err, check.Matches, `arv-keepdocker: api: POST collections of .* \(you may not do this with this token, or not in this project\)\n`)
	s.change = nil
	c.Check(s.callWith(c, call{}).out, check.Matches, `REPOSITORY.*\n`)

	s.change = refuse("POST", "/arvados/v1/links", http.StatusForbidden)
	a = s.callWith(c, call{}, name)
	s.change = nil
	c.Check(a.code, check.Equals, 1)
	c.Check(a.out, check.Equals, "")
	c.Check(a.err, check.Matches, `arv-keepdocker: image .* its link .* cannot be written: .*; everything else is done: "arv-keepdocker --tag-existing .*" writes the links\n`)
	_, command, _ := strings.Cut(a.err, `"arv-keepdocker `)
	command, _, _ = strings.Cut(command, `"`)
	uuid := s.store(c, call{engine: noEngine}, strings.Fields(command)...)
	c.Check(s.linksTo(c, uuid), check.HasLen, 2)
}

// The API server says what formats it takes.
func (s *storeSuite) TestFormat(c *check.C) {
	name, _ := makeImage(c, firstEngine, "format:1")
	for formats, says := range map[string]string{
		`["v1"]`: `the API server takes images of formats \["v1"\] only, and this one is v2`,
		`[]`:     `the API server does not say that it takes images of any format`,
		`null`:   `the API server does not say that it takes images of any format`,
	} {
		s.change = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasPrefix(r.URL.Path, "/discovery/") {
				return false
			}
			_, _ = w.Write([]byte(`{"dockerImageFormats":` + formats + `,"blobSignatureTtl":1209600,"defaultCollectionReplication":1}`))
			return true
		}
		a := s.callWith(c, call{}, "-f", name)
		c.Check(a.code, check.Equals, 1)
		c.Check(a.err, check.Matches, `arv-keepdocker: request: check image format: `+says+` \(--force-image-format .*\)\n`)
		a = s.callWith(c, call{}, "-f", "--force-image-format", name)
		c.Check(a.code, check.Equals, 0, check.Commentf("%s", a.err))
		c.Check(a.err, check.Matches, `arv-keepdocker: `+says+`: it is stored all the same\n`)
	}
}

func (s *storeSuite) TestProgress(c *check.C) {
	name, _ := makeImage(c, firstEngine, "progress:1")
	for flag, want := range map[string]string{
		"--batch-progress": `arv-keepdocker \d+: \d+ written -1 total\n`,
		"--progress":       `\r0M \n`,
		"--no-progress":    ``,
	} {
		a := s.callWith(c, call{}, "-f", flag, name)
		c.Check(a.code, check.Equals, 0)
		c.Check(a.err, check.Matches, want, check.Commentf("%s", flag))
	}
}

// A strict vocabulary refuses some keys. Images are stored and found all the same.
func (s *storeSuite) TestStrictVocabulary(c *check.C) {
	name, id := makeImage(c, firstEngine, "strict:1")
	s.change = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet || !strings.HasPrefix(r.URL.Path, "/arvados/v1/collections") {
			return false
		}
		body, err := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		text, _ := url.QueryUnescape(string(body))
		if err != nil || !strings.Contains(text, `"docker-image-hash"`) {
			return false
		}
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"errors":["tag key \"docker-image-hash\" is not defined in the vocabulary"]}`))
		return true
	}
	uuid := s.store(c, call{}, name)
	properties := s.collection(c, uuid).Properties
	c.Check(properties["arv:docker-image-hash"], check.Equals, id)
	c.Check(properties["docker-image-hash"], check.IsNil)
	c.Check(properties["docker-image-repo-tag"], check.Equals, name)
	c.Check(s.linksTo(c, uuid), check.HasLen, 2)
	c.Check(s.store(c, call{}, name), check.Equals, uuid)
	c.Check(s.store(c, call{}, "--tag-existing", name, "other:1"), check.Equals, uuid)
	copied := s.collection(c, s.store(c, call{}, "--project-uuid", s.project, name))
	c.Check(copied.Properties["arv:docker-image-hash"], check.Equals, id)
	c.Check(copied.Properties["docker-image-hash"], check.IsNil)
}
