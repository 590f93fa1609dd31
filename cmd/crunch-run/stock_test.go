// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"git.arvados.org/arvados.git/lib/builtin"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&stockSuite{})

// stockSuite has this program and one that stands for Arvados's crunch-run, both
// as they are installed.
type stockSuite struct {
	dir, front, stock string
	api               *httptest.Server
	asked             atomic.Int64 // API requests
}

// stockSource says its version as crunch-run does, and otherwise what it was
// started with. "keepstore" starts itself again as crunch-run does for its
// local Keep service.
const stockSource = `package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "-version" {
		fmt.Println(os.Args[0], "3.2.1 (go1.25)")
		return
	}
	if os.Getenv("KEEPSTORE") != "" {
		os.Unsetenv("KEEPSTORE")
		cmd := exec.Command("/proc/self/exe", "keepstore")
		cmd.Stdout = os.Stdout
		if err := cmd.Run(); err != nil {
			panic(err)
		}
		return
	}
	stdin, _ := io.ReadAll(os.Stdin)
	json.NewEncoder(os.Stdout).Encode(map[string]interface{}{"PID": os.Getpid(), "Args": os.Args, "Stdin": len(stdin)})
}
`

func (s *stockSuite) SetUpSuite(c *check.C) {
	s.api = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		io.WriteString(w, `{"container_image":"aa74aece2d9695e90ea55207736b74f7+132","command":["echo"]}`)
	}))
	s.dir = c.MkDir()
	s.front, s.stock = filepath.Join(s.dir, "crunch-run"), filepath.Join(s.dir, "arvados-server")
	source := filepath.Join(s.dir, "stock.go")
	c.Assert(os.WriteFile(source, []byte(stockSource), 0600), check.IsNil)
	for program, from := range map[string]string{s.front: ".", s.stock: source} {
		out, err := exec.Command("go", "build", "-o", program, from).CombinedOutput()
		c.Assert(err, check.IsNil, check.Commentf("%s", out))
	}
}

// run runs a program without the settings of whoever runs the tests.
func (s *stockSuite) run(c *check.C, stdin, program string, args ...string) (stdout, stderr string, pid, code int) {
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir}
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	c.Assert(cmd.Start(), check.IsNil)
	cmd.Wait() // the exit code says it
	return out.String(), errs.String(), cmd.Process.Pid, cmd.ProcessState.ExitCode()
}

// input is what a dispatcher sends, and size bytes more of it.
func (s *stockSuite) input(size int) string {
	return fmt.Sprintf(`{"Env":{"ARVADOS_API_HOST":%q,"ARVADOS_API_HOST_INSECURE":"1","ARVADOS_API_TOKEN":"xyzzy"},"Cluster":%q}`,
		s.api.Listener.Addr(), strings.Repeat("x", size))
}

func (s *stockSuite) TearDownSuite(c *check.C) { s.api.Close() }

func (s *stockSuite) bundle(c *check.C) string {
	bundle := filepath.Join(c.MkDir(), "crunch-run~0123")
	stdout, stderr, _, code := s.run(c, "", s.front, "-bundle", s.stock, "-o", bundle)
	c.Assert(code, check.Equals, 0, check.Commentf("%s", stderr))
	c.Check(stdout, check.Matches, `.*crunch-run~0123, \d+ MiB: builtin commands \["docker build" "docker pull"\], and for all else crunch-run 3.2.1 \(go1.25\)\n`)
	return bundle
}

func (s *stockSuite) TestStockBecomesThisProcess(c *check.C) {
	beside := filepath.Join(s.dir, stockBeside)
	c.Assert(os.Symlink(s.stock, beside), check.IsNil)
	defer os.Remove(beside)
	site := filepath.Join(c.MkDir(), "builtin.yml")
	c.Assert(os.WriteFile(site, []byte("stock_crunch_run: "+s.stock+"\n"), 0600), check.IsNil)
	stdin := s.input(1 << 20) // more than a pipe holds
	for _, trial := range []struct {
		title, program string
		args           []string
	}{
		{"named by the site file", s.front, []string{"-builtin-config", site}},
		{"beside the front", s.front, nil},
		{"carried by the front", s.bundle(c), nil},
	} {
		s.asked.Store(0)
		args := append([]string{"-no-detach"}, append(trial.args, "-stdin-config", "-sleep=1s", uuid)...)
		stdout, stderr, pid, code := s.run(c, stdin, trial.program, args...)
		c.Assert(code, check.Equals, 0, check.Commentf("%s: %s", trial.title, stderr))
		c.Check(s.asked.Load(), check.Equals, int64(1))
		var got struct {
			PID, Stdin int
			Args       []string
		}
		c.Assert(json.Unmarshal([]byte(stdout), &got), check.IsNil, check.Commentf("%s: %s", trial.title, stdout))
		c.Check(got.PID, check.Equals, pid, check.Commentf(trial.title))
		c.Check(got.Stdin, check.Equals, len(stdin), check.Commentf(trial.title))
		c.Check(got.Args, check.DeepEquals, []string{"crunch-run", "-no-detach", "-stdin-config", "-sleep=1s", uuid}, check.Commentf(trial.title))
	}
}

func (s *stockSuite) TestNobodyAnswers(c *check.C) {
	stdout, stderr, _, code := s.run(c, `{"Env":{"ARVADOS_API_HOST":"127.0.0.1:1","ARVADOS_API_TOKEN":"xyzzy"}}`,
		s.bundle(c), "-no-detach", "-stdin-config", uuid)
	c.Check(code, check.Equals, 0, check.Commentf("%s", stderr))
	c.Check(stdout, check.Matches, `(?s).*"Args":\["crunch-run","-no-detach","-stdin-config","`+uuid+`"\].*`) // stock says what is wrong
}

// A signal while it is not yet known who runs the container ends it there: stock
// would never hear of it.
func (s *stockSuite) TestSignalBeforeTheHandOver(c *check.C) {
	for _, at := range []string{"/containers/", "/collections/"} {
		var pid atomic.Int64
		api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, at) {
				for pid.Load() == 0 {
				}
				syscall.Kill(int(pid.Load()), syscall.SIGINT)
				<-r.Context().Done()
				return
			}
			io.WriteString(w, `{"container_image":"aa74aece2d9695e90ea55207736b74f7+132","command":["docker","pull","x"]}`)
		}))
		cmd := exec.Command(s.bundle(c), "-stdin-config", uuid)
		cmd.Stdin = strings.NewReader(strings.ReplaceAll(s.input(0), s.api.Listener.Addr().String(), api.Listener.Addr().String()))
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		c.Assert(cmd.Start(), check.IsNil)
		pid.Store(int64(cmd.Process.Pid))
		cmd.Wait() // the exit code says it
		c.Check(cmd.ProcessState.ExitCode(), check.Equals, 1, check.Commentf("%s", &stderr))
		c.Check(stderr.String(), check.Matches, `(?s).*: caught signal: interrupt\n`)
		c.Check(stdout.String(), check.Equals, "")
		api.Close()
	}
}

func (s *stockSuite) TestCarriedProgramStartsItselfAgain(c *check.C) {
	bundle := s.bundle(c)
	cmd := exec.Command(bundle, "-no-detach", "-stdin-config", uuid)
	cmd.Env = []string{"KEEPSTORE=1"}
	cmd.Stdin = strings.NewReader(s.input(0))
	out, err := cmd.CombinedOutput()
	c.Assert(err, check.IsNil, check.Commentf("%s", out))
	c.Check(string(out), check.Matches, `(?s).*"Args":\["/proc/self/exe","keepstore"\].*`)
}

func (s *stockSuite) TestBundleOfABundle(c *check.C) {
	first := s.bundle(c)
	second := filepath.Join(c.MkDir(), "crunch-run")
	_, stderr, _, code := s.run(c, "", first, "-bundle", s.stock, "-o", second)
	c.Assert(code, check.Equals, 0, check.Commentf("%s", stderr))
	was, err := os.ReadFile(first)
	c.Assert(err, check.IsNil)
	is, err := os.ReadFile(second)
	c.Assert(err, check.IsNil)
	c.Check(bytes.Equal(was, is), check.Equals, true) // one stock program, not two
}

func (s *stockSuite) TestWhatCannotBeBundled(c *check.C) {
	script := filepath.Join(s.dir, "script")
	c.Assert(os.WriteFile(script, []byte("#!/bin/sh\n"), 0700), check.IsNil)
	bundle := s.bundle(c)
	for _, trial := range []struct{ stock, out, want string }{
		{s.stock, "", `.*-bundle: name the file to be written by -o\n`},
		{filepath.Join(s.dir, "none"), "x", `.*-bundle: open .*/none: no such file or directory\n`},
		{script, "x", `.*-bundle: .*/script: it is no program file: .*\n`},
		{"/bin/true", "x", `.*-bundle: /bin/true: it does not answer as Arvados's crunch-run does, .*\n`},
		{s.front, "x", `.*-bundle: .*: that is this program itself\n`},
		{bundle, "x", `.*-bundle: .*: it is a crunch-run with builtin commands itself; name Arvados's own, such as /usr/bin/crunch-run\n`},
		{s.stock, "no/such/folder/x", `.*-o: open .*: no such file or directory\n`},
	} {
		dir := c.MkDir()
		args := []string{"-bundle", trial.stock}
		if trial.out != "" {
			args = append(args, "-o", filepath.Join(dir, trial.out))
		}
		stdout, stderr, _, code := s.run(c, "", s.front, args...)
		c.Check(code, check.Equals, 1, check.Commentf("%q", args))
		c.Check(stdout, check.Equals, "")
		c.Check(stderr, check.Matches, trial.want, check.Commentf("%q", args))
		left, err := os.ReadDir(dir)
		c.Assert(err, check.IsNil)
		c.Check(left, check.HasLen, 0) // nothing half-written
	}
}

func (s *stockSuite) TestDamagedBundle(c *check.C) {
	bundle := s.bundle(c)
	whole, err := os.ReadFile(bundle)
	c.Assert(err, check.IsNil)
	at := len(whole) - bundleTail
	for _, size := range []byte{0, 0xff} {
		damaged := bytes.Clone(whole)
		copy(damaged[at:], bytes.Repeat([]byte{size}, 8))
		path := filepath.Join(c.MkDir(), "crunch-run")
		c.Assert(os.WriteFile(path, damaged, 0700), check.IsNil)
		_, stderr, _, code := s.run(c, s.input(0), path, "-no-detach", "-stdin-config", uuid)
		c.Check(code, check.Equals, 1)
		c.Check(stderr, check.Matches, `.*is a damaged bundle: make it again\n`)
	}
}

// A mistake in the site file stops builtin commands and nothing else.
func (s *stockSuite) TestSiteFileWithAMistake(c *check.C) {
	site := filepath.Join(c.MkDir(), "builtin.yml")
	c.Assert(os.WriteFile(site, []byte("links: sometimes\n"), 0600), check.IsNil)
	bundle := s.bundle(c)
	stdout, stderr, _, code := s.run(c, s.input(0), bundle, "-builtin-config", site, "-stdin-config", uuid)
	c.Check(code, check.Equals, 0)
	c.Check(stdout, check.Matches, `(?s).*"Args":\["crunch-run","-stdin-config","`+uuid+`"\].*`)
	c.Check(stderr, check.Matches, `(?s)ordinary containers only, until this is mended: .*"sometimes" is none of auto, always, never\n`)

	for _, ctr := range []string{
		`{"container_image":"arvados/builtin","command":["echo"]}`,
		`{"container_image":"aa74aece2d9695e90ea55207736b74f7+132","command":["docker","pull","x"]}`,
	} {
		api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, ctr) }))
		stdin := strings.ReplaceAll(s.input(0), s.api.Listener.Addr().String(), api.Listener.Addr().String())
		stdout, stderr, _, code := s.run(c, stdin, bundle, "-builtin-config", site, "-stdin-config", uuid)
		c.Check(code, check.Equals, 1)
		c.Check(stdout, check.Equals, "")
		c.Check(stderr, check.Matches, `(?s).*: read site file .*"sometimes" is none of auto, always, never\n`)
		api.Close()
	}
}

func (s *stockSuite) TestStockIsMissing(c *check.C) {
	for stock, want := range map[string]string{
		filepath.Join(s.dir, "none"): "no such file or directory",
		s.dir:                        "it is no program",
		s.front:                      "that is this program itself",
	} {
		site := filepath.Join(c.MkDir(), "builtin.yml")
		c.Assert(os.WriteFile(site, []byte("stock_crunch_run: "+stock+"\n"), 0600), check.IsNil)
		_, stderr, _, code := s.run(c, s.input(0), s.front, "-builtin-config", site, "-stdin-config", uuid)
		c.Check(code, check.Equals, 1)
		c.Check(stderr, check.Matches, `.*stock crunch-run \(.*\) cannot be started: .*`+want+`; name Arvados's own by stock_crunch_run in the site file, or make a bundle by -bundle\n`)
	}
}

func (s *stockSuite) TestVersionSaysWhatStandsBehind(c *check.C) {
	stdout, _, _, code := s.run(c, "", s.bundle(c), "-version")
	c.Check(code, check.Equals, 0)
	c.Check(stdout, check.Matches, `.* with builtin commands \["docker build" "docker pull"\] \(go.*\)\nall else: in this program: crunch-run 3.2.1 \(go1.25\)\n`)
}

func (s *stockSuite) TestNodeCheck(c *check.C) {
	for _, trial := range []struct {
		title, site, out, want string // regular expressions
	}{
		{"a node that can do all", "stock_crunch_run: " + s.stock,
			`(?s).*stock +.*/arvados-server: crunch-run 3\.2\.1 \(go1\.25\)\n.*registries: all with public addresses\nengine +unix:///var/run/docker\.sock: Docker Engine .*, API 1\..*docker build +builder engine; .*`, ""},
		{"builds are switched off and there is no engine", "stock_crunch_run: " + s.stock + "\nbuild: {enabled: false}\nengine: {host: 'unix:///none'}",
			`(?s).*engine +.*/none.*`, ""},
		{"no engine", "stock_crunch_run: " + s.stock + "\nengine: {host: 'unix:///none'}",
			`(?s).*engine +.*/none.*`, `builds, and pulls that need the engine, cannot run`},
		{"no stock program", "stock_crunch_run: /none",
			`(?s).*stock +stock crunch-run \(/none\) cannot be started: .*`, `ordinary containers cannot run`},
		{"a site file with a mistake", "links: sometimes",
			`(?s).*"sometimes" is none of auto, always, never\n`, `no builtin command can run, and ordinary containers only .*: mend the site file`},
	} {
		site := filepath.Join(c.MkDir(), "builtin.yml")
		c.Assert(os.WriteFile(site, []byte(trial.site+"\n"), 0600), check.IsNil)
		var out bytes.Buffer
		err := nodeCheck(site, &out)
		c.Check(out.String(), check.Matches, trial.out, check.Commentf(trial.title))
		if trial.want == "" {
			c.Check(err, check.IsNil, check.Commentf(trial.title))
		} else {
			c.Check(err, check.ErrorMatches, trial.want, check.Commentf(trial.title))
		}
	}
}

func (s *stockSuite) TestWithoutASiteFile(c *check.C) {
	found, err := findStock(builtin.Site{})
	c.Assert(err, check.IsNil)
	c.Check(found, check.Equals, stock{path: stockPackage})
}
