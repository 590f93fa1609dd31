// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"golang.org/x/sync/errgroup"
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
	checkGone(c, func() []string { return s.remains(c) })
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
	code, output, err := try(p, spec, command)
	c.Assert(err, check.IsNil)
	c.Logf("%s: exit code %d: %s", command, code, output)
	return code, output
}

func try(p *Private, spec ContainerSpec, command string) (code int, output string, err error) {
	var out bytes.Buffer
	spec.Command, spec.Stdout, spec.Stderr = []string{"sh", "-c", command}, &out, &out
	result, err := p.Engine.RunContainer(context.Background(), spec)
	return result.ExitCode, out.String(), err
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
	ended := make(chan error, 1)
	go func() {
		_, err := p.Engine.RunContainer(context.Background(), ContainerSpec{Image: id, Command: []string{"busybox", "sleep", "1000"}})
		ended <- err
	}()
	state, volume := s.look(c, p)
	await(c, "all processes", ended, func() bool {
		return len(processes(state.ID)) >= 6 // sh, sh, cat, dockerd, containerd, sleep
	})
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
	c.Check(errors.Is(err, ErrUnreachable), check.Equals, false) // the node is well
}

// Whoever started it may be killed: then its connection is closed.
func (s *privateBuilder) TestOwnerDies(c *check.C) {
	p, _ := s.start(c, PrivateOptions{})
	state, volume := s.look(c, p)
	p.conn.Close()
	checkGone(c, func() []string {
		left := processes(state.ID)
		if _, err := s.node.cli.ContainerInspect(context.Background(), state.ID); !cerrdefs.IsNotFound(err) {
			left = append(left, "container")
		}
		if s.volumeExists(c, volume) {
			left = append(left, "volume")
		}
		return left
	})
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

	var group errgroup.Group
	var killed atomic.Int64
	for range 3 {
		group.Go(func() error {
			code, _, err := try(p, ContainerSpec{Image: id},
				`busybox awk 'BEGIN { s = sprintf("%60000000s", ""); for (i = 0; i < 3e8; i++) if (i % 1e6 == 0) t = s }'`)
			if code == 137 {
				killed.Add(1)
			}
			return err
		})
	}
	c.Assert(group.Wait(), check.IsNil)
	c.Check(killed.Load() > 0, check.Equals, true)

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
