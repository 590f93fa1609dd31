// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
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
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&stockSuite{})

const someImage = "aa74aece2d9695e90ea55207736b74f7+132"

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
		io.WriteString(w, `{"container_image":"`+someImage+`","command":["echo"]}`)
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
func (s *stockSuite) input(api *httptest.Server, size int) string {
	return fmt.Sprintf(`{"Env":{"ARVADOS_API_HOST":%q,"ARVADOS_API_HOST_INSECURE":"1","ARVADOS_API_TOKEN":"xyzzy"},"Cluster":%q}`,
		api.Listener.Addr(), strings.Repeat("x", size))
}

// answering is an API server with one container.
func answering(container string) *httptest.Server {
	return httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, container) }))
}

func (s *stockSuite) TearDownSuite(c *check.C) { s.api.Close() }

func (s *stockSuite) TestStockBecomesThisProcess(c *check.C) {
	beside := filepath.Join(s.dir, stockBeside)
	c.Assert(os.Symlink(s.stock, beside), check.IsNil)
	defer os.Remove(beside)
	site := filepath.Join(c.MkDir(), "builtin.yml")
	c.Assert(os.WriteFile(site, []byte("stock_crunch_run: "+s.stock+"\n"), 0600), check.IsNil)
	stdin := s.input(s.api, 1<<20) // more than a pipe holds
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

// What stands on stdin and on the command line about the API server holds for the
// decision too. When that fails, stock runs the container, and it is said why.
func (s *stockSuite) TestWhoIsAsked(c *check.C) {
	api := answering(`{"container_image":"arvados/builtin","command":["docker","pull","x"]}`)
	defer api.Close()
	cert := filepath.Join(c.MkDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})
	c.Assert(os.WriteFile(cert, text, 0600), check.IsNil)
	bundle := s.bundle(c)
	private := fmt.Sprintf(`{"Env":{"ARVADOS_API_HOST":%q,"ARVADOS_API_TOKEN":"xyzzy","SSL_CERT_FILE":"/none"}}`, api.Listener.Addr())
	const (
		ours   = `(?s).*dispatch error detected: .*` // the container is not locked
		theirs = `what container ` + uuid + ` is cannot be seen, so that stock crunch-run gets it: .*`
	)
	for _, trial := range []struct {
		title, stdin string
		args         []string
		want         string
	}{
		{"a certificate by the flag", private, []string{"-ca-certs", cert}, ours},
		{"a certificate that nobody trusts", private, nil, theirs + `certificate.*\n`},
		{"something follows the settings", s.input(api, 0) + "\n{}]", nil, ours},
		{"no settings", `nonsense`, nil, ``},
	} {
		args := append(trial.args, "-stdin-config", uuid)
		stdout, stderr, _, code := s.run(c, trial.stdin, bundle, args...)
		c.Check(stderr, check.Matches, trial.want, check.Commentf(trial.title))
		if trial.want == ours {
			c.Check(code, check.Equals, 1, check.Commentf(trial.title))
			c.Check(stdout, check.Equals, "", check.Commentf(trial.title))
			continue
		}
		var got struct{ Args []string }
		c.Assert(json.Unmarshal([]byte(stdout), &got), check.IsNil, check.Commentf("%s: %s", trial.title, stdout))
		c.Check(got.Args, check.DeepEquals, append([]string{stockName}, args...), check.Commentf(trial.title))
	}
}

// A signal while it is not yet known who runs the container ends it there: stock
// would never hear of it.
func (s *stockSuite) TestSignalBeforeTheHandOver(c *check.C) {
	for _, at := range []string{"/containers/", "/collections/"} {
		var pid atomic.Int64
		api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, at) {
				for pid.Load() == 0 {
					time.Sleep(time.Millisecond)
				}
				syscall.Kill(int(pid.Load()), syscall.SIGINT)
				<-r.Context().Done()
				return
			}
			io.WriteString(w, `{"container_image":"`+someImage+`","command":["docker","pull","x"]}`)
		}))
		cmd := exec.Command(s.bundle(c), "-stdin-config", uuid)
		cmd.Stdin = strings.NewReader(s.input(api, 0))
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		c.Assert(cmd.Start(), check.IsNil)
		pid.Store(int64(cmd.Process.Pid))
		cmd.Wait() // the exit code says it
		c.Check(cmd.ProcessState.ExitCode(), check.Equals, 1, check.Commentf("%s", &stderr))
		c.Check(stderr.String(), check.Matches, `caught signal: interrupt\n`)
		c.Check(stdout.String(), check.Equals, "")
		api.Close()
	}
}

// A mistake in the site file stops builtin commands and nothing else: an image such as
// docker:cli, whose commands begin like them, may be an ordinary one. More of that is
// in labelSuite.
func (s *stockSuite) TestSiteFileWithAMistake(c *check.C) {
	site := filepath.Join(c.MkDir(), "builtin.yml")
	c.Assert(os.WriteFile(site, []byte("links: sometimes\n"), 0600), check.IsNil)
	bundle := s.bundle(c)
	stdout, stderr, _, code := s.run(c, s.input(s.api, 0), bundle, "-builtin-config", site, "-stdin-config", uuid)
	c.Check(code, check.Equals, 0)
	c.Check(stdout, check.Matches, `(?s).*"Args":\["crunch-run","-stdin-config","`+uuid+`"\].*`)
	c.Check(stderr, check.Matches, `(?s)ordinary containers only, until this is mended: .*"sometimes" is none of auto, always, never\n`)

	for ctr, want := range map[string]struct {
		code           int
		stdout, stderr string
	}{
		`{"container_image":"arvados/builtin","command":["echo"]}`: {1, ``,
			`(?s).*\nread site file .*"sometimes" is none of auto, always, never\n`},
		`{"container_image":"` + someImage + `","command":["docker","pull","x"]}`: {0, `(?s).*"Args":\["crunch-run",.*`,
			`(?s).*\nwhether image .* cannot be seen, so that stock crunch-run gets the container: .*\n`},
	} {
		api := answering(ctr)
		stdout, stderr, _, code := s.run(c, s.input(api, 0), bundle, "-builtin-config", site, "-stdin-config", uuid)
		c.Check(code, check.Equals, want.code, check.Commentf(ctr))
		c.Check(stdout, check.Matches, want.stdout, check.Commentf(ctr))
		c.Check(stderr, check.Matches, want.stderr, check.Commentf(ctr))
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
		_, stderr, _, code := s.run(c, s.input(s.api, 0), s.front, "-builtin-config", site, "-stdin-config", uuid)
		c.Check(code, check.Equals, 1)
		c.Check(stderr, check.Matches, `.*stock crunch-run \(.*\) cannot be started: .*`+want+`; name Arvados's own by stock_crunch_run in the site file, or make a bundle by -bundle\n`)
	}
	carried := stock{path: "in this program", carried: func() (*os.File, error) { return nil, syscall.EACCES }}
	c.Check(carried.exec(nil, nil), check.ErrorMatches, `stock crunch-run \(in this program\) cannot be started: permission denied; if this node forbids .*vm\.memfd_noexec.*, install both programs on it instead of a bundle`)
}

func (s *stockSuite) TestWithoutASiteFile(c *check.C) {
	found, err := findStock(builtin.Site{})
	c.Assert(err, check.IsNil)
	c.Check(found, check.DeepEquals, stock{path: stockPackage})
}
