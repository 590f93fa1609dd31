// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
	"git.arvados.org/arvados.git/sdk/go/keepclient"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var _ = check.Suite(&suite{})

// suite runs the program itself, as users do.
type suite struct {
	program string
	dir     string
	cmd     *exec.Cmd
}

func (s *suite) SetUpSuite(c *check.C) {
	bin := c.MkDir()
	build := exec.Command("go", "build", "-o", bin+"/", ".", "../crunch-run")
	out, err := build.CombinedOutput()
	c.Assert(err, check.IsNil, check.Commentf("%s", out))
	s.program = filepath.Join(bin, "arvados-local")
}

func (s *suite) SetUpTest(c *check.C) {
	s.dir = c.MkDir()
	s.start(c)
}

func (s *suite) TearDownTest(c *check.C) {
	c.Assert(s.cmd.Process.Signal(syscall.SIGTERM), check.IsNil)
	c.Check(s.cmd.Wait(), check.IsNil)
}

func (s *suite) TestWhatThisIs(c *check.C) {
	for args, want := range map[string]string{
		"-h":          "usage: arvados-local serve .*",
		"--help":      "usage: arvados-local serve .*",
		"serve -help": "usage: arvados-local serve .*",
		"--version":   `arvados-local \S+\n`,
	} {
		out, err := exec.Command(s.program, strings.Fields(args)...).Output()
		c.Check(err, check.IsNil, check.Commentf(args))
		c.Check(string(out), check.Matches, "(?s)"+want)
	}
	for _, args := range []string{"", "stop", "serve now", "env -version"} {
		out, err := exec.Command(s.program, strings.Fields(args)...).Output()
		c.Check(err, check.ErrorMatches, "exit status 2", check.Commentf(args))
		c.Check(string(out), check.Equals, "")
	}
}

func (s *suite) start(c *check.C) {
	s.cmd = exec.Command(s.program, "serve", "-data", s.dir)
	s.cmd.Stderr = os.Stderr
	stdout, err := s.cmd.StdoutPipe()
	c.Assert(err, check.IsNil)
	c.Assert(s.cmd.Start(), check.IsNil)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	c.Assert(err, check.IsNil)
	c.Check(line, check.Matches, `cluster x[0-9a-z]{4} answers at https://127\.0\.0\.1:\d+, data in `+s.dir+"\n")
}

// env is what `arvados-local env` prints for a user, without "export".
func (s *suite) env(c *check.C, user string) []string {
	out, err := exec.Command(s.program, "env", "-data", s.dir, "-user", user).Output()
	c.Assert(err, check.IsNil)
	var env []string
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		name, ok := strings.CutPrefix(line, "export ")
		c.Assert(ok, check.Equals, true)
		env = append(env, name)
	}
	return env
}

func (s *suite) client(c *check.C, user string) (*arvados.Client, *keepclient.KeepClient) {
	client := &arvados.Client{Insecure: true}
	for _, line := range s.env(c, user) {
		switch name, value, _ := strings.Cut(line, "="); name {
		case "ARVADOS_API_HOST":
			client.APIHost = value
		case "ARVADOS_API_TOKEN":
			client.AuthToken = value
		}
	}
	arv, err := arvadosclient.New(client)
	c.Assert(err, check.IsNil)
	kc, err := keepclient.MakeKeepClient(arv)
	c.Assert(err, check.IsNil)
	return client, kc
}

// store makes a collection of one file.
func store(c *check.C, client *arvados.Client, kc *keepclient.KeepClient, content string) (coll arvados.Collection) {
	pack := keepfile.NewPacker(context.Background(), keepfile.NewWriter(kc, 1, arvados.BlockWriteOptions{}))
	c.Assert(pack.Add("file", strings.NewReader(content)), check.IsNil)
	files, err := pack.Close()
	c.Assert(err, check.IsNil)
	c.Assert(client.RequestAndDecode(&coll, "POST", "arvados/v1/collections", nil, map[string]interface{}{
		"collection": map[string]interface{}{"manifest_text": keepfile.FormatManifest(files), "properties": map[string]interface{}{"n": content}},
	}), check.IsNil)
	return coll
}

func (s *suite) TestKilledAndStartedAgain(c *check.C) {
	client, kc := s.client(c, "user")
	var made []arvados.Collection
	for i := range 20 {
		made = append(made, store(c, client, kc, fmt.Sprint("content ", i)))
	}
	// One more is under way when the cluster dies.
	go client.RequestAndDecode(nil, "POST", "arvados/v1/collections", nil, nil)
	c.Assert(s.cmd.Process.Kill(), check.IsNil)
	s.cmd.Wait()
	s.start(c)
	client, kc = s.client(c, "user")
	for i, coll := range made {
		var again arvados.Collection
		c.Assert(client.RequestAndDecode(&again, "GET", "arvados/v1/collections/"+coll.UUID, nil, nil), check.IsNil)
		c.Check(again.PortableDataHash, check.Equals, coll.PortableDataHash)
		c.Check(again.Properties, check.DeepEquals, coll.Properties)
		files, err := keepfile.ParseManifest(again.ManifestText)
		c.Assert(err, check.IsNil)
		r := keepfile.NewReader(context.Background(), kc, files[0])
		text, err := io.ReadAll(r)
		c.Check(err, check.IsNil)
		r.Close()
		c.Check(string(text), check.Equals, fmt.Sprint("content ", i))
	}
}

// pythonSDK is where build/need-test-tools installs the genuine Python SDK.
func pythonSDK(c *check.C, program string) string {
	cache, err := os.UserCacheDir()
	c.Assert(err, check.IsNil)
	path := filepath.Join(cache, "arvados-builtin", "python", "bin", program)
	if _, err := os.Stat(path); err != nil {
		c.Fatalf("the Python SDK of Arvados is missing: run build/need-test-tools (%v)", err)
	}
	return path
}

func (s *suite) python(c *check.C, program string, args ...string) []byte {
	cmd := exec.Command(pythonSDK(c, program), args...)
	cmd.Env = append(os.Environ(), s.env(c, "user")...)
	cmd.Env = append(cmd.Env, "HOME="+c.MkDir())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	c.Assert(err, check.IsNil, check.Commentf("%s %q: %s", program, args, &stderr))
	return out
}

// The genuine arv-put and arv-get of the Python SDK store and read data.
func (s *suite) TestPythonSDK(c *check.C) {
	data := make([]byte, 70<<20) // two blocks
	rand.Read(data)
	file := filepath.Join(c.MkDir(), "data file")
	c.Assert(os.WriteFile(file, data, 0600), check.IsNil)
	uuid := strings.TrimSpace(string(s.python(c, "arv-put", "--no-progress", "--no-cache", "--name", "put by arv-put", file)))
	c.Check(uuid, check.Matches, `x\w{4}-4zz18-\w{15}`)
	got := s.python(c, "arv-get", uuid+"/data file")
	c.Check(bytes.Equal(got, data), check.Equals, true)

	// What our own writer stored, the SDK reads, and the other way round.
	client, kc := s.client(c, "user")
	ours := store(c, client, kc, "by our own writer")
	c.Check(string(s.python(c, "arv-get", ours.PortableDataHash+"/file")), check.Equals, "by our own writer")
	c.Check(string(s.python(c, "arv-ls", "-s", uuid)), check.Matches, `\s*71680 \./data file\n`)
	out := s.python(c, "python", "-c", `
import arvados
api = arvados.api('v1')
me = api.users().current().execute()
found = api.collections().list(filters=[['name', '=', 'put by arv-put']], select=['uuid', 'owner_uuid']).execute()
print(found['items_available'], found['items'][0]['owner_uuid'] == me['uuid'], me['is_admin'])
home = api.groups().contents(uuid=me['uuid'], filters=[['name', '=', 'put by arv-put']], include='owner_uuid').execute()
print(home['items'][0]['kind'], home['included'][0]['uuid'] == me['uuid'])
print(len(list(arvados.util.keyset_list_all(api.collections().list, filters=[['owner_uuid', '=', me['uuid']]]))))
`)
	c.Check(string(out), check.Equals, "1 True False\narvados#collection True\n2\n")
}

func (s *suite) TestUsage(c *check.C) {
	for _, args := range [][]string{{}, {"bogus"}, {"serve", "extra"}, {"env", "-bogus"}} {
		err := run(context.Background(), args, io.Discard)
		c.Check(err, check.Equals, errUsage, check.Commentf("%q", args))
	}
	c.Check(run(context.Background(), []string{"env", "-data", s.dir, "-user", "nobody"}, io.Discard), check.ErrorMatches, `no user "nobody", only admin and user`)
	c.Check(run(context.Background(), []string{"env", "-data", c.MkDir()}, io.Discard), check.ErrorMatches, `no cluster in .*start one by: arvados-local serve.*`)
}
