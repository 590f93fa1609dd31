// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerstandin

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"git.arvados.org/arvados.git/lib/arvdocker"
	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
	"git.arvados.org/arvados.git/sdk/go/keepclient"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"gopkg.in/check.v1"
)

// cwlFixture is an embedded cluster of processes, a registry whose name needs no
// port, since arvados-cwl-runner takes a port for a tag, and a PATH on which
// docker is the stand-in.
type cwlFixture struct {
	bin      string // programs
	python   string // where arvados-cwl-runner is
	dir      string // of a test
	path     string
	settings []string // ARVADOS_…=…
	user     *arvados.Client
	cluster  *exec.Cmd
	registry *registrytest.Real
	front    *http.Server
	before   []string // IDs of the engine's images
}

// registryHost stands on loopback, apart from what else may listen there.
const registryHost = "127.77.0.1"

func (f *cwlFixture) SetUpSuite(c *check.C) {
	f.bin = c.MkDir()
	out, err := exec.Command("go", "build", "-o", f.bin+"/", "../../cmd/arvados-local", "../../cmd/crunch-run", "../../cmd/arv-docker").CombinedOutput()
	c.Assert(err, check.IsNil, check.Commentf("%s", out))
	c.Assert(os.Symlink("arv-docker", filepath.Join(f.bin, Name)), check.IsNil)
	cache, err := os.UserCacheDir()
	c.Assert(err, check.IsNil)
	f.python = filepath.Join(cache, "arvados-builtin", "python", "bin")
	if _, err := os.Stat(filepath.Join(f.python, "arvados-cwl-runner")); err != nil {
		c.Fatalf("arvados-cwl-runner is missing: run build/need-test-tools (%v)", err)
	}
	f.registry, err = registrytest.StartReal(c.MkDir(), "")
	c.Assert(err, check.IsNil)
	listener, err := net.Listen("tcp", registryHost+":80")
	c.Assert(err, check.IsNil, check.Commentf("run this as root: the registry must be at a port that names leave out"))
	f.front = &http.Server{Handler: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: f.registry.Host})
		r.Out.Host = r.In.Host // so that what it says of itself leads here
	}}}
	go func() { _ = f.front.Serve(listener) }()
}

func (f *cwlFixture) TearDownSuite(c *check.C) {
	if f.front != nil { // all of it was set up
		f.front.Close()
		f.registry.Stop()
	}
}

func (f *cwlFixture) SetUpTest(c *check.C) {
	f.dir = c.MkDir()
	f.before = f.engineImages(c)
	data := filepath.Join(f.dir, "data")
	local := filepath.Join(f.bin, "arvados-local")
	f.cluster = exec.Command(local, "serve", "-data", data)
	f.cluster.Stderr = os.Stderr
	ready, err := f.cluster.StdoutPipe()
	c.Assert(err, check.IsNil)
	c.Assert(f.cluster.Start(), check.IsNil)
	_, err = bufio.NewReader(ready).ReadString('\n')
	c.Assert(err, check.IsNil)
	site := filepath.Join(data, "builtin.yml")
	text, err := os.ReadFile(site)
	c.Assert(err, check.IsNil)
	text = bytes.Replace(text, []byte(`"127.0.0.1:*"`), []byte(`"127.0.0.1:*", "`+registryHost+`"`), 1)
	c.Assert(os.WriteFile(site, text, 0600), check.IsNil)

	env, err := exec.Command(local, "env", "-data", data).Output()
	c.Assert(err, check.IsNil)
	f.settings = nil
	f.user = &arvados.Client{Insecure: true}
	for line := range strings.Lines(string(env)) {
		setting := strings.TrimPrefix(strings.TrimSpace(line), "export ")
		f.settings = append(f.settings, setting)
		switch key, value, _ := strings.Cut(setting, "="); key {
		case "ARVADOS_API_HOST":
			f.user.APIHost = value
		case "ARVADOS_API_TOKEN":
			f.user.AuthToken = value
		}
	}
	f.path = filepath.Join(f.dir, "path")
	c.Assert(os.Mkdir(f.path, 0777), check.IsNil)
	script := "#!/bin/sh\necho \"$*\" >>" + f.dir + "/calls\nexec " + filepath.Join(f.bin, Name) + " \"$@\"\n"
	c.Assert(os.WriteFile(filepath.Join(f.path, Name), []byte(script), 0777), check.IsNil)
}

func (f *cwlFixture) TearDownTest(c *check.C) {
	f.removeImages(c)
	c.Check(f.cluster.Process.Signal(syscall.SIGTERM), check.IsNil)
	c.Check(f.cluster.Wait(), check.IsNil)
}

// engine is a call of the Docker Engine, which runs the containers.
func (f *cwlFixture) engine(c *check.C, method, path string) *http.Response {
	socket := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", "/var/run/docker.sock")
	}}}
	req, err := http.NewRequest(method, "http://engine"+path, nil)
	c.Assert(err, check.IsNil)
	resp, err := socket.Do(req)
	c.Assert(err, check.IsNil)
	return resp
}

// engineImages are the IDs of the engine's images.
func (f *cwlFixture) engineImages(c *check.C) (ids []string) {
	resp := f.engine(c, "GET", "/images/json?all=1")
	defer resp.Body.Close()
	var list []struct {
		ID string `json:"Id"`
	}
	c.Assert(json.NewDecoder(resp.Body).Decode(&list), check.IsNil)
	for _, image := range list {
		ids = append(ids, image.ID)
	}
	return ids
}

// removeImages takes from the engine what the containers of a test have brought.
func (f *cwlFixture) removeImages(c *check.C) {
	images, err := (&arvdocker.Program{API: f.user, Stderr: io.Discard}).Images(context.Background(), "")
	c.Check(err, check.IsNil)
	there := f.engineImages(c)
	for _, image := range images {
		if slices.Contains(there, image.ID) && !slices.Contains(f.before, image.ID) {
			f.engine(c, "DELETE", "/images/"+image.ID+"?force=1").Body.Close()
		}
	}
}

// command is a program that finds no docker but the stand-in, and no engine.
func (f *cwlFixture) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = f.dir
	cmd.Env = append(f.settings, "HOME="+f.dir, "PATH="+f.path, "DOCKER_HOST=tcp://127.0.0.1:1")
	return cmd
}

// runner runs a CWL document by arvados-cwl-runner, and returns what it prints.
func (f *cwlFixture) runner(c *check.C, document attrs, args ...string) string {
	text, err := json.Marshal(document)
	c.Assert(err, check.IsNil)
	file := filepath.Join(f.dir, "tool.cwl")
	c.Assert(os.WriteFile(file, text, 0666), check.IsNil)
	cmd := f.command(filepath.Join(f.python, "arvados-cwl-runner"), append(args, "--disable-color", file)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	c.Assert(err, check.IsNil, check.Commentf("%s", &stderr))
	return string(out)
}

// content is what is in the file "out" of an output object.
func (f *cwlFixture) content(c *check.C, object string) string {
	var output struct{ Out struct{ Location string } }
	c.Assert(json.Unmarshal([]byte(object), &output), check.IsNil, check.Commentf("%s", object))
	pdh, path, _ := strings.Cut(strings.TrimPrefix(output.Out.Location, "keep:"), "/")
	return f.file(c, pdh, path)
}

// file is a file in a collection.
func (f *cwlFixture) file(c *check.C, collection, path string) string {
	var coll arvados.Collection
	c.Assert(f.user.RequestAndDecode(&coll, "GET", "arvados/v1/collections/"+collection, nil, nil), check.IsNil)
	files, err := keepfile.ParseManifest(coll.ManifestText)
	c.Assert(err, check.IsNil)
	i := slices.IndexFunc(files, func(file keepfile.File) bool { return file.Path == path })
	c.Assert(i >= 0, check.Equals, true, check.Commentf("no %s in %s", path, coll.ManifestText))
	arv, err := arvadosclient.New(f.user)
	c.Assert(err, check.IsNil)
	kc, err := keepclient.MakeKeepClient(arv)
	c.Assert(err, check.IsNil)
	r := keepfile.NewReader(context.Background(), kc, files[i])
	defer r.Close()
	text, err := io.ReadAll(r)
	c.Assert(err, check.IsNil)
	return string(text)
}

// varying is what differs from run to run.
var varying = []struct {
	pattern *regexp.Regexp
	stand   string
}{
	{regexp.MustCompile(`@sha256:[0-9a-f]{64}`), "@DIGEST"},
	{regexp.MustCompile(`sha256:[0-9a-f]{64}`), "ID"},
	{regexp.MustCompile(` /\S*$`), " FOLDER"},
}

// calls are the calls of docker since the last time.
func (f *cwlFixture) calls(c *check.C) (calls []string) {
	text, err := os.ReadFile(filepath.Join(f.dir, "calls"))
	if os.IsNotExist(err) {
		return nil
	}
	c.Assert(err, check.IsNil)
	c.Assert(os.Remove(filepath.Join(f.dir, "calls")), check.IsNil)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		for _, v := range varying {
			line = v.pattern.ReplaceAllString(line, v.stand)
		}
		calls = append(calls, line)
	}
	return calls
}

// commands are those of all container requests that a container has made, or
// that no container has made, the oldest first.
func (f *cwlFixture) commands(c *check.C, requesting string) (commands []string) {
	var list arvados.ContainerRequestList
	c.Assert(f.user.RequestAndDecode(&list, "GET", "arvados/v1/container_requests", nil, attrs{"order": "created_at"}), check.IsNil)
	for _, cr := range list.Items {
		if cr.RequestingContainerUUID == requesting {
			commands = append(commands, varying[0].pattern.ReplaceAllString(strings.Join(cr.Command, " "), varying[0].stand))
		}
	}
	return commands
}

// push puts an image of busybox into the registry, with a name of its own so that
// nothing else has it, and returns its name.
func (f *cwlFixture) push(c *check.C, repoTag string) string {
	busybox, err := os.ReadFile("/bin/busybox")
	c.Assert(err, check.IsNil, check.Commentf("install the Debian package busybox-static"))
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	add := func(header tar.Header, content string) {
		header.Size = int64(len(content))
		c.Assert(w.WriteHeader(&header), check.IsNil)
		_, err := io.WriteString(w, content)
		c.Assert(err, check.IsNil)
	}
	add(tar.Header{Name: "bin/busybox", Mode: 0755}, string(busybox))
	for _, applet := range []string{"sh", "cat", "echo", "sleep"} {
		add(tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, "")
	}
	add(tar.Header{Name: "text", Mode: 0644}, pulledText+"\n")
	add(tar.Header{Name: "name", Mode: 0644}, repoTag)
	c.Assert(w.Close(), check.IsNil)
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil })
	c.Assert(err, check.IsNil)
	image, err := mutate.AppendLayers(empty.Image, layer)
	c.Assert(err, check.IsNil)
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{OS: "linux", Architecture: "amd64",
		RootFS: v1.RootFS{Type: "layers", DiffIDs: diffIDs(c, image)}, Config: v1.Config{Env: []string{"PATH=/bin"}}})
	c.Assert(err, check.IsNil)
	full := registryHost + "/" + repoTag
	ref, err := name.ParseReference(full, name.Insecure)
	c.Assert(err, check.IsNil)
	c.Assert(remote.Write(ref, image), check.IsNil)
	return full
}

func diffIDs(c *check.C, image v1.Image) []v1.Hash {
	config, err := image.ConfigFile()
	c.Assert(err, check.IsNil)
	return config.RootFS.DiffIDs
}
