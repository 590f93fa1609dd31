// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localdispatch

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/sirupsen/logrus"
	"gopkg.in/check.v1"
)

func Test(t *testing.T) { check.TestingT(t) }

var _ = check.Suite(&suite{})

// suite has an API server that knows containers by their states, and a
// crunch-run that writes down how it was called.
type suite struct {
	dir        string // of the crunch-run: calls, stdin, alive, exit code
	containers map[string]arvados.Container
	done       []string // "lock UUID", "unlock UUID", "Cancelled UUID"
	server     *httptest.Server
	d          *Dispatcher
	missing    map[string]int
}

// fakeCrunchRun lists what is in the file "alive", and starts anything.
const fakeCrunchRun = `#!/bin/sh
cd "$(dirname "$0")"
echo "$@" >>calls
case "$1" in
--list) cat alive ;;
--kill) exit $(cat exit-kill) ;;
--detach) cat >stdin; exit $(cat exit-detach) ;;
esac
`

func (s *suite) SetUpTest(c *check.C) {
	s.dir = c.MkDir()
	for name, content := range map[string]string{"crunch-run": fakeCrunchRun, "alive": "", "calls": "", "exit-kill": "0", "exit-detach": "0"} {
		c.Assert(os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0700), check.IsNil)
	}
	s.containers, s.done, s.missing = map[string]arvados.Container{}, nil, map[string]int{}
	s.server = httptest.NewServer(http.HandlerFunc(s.serve))
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	s.d = &Dispatcher{
		Client:     &arvados.Client{Scheme: "http", APIHost: strings.TrimPrefix(s.server.URL, "http://"), AuthToken: "root-token"},
		CrunchRun:  filepath.Join(s.dir, "crunch-run"),
		Args:       []string{"-builtin-config=/site.yml"},
		Env:        map[string]string{"ARVADOS_API_HOST_INSECURE": "1"},
		Log:        quiet,
		MaxRunning: 2,
	}
}

func (s *suite) TearDownTest(c *check.C) { s.server.Close() }

func (s *suite) serve(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/arvados/v1/containers"), "/")
	switch {
	case r.Method == "GET":
		var list arvados.ContainerList
		var filters [][]interface{}
		json.Unmarshal([]byte(r.FormValue("filters")), &filters)
		for _, ctr := range s.containers {
			fits := true
			for _, f := range filters {
				value := map[string]string{"uuid": ctr.UUID, "state": string(ctr.State)}[f[0].(string)]
				fits = fits && strings.Contains(fmt.Sprint(f[2]), value)
			}
			if fits {
				list.Items = append(list.Items, ctr)
			}
		}
		sort.Slice(list.Items, func(i, j int) bool { return list.Items[i].Priority > list.Items[j].Priority })
		json.NewEncoder(w).Encode(list)
	case r.Method == "POST":
		ctr := s.containers[parts[1]]
		s.done = append(s.done, parts[2]+" "+ctr.UUID)
		ctr.State = map[string]arvados.ContainerState{"lock": "Locked", "unlock": "Queued"}[parts[2]]
		s.containers[ctr.UUID] = ctr
		fmt.Fprint(w, "{}")
	case r.Method == "PUT":
		var attrs struct{ State string }
		json.Unmarshal([]byte(r.FormValue("container")), &attrs)
		s.done = append(s.done, attrs.State+" "+parts[1])
		delete(s.containers, parts[1])
		fmt.Fprint(w, "{}")
	}
}

func uuid(n int) string { return fmt.Sprintf("zzzzz-dz642-%015d", n) }

func (s *suite) add(n int, state arvados.ContainerState, priority int64) {
	s.containers[uuid(n)] = arvados.Container{UUID: uuid(n), State: state, Priority: priority}
}

func (s *suite) write(c *check.C, name, content string) {
	c.Assert(os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0700), check.IsNil)
}

// look lets the dispatcher look once, and returns the calls of crunch-run
// beside --list, which always comes first.
func (s *suite) look(c *check.C) []string {
	s.write(c, "calls", "")
	if err := s.d.look(context.Background(), s.missing); err != nil {
		c.Log(err)
	}
	calls, err := os.ReadFile(filepath.Join(s.dir, "calls"))
	c.Assert(err, check.IsNil)
	lines := strings.Split(strings.TrimSuffix(string(calls), "\n"), "\n")
	c.Assert(lines[0], check.Equals, "--list")
	return lines[1:]
}

func start(n int) string {
	return "--detach --stdin-config --runtime-engine=docker -builtin-config=/site.yml " + uuid(n)
}

func (s *suite) TestStartsWhatIsQueued(c *check.C) {
	s.add(1, "Queued", 5)
	s.add(2, "Queued", 0)
	s.add(3, "Queued", 7)
	s.add(4, "Queued", 1)
	c.Check(s.look(c), check.DeepEquals, []string{start(3), start(1)}) // by priority, two at a time
	c.Check(s.done, check.DeepEquals, []string{"lock " + uuid(3), "lock " + uuid(1)})
	stdin, err := os.ReadFile(filepath.Join(s.dir, "stdin"))
	c.Assert(err, check.IsNil)
	var config struct {
		Env         map[string]string
		KeepBuffers int
		Cluster     interface{}
	}
	c.Assert(json.Unmarshal(stdin, &config), check.IsNil)
	c.Check(config.Env, check.DeepEquals, map[string]string{
		"ARVADOS_API_HOST": s.d.Client.APIHost, "ARVADOS_API_TOKEN": "root-token", "ARVADOS_API_HOST_INSECURE": "1"})

	s.write(c, "alive", uuid(3)+"\n"+uuid(1)+"\n")
	c.Check(s.look(c), check.HasLen, 0)
	s.write(c, "alive", uuid(1)+"\n")
	delete(s.containers, uuid(3))
	c.Check(s.look(c), check.DeepEquals, []string{start(4)})
}

func (s *suite) TestGivesUpWhatHasNoProcess(c *check.C) {
	s.add(1, "Locked", 5)
	s.add(2, "Running", 5)
	s.add(3, "Running", 5)
	s.write(c, "alive", uuid(3)+"\n")
	s.look(c)
	c.Check(s.done, check.HasLen, 0) // it may be starting
	s.look(c)
	sort.Strings(s.done)
	c.Check(s.done, check.DeepEquals, []string{"Cancelled " + uuid(2), "unlock " + uuid(1)})
}

func (s *suite) TestStaleAndBrokenAreNoProcesses(c *check.C) {
	s.add(1, "Running", 5)
	s.write(c, "alive", "broken\n"+uuid(1)+" stale\n")
	s.look(c)
	s.look(c)
	c.Check(s.done, check.DeepEquals, []string{"Cancelled " + uuid(1)})
}

func (s *suite) TestKills(c *check.C) {
	s.add(1, "Running", 0)   // its request was cancelled
	s.add(2, "Cancelled", 5) // by an administrator
	s.add(3, "Running", 5)
	s.write(c, "alive", uuid(1)+"\n"+uuid(2)+"\n"+uuid(3)+"\n"+uuid(4)+"\n") // 4 is another cluster's
	s.write(c, "exit-kill", "1")                                             // it takes its time
	for range 2 {
		c.Check(s.look(c), check.DeepEquals, []string{"--kill 15 " + uuid(1), "--kill 15 " + uuid(2)})
	}
	c.Check(s.done, check.HasLen, 0)
}

func (s *suite) TestFailedStartIsTriedAgain(c *check.C) {
	s.add(1, "Queued", 5)
	s.write(c, "exit-detach", "1")
	c.Check(s.look(c), check.DeepEquals, []string{start(1)})
	s.look(c)
	s.look(c)
	c.Check(s.done, check.DeepEquals, []string{"lock " + uuid(1), "unlock " + uuid(1)})
	s.write(c, "exit-detach", "0")
	c.Check(s.look(c), check.DeepEquals, []string{start(1)})
}

func (s *suite) TestRunEndsWithItsContext(c *check.C) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.d.PollInterval = 1
	s.d.Run(ctx)
}
