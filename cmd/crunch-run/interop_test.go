// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/imagesource/engine"
	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localcluster"
	"gopkg.in/check.v1"
)

// The suite needs a genuine crunch-run, which this project does not install: make
// interop STOCK=/path/to/it says where it is.
func init() {
	if os.Getenv("STOCK_CRUNCH_RUN") != "" {
		check.Suite(&interopSuite{})
	}
}

// interopSuite has this program and Arvados's own crunch-run on one node, and an
// image that has a shell in Keep.
type interopSuite struct {
	*node
	stock   string // genuine crunch-run
	bundle  string // this program with it inside
	image   string // portable data hash
	imageID string // as the engine calls it
}

func (s *interopSuite) SetUpSuite(c *check.C) {
	genuine := os.Getenv("STOCK_CRUNCH_RUN")
	s.node = newNode(c)
	s.stock, s.bundle = filepath.Join(s.dir, stockBeside), filepath.Join(s.dir, "crunch-run~0123")
	c.Assert(os.Symlink(genuine, s.stock), check.IsNil)
	// The genuine one starts itself by systemd-cat where there is one, which
	// fails where there is no journal.
	c.Assert(os.WriteFile(filepath.Join(s.dir, "systemd-cat"), []byte("#!/bin/sh\nshift\nexec \"$@\" 2>>"+s.dir+"/journal\n"), 0700), check.IsNil)
	// Images are named as the engine here will call them.
	eng, err := engine.New(builtin.DefaultEngine)
	c.Assert(err, check.IsNil)
	defer eng.Close()
	info, err := eng.Ping(context.Background())
	c.Assert(err, check.IsNil)
	c.Logf("Docker Engine %s, API %s, image store %s", info.Version, info.APIVersion, info.Store)
	site, err := os.ReadFile(s.site)
	c.Assert(err, check.IsNil)
	c.Assert(os.WriteFile(s.site, append(site, "image_id: "+calledBy(info.Store).String()+"\n"...), 0600), check.IsNil)
	s.call(c, 0, nil, s.front, "-bundle", genuine, "-o", s.bundle)
	pull := s.submit(c, attrs{"command": []string{"docker", "pull", s.pushShell(c)}})
	s.start(c, s.front, pull)
	s.image = s.wait(c, pull).Output
	files, err := s.readAll(s.image)
	c.Assert(err, check.IsNil)
	for name := range files {
		s.imageID = strings.TrimSuffix(name, ".tar")
	}
}

func (s *interopSuite) TearDownSuite(c *check.C) {
	if s.node == nil {
		return // it did not start
	}
	exec.Command("docker", "rmi", s.imageID).Run() // Arvados's own leaves it there
	os.Remove(lockDir("/var/lock").prices())
	s.close(c)
}

// ordinary is a request for an ordinary container, which reads from Keep, writes
// to everything that it has, and fails.
func (s *interopSuite) ordinary(script string) attrs {
	return attrs{
		"container_image": s.image,
		"command":         []string{"sh", "-c", script},
		"mounts": attrs{
			"/out": attrs{"kind": "tmp", "capacity": 1 << 20},
			"/in":  attrs{"kind": "collection", "portable_data_hash": s.image},
		},
	}
}

var timestamps = regexp.MustCompile(`(?m)^\S+Z `)

// An ordinary container ends the same way whether a dispatcher starts Arvados's
// crunch-run, this program beside it, or this program with it inside.
func (s *interopSuite) TestOrdinaryContainer(c *check.C) {
	type end struct {
		state          arvados.ContainerState
		exit           int
		output         string
		names          []string // of files in the log
		stdout, stderr string
		gateway        bool
	}
	var ends []end
	for _, program := range []string{s.stock, s.front, s.bundle} {
		cr := s.submit(c, s.ordinary("cat /in/*.tar | sh -c 'read x; echo read'; echo hello; echo trouble >&2; echo result >/out/result; exit 3"))
		s.start(c, program, cr)
		ctr := s.wait(c, cr)
		logs, err := s.readAll(ctr.Log)
		c.Assert(err, check.IsNil)
		c.Logf("%s: %s, exit code %d\n%s", filepath.Base(program), ctr.State, ctr.ExitCode, logs["crunch-run.txt"])
		ends = append(ends, end{ctr.State, ctr.ExitCode, ctr.Output, slices.Sorted(maps.Keys(logs)),
			timestamps.ReplaceAllString(logs["stdout.txt"], ""), timestamps.ReplaceAllString(logs["stderr.txt"], ""), ctr.GatewayAddress != ""})
	}
	c.Check(ends[0].state, check.Equals, arvados.ContainerStateComplete)
	c.Check(ends[0].exit, check.Equals, 3)
	c.Check(ends[0].stdout, check.Equals, "read\nhello\n")
	c.Check(ends[0].stderr, check.Equals, "trouble\n")
	c.Check(ends[0].gateway, check.Equals, true)
	c.Check(ends[1], check.DeepEquals, ends[0])
	c.Check(ends[2], check.DeepEquals, ends[0])
}

// Where the dispatcher wants a keepstore on the node, stock crunch-run starts one from
// its own program, be that on disk or in memory.
func (s *interopSuite) TestLocalKeepstore(c *check.C) {
	cluster := attrs{
		"ClusterID":       s.ClusterID,
		"SystemRootToken": s.SystemRootToken,
		"ManagementToken": strings.Repeat("m", 40),
		"Collections":     attrs{"BlobSigning": true, "BlobSigningKey": s.BlobSigningKey, "BlobSigningTTL": "336h", "DefaultReplication": 1},
		"StorageClasses":  attrs{"default": attrs{"Default": true}},
		"Volumes": attrs{s.ClusterID + "-nyw5e-000000000000000": attrs{
			"Driver": "Directory", "DriverParameters": attrs{"Root": filepath.Join(s.data, "keep")}, "Replication": 1, "StorageClasses": attrs{"default": true},
		}},
		"Containers": attrs{"LocalKeepLogsToContainerLog": "none"},
		"Services":   attrs{"Controller": attrs{"ExternalURL": "https://" + s.APIAddress + "/"}},
		"TLS":        attrs{"Insecure": true},
	}
	var outputs []string
	for _, program := range []string{s.stock, s.front, s.bundle} {
		cr := s.submit(c, s.ordinary("cat /in/*.tar | sh -c 'read x'; echo result >/out/result"))
		s.startWith(c, program, cr, 2, cluster)
		ctr := s.wait(c, cr)
		logs, err := s.readAll(ctr.Log)
		c.Assert(err, check.IsNil)
		c.Logf("%s\n%s", logs["crunch-run.txt"], logs["keepstore.txt"])
		c.Check(ctr.State, check.Equals, arvados.ContainerStateComplete)
		c.Check(ctr.ExitCode, check.Equals, 0)
		c.Check(logs["crunch-run.txt"], check.Matches, `(?s).*using local keepstore process \(pid \d+\) at http://.*`)
		outputs = append(outputs, ctr.Output)
	}
	c.Check(outputs[0], check.Not(check.Equals), "")
	c.Check(outputs, check.DeepEquals, []string{outputs[0], outputs[0], outputs[0]})
}

// Either program lists what the other one has started, and ends it, by the
// commands that dispatch-cloud sends. --list with prices is as since 3.2.1, and
// before: on stdin without a flag.
func (s *interopSuite) TestListAndKillEachOther(c *check.C) {
	s.registry.Always("/shell/manifests/2", registrytest.Stall(0))
	for _, program := range []string{s.stock, s.front, s.bundle} {
		theirs := s.submit(c, s.ordinary("sleep 300"))
		s.start(c, program, theirs)
		ours := s.submit(c, attrs{"command": []string{"docker", "pull", s.registry.Host() + "/interop/shell:2"}})
		s.start(c, s.front, ours)
		for _, cr := range []arvados.ContainerRequest{ours, theirs} {
			s.waitRunning(c, cr)
		}
		byStock, _ := s.call(c, 0, []byte(somePrices), s.stock, "--list")
		byFront, _ := s.call(c, 0, []byte(somePrices), s.front, "--list", "--stdin-prices")
		c.Check(byFront, check.Equals, byStock)
		for _, cr := range []arvados.ContainerRequest{ours, theirs} {
			c.Check(byStock, check.Matches, `(?s)(.*\n)?`+cr.ContainerUUID+`\n.*`)
		}
		time.Sleep(time.Second) // the probe has the cost written
		for _, cr := range []arvados.ContainerRequest{ours, theirs} {
			c.Check(s.container(c, cr).Cost > 0, check.Equals, true)
		}
		for uuid, by := range map[string]string{ours.ContainerUUID: s.stock, theirs.ContainerUUID: s.front} {
			s.killByDispatcher(c, by, uuid)
		}
		for _, cr := range []arvados.ContainerRequest{ours, theirs} {
			c.Check(s.wait(c, cr).State, check.Equals, arvados.ContainerStateCancelled)
		}
	}
}

// killByDispatcher repeats the signal until the program says that the process has
// gone.
func (s *interopSuite) killByDispatcher(c *check.C, program, uuid string) {
	for range 20 {
		if _, stderr := s.call(c, -1, nil, program, "--kill", "15", uuid); !strings.Contains(stderr, "still alive") {
			c.Check(stderr, check.Matches, `(`+uuid+`: pid \d+: os: process already finished\n)?`)
			return
		}
	}
	c.Errorf("%s cannot be killed by %s", uuid, program)
}

// oddLocks has a folder of locks of its own, with all that may lie there, and says
// what a program makes of it.
const oddLocks = `
mount -t tmpfs none "$(readlink -f /var/lock)"
cd /var/lock
P=zzzzz-dz642-00000000000000
name() { echo crunch-run-$P$1.lock; }
hold() { flock --no-fork $(name $1) sleep 60 & held="$held $!"; }
true & gone=$!
wait
# left over; stale: its child has the lock; running; starting; no JSON; another's; none's;
# and what is no file
echo "{\"UUID\":\"${P}1\",\"PID\":$$}" >$(name 1)
echo "{\"UUID\":\"${P}2\",\"PID\":$gone}" >$(name 2); hold 2
(trap '' USR2; exec sleep 60) & alive=$!
echo "{\"UUID\":\"${P}3\",\"PID\":$alive}" >$(name 3); hold 3
: >$(name 4); hold 4
echo nonsense >$(name 5); hold 5
echo "{\"UUID\":\"other\",\"PID\":$gone}" >$(name 6)
echo "{\"UUID\":\"${P}7\",\"PID\":0}" >$(name 7); hold 7
mkfifo $(name 9)
mkdir $(name A)
: >crunch-run-broken
: >crunch-run-all.lock
sleep 0.5
for n in 2 5 6 7 8; do
	$PROGRAM --kill 15 $P$n >/dev/null 2>$n
	echo "kill $n: $?"
done
$PROGRAM --list 2>errors
echo "list: $?"
ls
# Stock ends no line after bogus procinfo.
sed "s/PID:$gone/PID:gone/; s/pid $gone/pid gone/; s/}/}\n/" errors 2 5 6 7 8 | grep . | sort
kill $held $alive
`

func (s *interopSuite) TestOddLocks(c *check.C) {
	var told []string
	for _, program := range []string{s.stock, s.front} {
		cmd := exec.Command("unshare", "--mount", "sh", "-c", oddLocks)
		cmd.Env = append(os.Environ(), "PROGRAM="+program)
		out, err := cmd.CombinedOutput()
		c.Logf("%s:\n%s", filepath.Base(program), out)
		c.Assert(err, check.IsNil)
		told = append(told, string(out))
	}
	c.Check(told[1], check.Equals, told[0])
}

// A mistake on the command line has the same exit code and words.
func (s *interopSuite) TestUsageErrors(c *check.C) {
	for _, args := range [][]string{
		nil, {"a", "b"}, {"--bogus", uuid}, {"--kill", "TERM", uuid}, {"short"}, {"--kill", "15", "short"}, {"--list", uuid},
	} {
		var told []string
		for _, program := range []string{s.stock, s.front} {
			cmd := exec.Command(program, args...)
			out, _ := cmd.CombinedOutput() // the exit code says it
			told = append(told, fmt.Sprintf("exit %d\n%s", cmd.ProcessState.ExitCode(), bytes.ReplaceAll(out, []byte(program), []byte("PROGRAM"))))
		}
		c.Logf("%q: %s", args, told[0])
		c.Check(told[1], check.Equals, told[0], check.Commentf("%q", args))
	}
}

// logTail applies what arvados-cwl-runner does with the log of a step that failed.
const logTail = `
import sys, arvados, arvados.collection
from arvados_cwl.done import logtail
logtail(arvados.collection.CollectionReader(sys.argv[1]), lambda f, *args: print(f % args), "log:", maxlen=1000)
`

// What reads the logs of containers, reads those of builtin ones.
func (s *interopSuite) TestReadersOfLogs(c *check.C) {
	s.registry.Always("/nosuch/manifests/", registrytest.Status(404))
	cr := s.submit(c, attrs{"command": []string{"docker", "pull", s.registry.Host() + "/nosuch:1"}})
	env := append(os.Environ(), "ARVADOS_API_HOST="+s.APIAddress, "ARVADOS_API_HOST_INSECURE=1", "ARVADOS_API_TOKEN="+s.Tokens[localcluster.User], "HOME="+s.dir)

	client := exec.Command(filepath.Join(filepath.Dir(os.Getenv("STOCK_CRUNCH_RUN")), "arvados-client"), "logs", "-f", "-poll", "100ms", cr.UUID)
	client.Env = env
	_, noClient := os.Stat(client.Path)
	followed := make(chan string, 1)
	if noClient == nil {
		go func() {
			out, _ := client.CombinedOutput()
			followed <- string(out)
		}()
	} else {
		c.Logf("arvados-client logs -f is left out: %v", noClient)
	}
	s.start(c, s.front, cr)
	ctr := s.wait(c, cr)
	if noClient == nil {
		out := <-followed
		c.Logf("arvados-client logs -f:\n%s", out)
		c.Check(out, check.Matches, `(?s).*crunch-run.txt +\S+Z Complete\n.*`)
		c.Check(out, check.Matches, `(?s).*stderr.txt +\S+Z registry: .*nosuch.*`)
	}

	cache, err := os.UserCacheDir()
	c.Assert(err, check.IsNil)
	python := exec.Command(filepath.Join(cache, "arvados-builtin", "python", "bin", "python"), "-c", logTail, ctr.Log)
	python.Env = env
	out, err := python.CombinedOutput()
	c.Logf("logtail of arvados-cwl-runner:\n%s", out)
	c.Assert(err, check.IsNil)
	logs, err := s.readAll(ctr.Log)
	c.Assert(err, check.IsNil)
	lines := strings.Count(logs["crunch-run.txt"]+logs["stdout.txt"]+logs["stderr.txt"], "\n")
	c.Check(strings.Count(string(out), "\n") >= lines, check.Equals, true)
}
