// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&rerunSuite{})

// rerunSuite does with requests of arv-docker what Workbench does when somebody
// chooses "Copy and re-run process", call by call. No arv-docker is around to
// write links, so crunch-run does.
type rerunSuite struct{ fixture }

func (s *rerunSuite) SetUpTest(c *check.C) {
	s.site = "links: always\npull: {registries: ['127.0.0.1:*']}\n"
	s.fixture.SetUpTest(c)
}

// copied are the fields that Workbench copies as they are.
var copied = []string{
	"command", "container_count_max", "container_image", "cwd", "description", "environment", "mounts", "output_name",
	"output_path", "output_properties", "output_storage_classes", "output_ttl", "properties", "runtime_constraints",
	"scheduling_parameters", "use_existing",
}

// call is a call of Workbench that has to succeed.
func (s *rerunSuite) call(c *check.C, method, path string, params attrs) (reply attrs) {
	c.Assert(s.user.RequestAndDecode(&reply, method, "arvados/v1/"+path, nil, params), check.IsNil, check.Commentf("%s %s", method, path))
	return reply
}

// again copies a request, presses Run, and looks at the page until it is final.
func (s *rerunSuite) again(c *check.C, uuid string) (cr arvados.ContainerRequest, ctr arvados.Container) {
	old := s.call(c, "GET", "container_requests/"+uuid, nil)
	draft := attrs{"name": fmt.Sprint("Copy of: ", old["name"]), "owner_uuid": old["owner_uuid"], "priority": 500, "state": "Uncommitted"}
	for _, field := range copied {
		draft[field] = old[field]
	}
	uuid = s.call(c, "POST", "container_requests", attrs{"container_request": draft})["uuid"].(string)
	s.call(c, "PUT", "container_requests/"+uuid, attrs{"container_request": attrs{"state": "Committed"}})
	for deadline := time.Now().Add(time.Minute); cr.State != arvados.ContainerRequestStateFinal; time.Sleep(50 * time.Millisecond) {
		c.Assert(time.Now().Before(deadline), check.Equals, true)
		c.Assert(s.user.RequestAndDecode(&cr, "GET", "arvados/v1/container_requests/"+uuid, nil, nil), check.IsNil)
	}
	// The page, with the way that it takes where groups/contents fails.
	c.Assert(s.user.RequestAndDecode(&ctr, "GET", "arvados/v1/containers/"+cr.ContainerUUID, nil, nil), check.IsNil)
	s.call(c, "GET", "users/"+cr.ModifiedByUserUUID, nil)
	for _, collection := range []string{cr.OutputUUID, cr.LogUUID} {
		if collection != "" {
			s.call(c, "GET", "collections/"+collection, nil)
		}
	}
	return cr, ctr
}

// output is the image that a re-run has made, and that it has links.
func (s *rerunSuite) output(c *check.C, cr arvados.ContainerRequest) arvados.Collection {
	c.Assert(cr.OutputUUID, check.Not(check.Equals), "")
	coll := s.collection(c, cr.OutputUUID)
	var want []string
	for _, link := range dockerimage.ParseProperties(coll.Properties).Links() {
		want = append(want, link.LinkClass+" "+link.Name)
	}
	c.Check(want, check.Not(check.HasLen), 0)
	// They come after the final update, and so after what users see.
	var got []string
	for deadline := time.Now().Add(10 * time.Second); len(got) < len(want) && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		got = s.links(c, coll.UUID)
	}
	c.Check(got, hasAll, want)
	return coll
}

func (s *rerunSuite) meant(c *check.C, name string) string {
	found, err := dockerimage.Resolve(s.ctx, s.user, name, dockerimage.Policy{Links: true})
	c.Assert(err, check.IsNil)
	return found.PDH
}

func (s *rerunSuite) login(c *check.C) (file string) {
	file = filepath.Join(c.MkDir(), "config.json")
	login := base64.StdEncoding.EncodeToString([]byte("me:" + secretWord))
	c.Assert(os.WriteFile(file, []byte(`{"auths":{"`+s.registry.Host()+`":{"auth":"`+login+`"}}}`), 0600), check.IsNil)
	return file
}

// A request with a tag, which arv-docker makes where it cannot see the registry,
// brings what the tag means now.
func (s *rerunSuite) TestTagMoves(c *check.C) {
	name := s.registry.Host() + "/lab/tool:1"
	s.registry.Push("lab/tool:1", randomimage.New(1, 4096))
	s.registry.RequireBasic("me", secretWord)
	var request attrs
	c.Assert(json.Unmarshal([]byte(s.run(c, "pull", "--dry-run", name).out), &request), check.IsNil)
	c.Check(request["use_existing"], check.Equals, false)
	s.registry.RequireBearer("", "") // anybody
	first := s.call(c, "POST", "container_requests", attrs{"container_request": request})["uuid"].(string)

	same, _ := s.again(c, first)
	image := s.output(c, same)
	c.Check(s.meant(c, name), check.Equals, image.PortableDataHash)
	s.registry.Push("lab/tool:1", randomimage.New(2, 4096))
	moved, _ := s.again(c, first)
	second := s.output(c, moved)
	c.Check(second.PortableDataHash, check.Not(check.Equals), image.PortableDataHash)
	c.Check(second.Properties[keyRepoTag], check.Equals, name)
	c.Check(second.Name, check.Matches, regexp.QuoteMeta(request["output_name"].(string))+` \(\w{15}\)`) // one of a kind
}

// A request with a digest brings the same image for ever, and says so.
func (s *rerunSuite) TestDigestStays(c *check.C) {
	name := s.registry.Host() + "/lab/tool:1"
	s.registry.Push("lab/tool:1", randomimage.New(1, 4096))
	r := s.result(c, "pull", name)
	s.registry.Push("lab/tool:1", randomimage.New(2, 4096))
	cr, _ := s.again(c, r.Request)
	c.Check(s.output(c, cr).PortableDataHash, check.Equals, r.PortableDataHash)
	c.Check(cr.Description, check.Matches, `The command has a digest, so .* brings the same image again, even if `+name+` means another .* run: arv-docker pull `+name)
	c.Check(s.meant(c, name), check.Equals, r.PortableDataHash)
}

// Secrets are lost, and the container says what to do.
func (s *rerunSuite) TestCredentialsAreLost(c *check.C) {
	name := s.registry.Host() + "/lab/tool:1"
	digest := s.registry.Push("lab/tool:1", randomimage.New(1, 4096))
	s.registry.RequireBasic("me", secretWord)
	r := s.result(c, "pull", "--credentials", s.login(c), name)
	pinned := name + "@" + digest
	// Its container is not taken, since that had secrets.
	cr, ctr := s.again(c, r.Request)
	c.Check(ctr.State, check.Equals, arvados.ContainerStateComplete)
	c.Check(ctr.ExitCode, check.Equals, 2)
	c.Check(cr.OutputUUID, check.Equals, "")
	want := `request: check secret_mounts: .*wants credentials for lab/tool, and there are none .*if it is a copy, .* has lost them, and arv-docker pull --credentials FILE ` +
		pinned + ` sends it with credentials\)`
	c.Check(ctr.RuntimeStatus["error"], check.Matches, want)
	c.Check(s.files(c, cr.LogUUID)["stderr.txt"], check.Matches, `\S+ `+want+`\n`)
	c.Check(cr.Description, check.Matches, `(?s).*came with registry credentials, which a copy does not have.*arv-docker pull --credentials FILE `+name)
	c.Check(s.run(c, "pull", "--credentials", s.login(c), "--platform", "linux/amd64", name).code, check.Equals, 0)
}

// A build is done again if what it builds upon has moved, and else not.
func (s *rerunSuite) TestBuild(c *check.C) {
	s.registry.Push("lab/base:1", randomimage.New(1, 4096))
	dir := filepath.Join(c.MkDir(), "tool")
	c.Assert(os.Mkdir(dir, 0777), check.IsNil)
	c.Assert(os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM "+s.registry.Host()+"/lab/base:1\nCOPY a /\n"), 0666), check.IsNil)
	c.Assert(os.WriteFile(filepath.Join(dir, "a"), []byte("a"), 0666), check.IsNil)
	r := s.result(c, "build", "-t", "rerun/tool:1", dir)
	c.Assert(os.RemoveAll(dir), check.IsNil) // all of it is in Keep

	same, ctr := s.again(c, r.Request)
	c.Check(ctr.UUID, check.Not(check.Equals), r.Container)
	c.Check(s.output(c, same).PortableDataHash, check.Equals, r.PortableDataHash)
	c.Check(s.files(c, same.LogUUID)["stdout.txt"], check.Matches, `(?s).*the same recipe was built before.*`)

	s.registry.Push("lab/base:1", randomimage.New(2, 4096))
	moved, _ := s.again(c, r.Request)
	second := s.output(c, moved)
	c.Check(second.PortableDataHash, check.Not(check.Equals), r.PortableDataHash)
	c.Check(second.Properties[keyRepoTag], check.Equals, "rerun/tool:1")
	c.Check(s.run(c, "verify", second.PortableDataHash).code, check.Equals, 0)
}

// Secrets of a build are lost, too.
func (s *rerunSuite) TestBuildSecretsAreLost(c *check.C) {
	dir := c.MkDir()
	c.Assert(os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY Dockerfile /\n"), 0666), check.IsNil)
	key := filepath.Join(c.MkDir(), "key")
	c.Assert(os.WriteFile(key, []byte(secretWord), 0600), check.IsNil)
	r := s.result(c, "build", "-t", "rerun/secret:1", "--secret", "id=key,src="+key, dir)
	cr, ctr := s.again(c, r.Request)
	c.Check(ctr.ExitCode, check.Equals, 2)
	c.Check(ctr.RuntimeStatus["error"], check.Matches, `request: check --secret: id "key": there is no secret mount at "/secrets/key" `+
		`\(.*if the request is a copy, .*has lost its secrets: arv-docker build --secret id=key,src=FILE sends it with them\)`)
	c.Check(cr.Description, check.Equals, "This request came with secrets, which a copy does not have. Instead of copying it, run arv-docker build again.")
}

// Contexts that are not local: a collection, and a branch that has moved.
func (s *rerunSuite) TestOtherContexts(c *check.C) {
	dir := c.MkDir()
	write := func(text string) {
		c.Assert(os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY Dockerfile /\nLABEL text="+text+"\n"), 0666), check.IsNil)
	}
	write("one")
	local := s.result(c, "build", "-t", "rerun/keep:1", dir)
	var cr arvados.ContainerRequest
	c.Assert(s.user.RequestAndDecode(&cr, "GET", "arvados/v1/container_requests/"+local.Request, nil, nil), check.IsNil)
	kept := s.result(c, "build", "-t", "rerun/keep:2", "keep:"+cr.Mounts[contextMount].PortableDataHash)
	c.Check(kept.PortableDataHash, check.Equals, local.PortableDataHash)
	again, _ := s.again(c, kept.Request)
	c.Check(s.output(c, again).PortableDataHash, check.Equals, kept.PortableDataHash)

	git := func(words ...string) {
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=x", "-c", "user.email=x@example.com"}, words...)...)
		out, err := cmd.CombinedOutput()
		c.Assert(err, check.IsNil, check.Commentf("%s", out))
	}
	git("init", "-q", "-b", "main")
	git("add", ".")
	git("commit", "-q", "-m", "one")
	server := s.serveGit(c, filepath.Dir(dir))
	defer server.Close()
	url := server.URL + "/" + filepath.Base(dir) + "/.git#main"
	one := s.result(c, "build", "-t", "rerun/git:1", url)
	write("two")
	git("commit", "-q", "-a", "-m", "two")
	moved, _ := s.again(c, one.Request)
	c.Check(s.output(c, moved).PortableDataHash, check.Not(check.Equals), one.PortableDataHash)
}

// serveGit serves the repositories in a folder, by a server that crunch-run
// trusts.
func (s *rerunSuite) serveGit(c *check.C, dir string) *httptest.Server {
	where, err := exec.Command("git", "--exec-path").Output()
	c.Assert(err, check.IsNil)
	server := httptest.NewTLSServer(http.Handler(&cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(where)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + dir, "GIT_CONFIG_NOSYSTEM=1"},
	}))
	file := filepath.Join(c.MkDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	c.Assert(os.WriteFile(file, text, 0600), check.IsNil)
	c.Assert(os.Setenv("SSL_CERT_FILE", file), check.IsNil)
	return server
}

func (*rerunSuite) TestDescriptions(c *check.C) {
	for _, trial := range []struct {
		name        string
		credentials bool
		want        string
	}{
		{"a:1", false, ""},
		{"a@sha256:" + strings.Repeat("0", 64), false, ""},
		{"a:1", true, `This request .* run: arv-docker pull --credentials FILE a:1`},
		{"a:1@sha256:" + strings.Repeat("0", 64), true, `(?s)The command has a digest.*\nThis request.* FILE a:1`},
	} {
		ref, err := imageref.Parse(trial.name)
		c.Assert(err, check.IsNil)
		c.Check(describePull(ref, trial.credentials), check.Matches, trial.want)
	}
	c.Check(describeBuild(false), check.Equals, "")
}
