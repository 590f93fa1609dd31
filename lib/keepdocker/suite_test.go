// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepdocker

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
	"git.arvados.org/arvados.git/services/localcluster"
	"github.com/sirupsen/logrus"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var update = flag.Bool("update", false, "write the golden files anew")

// engines that the tests use: one of each image store.
const (
	firstEngine  = "unix:///var/run/docker.sock"
	secondEngine = "unix:///run/arvados-engine2/docker.sock"
	noEngine     = "unix:///nonexistent/docker.sock"
)

// repository is that of all images of these tests.
const repository = "arv-keepdocker-test/"

// cluster is an embedded cluster with a project, and what was done to it.
type cluster struct {
	*localcluster.Cluster
	user    *arvados.Client
	project string
	locks   string

	// noPrograms: the Python tool finds no programs.
	noPrograms bool

	mtx      sync.Mutex
	requests []string
	// change, if not nil, answers requests to the API server in its place; it
	// returns false for those that it leaves alone.
	change func(w http.ResponseWriter, r *http.Request) bool
}

func startCluster(c *check.C) *cluster {
	arvadosclient.RetryDelay = 10 * time.Millisecond
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	cl := &cluster{locks: c.MkDir()}
	var err error
	cl.Cluster, err = localcluster.Start(context.Background(), localcluster.Options{
		Dir: filepath.Join(c.MkDir(), "data"), Log: quiet, Wrap: cl.wrap,
	})
	c.Assert(err, check.IsNil)
	cl.user = cl.UserClient(localcluster.User)
	cl.project = cl.newProject(c, "images")
	return cl
}

func (cl *cluster) wrap(server string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cl.mtx.Lock()
		cl.requests = append(cl.requests, server+" "+r.Method+" "+r.URL.Path)
		change := cl.change
		cl.mtx.Unlock()
		if server != "api" || change == nil || !change(w, r) {
			h.ServeHTTP(w, r)
		}
	})
}

// written are the requests since the last call that change something.
func (cl *cluster) written() (found []string) {
	cl.mtx.Lock()
	defer cl.mtx.Unlock()
	for _, r := range cl.requests {
		if !strings.Contains(r, " GET ") {
			found = append(found, r)
		}
	}
	cl.requests = nil
	return found
}

func (cl *cluster) newProject(c *check.C, name string) string {
	var group arvados.Group
	c.Assert(cl.user.RequestAndDecode(&group, "POST", "arvados/v1/groups", nil, attrs{
		"group": attrs{"name": name, "group_class": "project"},
	}), check.IsNil)
	return group.UUID
}

func (cl *cluster) collection(c *check.C, uuid string) (coll arvados.Collection) {
	c.Assert(cl.user.RequestAndDecode(&coll, "GET", "arvados/v1/collections/"+uuid, nil, nil), check.IsNil)
	return coll
}

func (cl *cluster) linksTo(c *check.C, uuid string) (names []string) {
	var list arvados.LinkList
	c.Assert(cl.user.RequestAndDecode(&list, "GET", "arvados/v1/links", nil, attrs{
		"filters": [][]string{{"head_uuid", "=", uuid}}, "order": "link_class,name",
	}), check.IsNil)
	for _, link := range list.Items {
		names = append(names, link.LinkClass+" "+link.Name)
	}
	return names
}

// files are the names of the files in a collection.
func files(c *check.C, coll arvados.Collection) (names []string) {
	list, err := keepfile.ParseManifest(coll.ManifestText)
	c.Assert(err, check.IsNil)
	for _, file := range list {
		names = append(names, file.Path)
	}
	return names
}

// answer is what came of a call.
type answer struct {
	code     int
	out, err string
}

// call is how arv-keepdocker is called.
type call struct {
	api    *arvados.Client // the user's if nil
	engine string          // the first one if ""
	stdin  io.Reader
	config string // of registries
}

func (cl *cluster) callWith(c *check.C, with call, args ...string) answer {
	var out, stderr bytes.Buffer
	if with.engine == "" {
		with.engine = firstEngine
	}
	if with.api == nil {
		with.api = cl.UserClient(localcluster.User)
	}
	p := &Program{API: with.api, Stdin: with.stdin, Stdout: &out, Stderr: &stderr, EngineHost: with.engine,
		RegistryConfig: []byte(with.config), LockDir: cl.locks}
	a := answer{code: p.Run(context.Background(), args)}
	a.out, a.err = out.String(), stderr.String()
	for _, secret := range []string{cl.SystemRootToken, cl.Tokens[localcluster.User], cl.Tokens[localcluster.Admin]} {
		c.Check(strings.Contains(a.out+a.err, secret), check.Equals, false, check.Commentf("token shown by %q", args))
	}
	return a
}

var uuidLine = regexp.MustCompile(`^x[0-9a-z]{4}-4zz18-[0-9a-z]{15}\n$`)

// store is a call that has to succeed and print a UUID, which it returns.
func (cl *cluster) store(c *check.C, with call, args ...string) string {
	a := cl.callWith(c, with, args...)
	c.Assert(a.code, check.Equals, 0, check.Commentf("%q: %s", args, a.err))
	c.Assert(uuidLine.MatchString(a.out), check.Equals, true, check.Commentf("%q", a.out))
	return strings.TrimSpace(a.out)
}

// pythonTool is the tool that Arvados has.
func pythonTool(c *check.C) string {
	cache, err := os.UserCacheDir()
	c.Assert(err, check.IsNil)
	tool := filepath.Join(cache, "arvados-builtin", "python", "bin", "arv-keepdocker")
	_, err = os.Stat(tool)
	c.Assert(err, check.IsNil, check.Commentf("the Python tool is missing: build/need-test-tools installs it"))
	return tool
}

// python calls the Python tool, with a home of its own, on the user's behalf.
func (cl *cluster) python(c *check.C, engine string, args ...string) answer {
	var out, stderr bytes.Buffer
	cmd := exec.Command(pythonTool(c), args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + cl.locks, "DOCKER_HOST=" + engine, "TZ=UTC",
		"ARVADOS_API_HOST=" + cl.APIAddress, "ARVADOS_API_TOKEN=" + cl.Tokens[localcluster.User], "ARVADOS_API_HOST_INSECURE=1"}
	if cl.noPrograms {
		cmd.Env[0] = "PATH=/nonexistent"
	}
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	if _, failed := err.(*exec.ExitError); !failed {
		c.Assert(err, check.IsNil)
	}
	return answer{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// docker runs the docker program.
func docker(c *check.C, engine string, stdin io.Reader, args ...string) string {
	cmd := exec.Command("docker", append([]string{"-H", engine}, args...)...)
	cmd.Stdin = stdin
	out, err := cmd.Output()
	c.Assert(err, check.IsNil, check.Commentf("docker %q", args))
	return strings.TrimSpace(string(out))
}

// makeImage makes a small image on the engine, different from all others, with the
// given name below repository. It returns name and id.
func makeImage(c *check.C, engine, name string) (full, id string) {
	var layer bytes.Buffer
	tw := tar.NewWriter(&layer)
	text := fmt.Sprint(name, os.Getpid(), time.Now().UnixNano())
	c.Assert(tw.WriteHeader(&tar.Header{Name: "made", Mode: 0644, Size: int64(len(text))}), check.IsNil)
	_, err := tw.Write([]byte(text))
	c.Assert(err, check.IsNil)
	c.Assert(tw.Close(), check.IsNil)
	full = repository + name
	docker(c, engine, &layer, "import", "-", full)
	return full, docker(c, engine, nil, "inspect", "--format", "{{.Id}}", full)
}

// removeImages removes what these tests have made on an engine.
func removeImages(c *check.C, engine string) {
	for _, name := range strings.Fields(docker(c, engine, nil, "images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference="+repository+"*")) {
		_ = exec.Command("docker", "-H", engine, "rmi", name).Run()
	}
}

// state is everything that images have left in a cluster, with names in place of
// what differs from run to run.
func (cl *cluster) state(c *check.C, says answer, anonymous *strings.Replacer) string {
	var colls arvados.CollectionList
	var links arvados.LinkList
	query := attrs{"order": "created_at,uuid", "select": []string{"uuid", "created_at", "owner_uuid", "name", "manifest_text", "properties"}}
	c.Assert(cl.user.RequestAndDecode(&colls, "GET", "arvados/v1/collections", nil, query), check.IsNil)
	c.Assert(cl.user.RequestAndDecode(&links, "GET", "arvados/v1/links", nil, attrs{"order": "link_class,name,owner_uuid"}), check.IsNil)
	// The cluster makes this one by itself, once somebody asks for collections.
	colls.Items = slices.DeleteFunc(colls.Items, func(coll arvados.Collection) bool { return coll.ManifestText == "" })
	owner := func(uuid string) string {
		if uuid == cl.project {
			return "project"
		}
		return "home"
	}
	numbers := map[string]string{}
	var text strings.Builder
	for i, coll := range colls.Items {
		numbers[coll.UUID] = fmt.Sprint("collection ", i+1)
	}
	out := strings.TrimSuffix(says.out, "\n")
	if number := numbers[out]; number != "" {
		out = "UUID of " + number
	}
	fmt.Fprintf(&text, "exit code %d, standard output: %s\n", says.code, out)
	for _, coll := range colls.Items {
		shown := map[string]interface{}{}
		for _, key := range []string{"docker-image-repo-tag", "mine"} {
			if value, ok := coll.Properties[key]; ok {
				shown[key] = value
			}
		}
		properties, err := json.Marshal(shown)
		c.Assert(err, check.IsNil)
		fmt.Fprintf(&text, "%s of %s: %q %q %s\n", numbers[coll.UUID], owner(coll.OwnerUUID), coll.Name, files(c, coll), properties)
	}
	var lines []string
	for _, link := range links.Items {
		if strings.HasPrefix(link.LinkClass, "docker_image_") {
			lines = append(lines, fmt.Sprintf("link of %s to %s: %s %s %v", owner(link.OwnerUUID), numbers[link.HeadUUID], link.LinkClass, link.Name,
				slices.Sorted(maps.Keys(link.Properties))))
		}
	}
	slices.Sort(lines)
	text.WriteString(strings.Join(lines, "\n") + "\n")
	return uniqueSuffix.ReplaceAllString(anonymous.Replace(text.String()), " (unique)")
}

// uniqueSuffix is what makes a name unique.
var uniqueSuffix = regexp.MustCompile(` \([0-9a-z]{15}\)`)

// golden compares a text with the file of that name.
func golden(c *check.C, name, text string) {
	path := filepath.Join("testdata", name+".golden")
	if *update {
		c.Assert(os.MkdirAll("testdata", 0777), check.IsNil)
		c.Assert(os.WriteFile(path, []byte(text), 0666), check.IsNil)
		return
	}
	want, err := os.ReadFile(path)
	c.Assert(err, check.IsNil)
	c.Check(text, check.Equals, string(want), check.Commentf("%s differs", path))
}
