// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	check "gopkg.in/check.v1"
)

// privateBuilder starts private builders beside the node's own engine.
type privateBuilder struct {
	node  *Engine
	image testImage
}

var _ = check.Suite(&privateBuilder{})

func (s *privateBuilder) SetUpSuite(c *check.C) {
	c.Assert(os.Geteuid(), check.Equals, 0, check.Commentf("these tests need root: the private builder's socket lies in %s", privateFolder))
	var err error
	s.node, err = New("")
	c.Assert(err, check.IsNil)
	_, err = s.node.Ping(context.Background())
	c.Assert(err, check.IsNil, check.Commentf("these tests need a running Docker Engine at %s", DefaultHost))
	s.image = busyboxImage(c, newLabel(), "linux/amd64")
}

func (s *privateBuilder) TearDownTest(c *check.C) {
	c.Check(s.remains(c), check.HasLen, 0)
}

func (s *privateBuilder) TearDownSuite(c *check.C) { s.node.Close() }

// remains are containers and images of private builders of this process.
func (s *privateBuilder) remains(c *check.C) (found []string) {
	containers, err := s.node.cli.ContainerList(context.Background(), container.ListOptions{All: true,
		Filters: filters.NewArgs(filters.Arg("name", "arvados-builtin-"+ownerPrefix))})
	c.Assert(err, check.IsNil)
	for _, ctr := range containers {
		found = append(found, "container "+ctr.Names[0])
	}
	images, err := s.node.cli.ImageList(context.Background(), image.ListOptions{})
	c.Assert(err, check.IsNil)
	for _, img := range images {
		if len(img.RepoTags) > 0 && strings.HasPrefix(img.RepoTags[0], "arvados-builtin/"+ownerPrefix) {
			found = append(found, "image "+img.RepoTags[0])
		}
	}
	return found
}

// start starts a private builder that has the image of the suite.
func (s *privateBuilder) start(c *check.C, opts PrivateOptions) (p *Private, id string) {
	opts.Owner = newOwner()
	begin := time.Now()
	p, err := s.node.StartPrivate(context.Background(), opts)
	c.Assert(err, check.IsNil)
	c.Logf("start: %v", time.Since(begin))
	id, err = p.Engine.Load(context.Background(), bytes.NewReader(s.image.archive(c)))
	c.Assert(err, check.IsNil)
	return p, id
}

func (s *privateBuilder) stop(c *check.C, p *Private) {
	begin := time.Now()
	c.Check(p.Stop(context.Background()), check.IsNil)
	c.Logf("stop: %v", time.Since(begin))
	c.Check(time.Since(begin) < stopTime, check.Equals, true)
}

// run runs a shell command in a container of the private builder.
func run(c *check.C, p *Private, spec ContainerSpec, command string) (code int, output string) {
	var out bytes.Buffer
	spec.Command, spec.Stdout, spec.Stderr = []string{"sh", "-c", command}, &out, &out
	result, err := p.Engine.RunContainer(context.Background(), spec)
	c.Assert(err, check.IsNil)
	c.Logf("%s: exit code %d: %s", command, result.ExitCode, out.String())
	return result.ExitCode, out.String()
}

// greedy allocates as much as it gets.
const greedy = `busybox awk 'BEGIN { s = sprintf("%1000000s", ""); for (;;) a[i++] = s i }'`

// A private builder knows nothing of the node's images, and
// nothing of it stays: containers, images, volumes, mounts, folders, processes.
func (s *privateBuilder) TestNothingRemains(c *check.C) {
	p, id := s.start(c, PrivateOptions{})
	images, err := p.Engine.cli.ImageList(context.Background(), image.ListOptions{All: true})
	c.Assert(err, check.IsNil)
	c.Check(images, check.HasLen, 1)
	c.Check(s.node.ImageExists(context.Background(), id), check.Equals, false)
	go func() {
		_, _ = p.Engine.RunContainer(context.Background(), ContainerSpec{Image: id, Command: []string{"busybox", "sleep", "1000"}})
	}()
	state, volume := s.look(c, p)
	for len(processes(state.ID)) < 6 { // sh, sh, cat, dockerd, containerd, sleep
		time.Sleep(pollTime)
	}
	folder := p.folder
	socket, err := os.Stat(folder)
	c.Assert(err, check.IsNil)
	c.Check(socket.Mode().Perm(), check.Equals, os.FileMode(0700))

	s.stop(c, p)
	c.Check(processes(state.ID), check.HasLen, 0)
	c.Check(s.volumeExists(c, volume), check.Equals, false)
	_, err = os.Stat(folder)
	c.Check(os.IsNotExist(err), check.Equals, true)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	c.Assert(err, check.IsNil)
	for _, part := range []string{folder, volume, state.ID} {
		c.Check(strings.Contains(string(mounts), part), check.Equals, false)
	}
}

// look asks the node's engine for the container and its volume.
func (s *privateBuilder) look(c *check.C, p *Private) (state container.InspectResponse, volume string) {
	state, err := s.node.cli.ContainerInspect(context.Background(), p.container)
	c.Assert(err, check.IsNil)
	for _, m := range state.Mounts {
		if m.Name != "" {
			volume = m.Name
		}
	}
	c.Assert(volume, check.Not(check.Equals), "")
	return state, volume
}

func (s *privateBuilder) volumeExists(c *check.C, name string) bool {
	_, err := s.node.cli.VolumeInspect(context.Background(), name)
	if !cerrdefs.IsNotFound(err) {
		c.Assert(err, check.IsNil)
	}
	return err == nil
}

// processes are those in the cgroup of a container, or in one below.
func processes(id string) (pids []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), id) {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return pids
}

func (s *privateBuilder) TestStopAgain(c *check.C) {
	p, _ := s.start(c, PrivateOptions{})
	over, cancel := context.WithCancel(context.Background())
	cancel()
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() { c.Check(p.Stop(over), check.IsNil) })
	}
	group.Wait()
	c.Check(p.Stop(context.Background()), check.IsNil)
	_, err := p.Engine.Ping(context.Background())
	c.Check(fault.Transient(err), check.Equals, true)
}

// Whoever started it may be killed: then its connection is closed.
func (s *privateBuilder) TestOwnerDies(c *check.C) {
	p, _ := s.start(c, PrivateOptions{})
	state, volume := s.look(c, p)
	p.conn.Close()
	for end := time.Now().Add(stopTime); s.volumeExists(c, volume) && time.Now().Before(end); {
		time.Sleep(pollTime)
	}
	_, err := s.node.cli.ContainerInspect(context.Background(), state.ID)
	c.Check(cerrdefs.IsNotFound(err), check.Equals, true)
	c.Check(s.volumeExists(c, volume), check.Equals, false)
	c.Check(processes(state.ID), check.HasLen, 0)
	s.stop(c, p)
}

// Two at a time, also of one owner, have nothing in common.
func (s *privateBuilder) TestTwoAtOnce(c *check.C) {
	first, id := s.start(c, PrivateOptions{})
	second, err := s.node.StartPrivate(context.Background(), PrivateOptions{Owner: strings.Split(first.image, "/")[1][:27]})
	c.Assert(err, check.IsNil)
	c.Check(second.Engine.ImageExists(context.Background(), id), check.Equals, false)
	s.stop(c, second)
	code, _ := run(c, first, ContainerSpec{Image: id, Network: NetworkBridge}, "true")
	c.Check(code, check.Equals, 0)
	s.stop(c, first)
}

// What takes more memory than the request has, dies: as one process or as
// several containers together, as a container or as a step of a build. Neither
// daemon does.
func (s *privateBuilder) TestMemory(c *check.C) {
	p, id := s.start(c, PrivateOptions{Memory: 100 << 20})
	defer s.stop(c, p)
	code, _ := run(c, p, ContainerSpec{Image: id}, greedy)
	c.Check(code, check.Equals, 137)
	code, _ = run(c, p, ContainerSpec{Image: id}, "busybox dd if=/dev/zero of=/dev/null bs=50M count=1")
	c.Check(code, check.Equals, 0)

	codes := make(chan int)
	for range 3 {
		go func() {
			code, _ := run(c, p, ContainerSpec{Image: id},
				`busybox awk 'BEGIN { s = sprintf("%60000000s", ""); for (i = 0; i < 3e8; i++) if (i % 1e6 == 0) t = s }'`)
			codes <- code
		}()
	}
	killed := 0
	for range 3 {
		if <-codes == 137 {
			killed++
		}
	}
	c.Check(killed > 0, check.Equals, true)

	err := s.build(p, "RUN "+greedy)
	var failed *BuildError
	c.Assert(errors.As(err, &failed), check.Equals, true, check.Commentf("%v", err))
	c.Check(failed.ExitCode, check.Equals, 137)
	c.Check(s.build(p, "RUN true"), check.IsNil)
	for _, e := range []*Engine{p.Engine, s.node} {
		_, err := e.Ping(context.Background())
		c.Check(err, check.IsNil)
	}
	state, _ := s.look(c, p)
	c.Check(state.HostConfig.Memory, check.Equals, int64(100<<20+daemonMemory))
	c.Check(state.RestartCount, check.Equals, 0)
}

// build builds from the image of the suite, with one step, in the network that
// steps usually have.
func (s *privateBuilder) build(p *Private, step string) error {
	owner := newOwner()
	return p.Engine.Build(context.Background(), BuildRequest{
		Owner:      owner,
		Context:    stream(tarOf(nil)),
		Dockerfile: []byte("FROM " + BaseName(owner, 0) + "\n" + step + "\n"),
		Bases:      []Base{{Name: BaseName(owner, 0), Shown: "busybox:test", Image: s.image.image()}},
	}, func(context.Context, BuiltImage) error { return nil })
}

func (s *privateBuilder) TestCPUs(c *check.C) {
	p, _ := s.start(c, PrivateOptions{CPUs: 0.75})
	defer s.stop(c, p)
	state, _ := s.look(c, p)
	c.Check(state.HostConfig.NanoCPUs, check.Equals, int64(750e6))
}

// Steps have no rights that containers usually do not have, and see neither
// programs nor sockets of the node.
func (s *privateBuilder) TestStepsAreContained(c *check.C) {
	p, id := s.start(c, PrivateOptions{})
	defer s.stop(c, p)
	_, out := run(c, p, ContainerSpec{Image: id, Network: NetworkBridge}, "busybox grep -E 'CapEff|Seccomp:' /proc/self/status; busybox ls /")
	c.Check(out, check.Matches, `(?s)CapEff:\t00000000a80425fb\nSeccomp:\t2\n.*`)
	c.Check(strings.Contains(out, "run"), check.Equals, false)
	for _, command := range []string{"busybox mount -t tmpfs x /tmp", "echo 1 >/proc/sys/net/ipv4/ip_forward", "busybox mknod /tmp/x b 254 0 && busybox cat /tmp/x"} {
		code, _ := run(c, p, ContainerSpec{Image: id, Network: NetworkBridge}, command)
		c.Check(code, check.Not(check.Equals), 0, check.Commentf("%s", command))
	}
}

// A start that is cancelled, at whatever moment, leaves nothing.
func (s *privateBuilder) TestStartCancelled(c *check.C) {
	for _, after := range []time.Duration{0, 20 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(context.Background(), after)
		p, err := s.node.StartPrivate(ctx, PrivateOptions{Owner: newOwner()})
		cancel()
		c.Check(p, check.IsNil)
		c.Check(errors.Is(err, context.DeadlineExceeded), check.Equals, true, check.Commentf("%v: %v", after, err))
		c.Check(fault.SideOf(err), check.Equals, fault.Engine)
		c.Check(fault.Transient(err), check.Equals, true)
		c.Check(s.remains(c), check.HasLen, 0, check.Commentf("%v", after))
	}
}

// A daemon that does not come up says why.
func (s *privateBuilder) TestDaemonFails(c *check.C) {
	program, err := exec.LookPath("dockerd")
	c.Assert(err, check.IsNil)
	network := privateNetwork{mode: NetworkNone, bridge: stepNets[0]}
	for _, trial := range []struct {
		daemon  nodeDaemon
		network privateNetwork
		message string
	}{
		{nodeDaemon{program: "/no/such/dockerd"}, network, `engine: start the private builder .*: it ended: .*/no/such/dockerd: not found`},
		{nodeDaemon{program: program, registries: []string{"--no-such-flag"}}, network, `engine: start the private builder .*: it ended: .*`},
		{nodeDaemon{program: program}, privateNetwork{mode: "no-such-network", bridge: stepNets[0]}, `engine: (create|start) the private builder .*no-such-network.*`},
	} {
		p := &Private{node: s.node}
		err := p.start(context.Background(), "arvados-builtin/"+newOwner()+":builder", trial.daemon, trial.network, PrivateOptions{})
		c.Check(err, check.ErrorMatches, trial.message)
		c.Check(fault.SideOf(err), check.Equals, fault.Engine)
		s.stop(c, p)
		c.Check(s.remains(c), check.HasLen, 0)
	}
}

func (s *privateBuilder) TestRefusedOptions(c *check.C) {
	tcp, err := New("tcp://127.0.0.1:1")
	c.Assert(err, check.IsNil)
	nobody, err := New("unix://" + filepath.Join(c.MkDir(), "none.sock"))
	c.Assert(err, check.IsNil)
	for _, trial := range []struct {
		engine  *Engine
		opts    PrivateOptions
		side    fault.Side
		message string
	}{
		{s.node, PrivateOptions{}, fault.Request, `.*"" cannot be the owner.*`},
		{s.node, PrivateOptions{Owner: newOwner(), Network: "host"}, fault.Engine, `.*network host: it must be bridge or none`},
		{tcp, PrivateOptions{Owner: newOwner()}, fault.Engine, `.*build.builder: private needs an engine.host like unix:///var/run/docker.sock\)`},
		{nobody, PrivateOptions{Owner: newOwner()}, fault.Engine, `engine: connect to unix://.*no such file.*`},
	} {
		_, err := trial.engine.StartPrivate(context.Background(), trial.opts)
		c.Check(err, check.ErrorMatches, trial.message)
		c.Check(fault.SideOf(err), check.Equals, trial.side)
	}
}

func (s *privateBuilder) TestOutputIsBounded(c *check.C) {
	var out privateOutput
	c.Check(out.lastLine(), check.Equals, "")
	for i := range 10000 {
		fmt.Fprintf(&out, "line %d\n", i)
	}
	c.Check(out.lastLine(), check.Equals, "line 9999")
	c.Check(len(out.text) <= outputSize, check.Equals, true)
}
