// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"

	"git.arvados.org/arvados.git/lib/imageref"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	dockernetwork "github.com/docker/docker/api/types/network"
	check "gopkg.in/check.v1"
)

// listener counts who connects to it.
type listener struct {
	net.Listener
	port  int
	count atomic.Int64
}

func listen(c *check.C, addr string) *listener {
	l := &listener{}
	var err error
	l.Listener, err = net.Listen("tcp4", addr+":0")
	c.Assert(err, check.IsNil)
	l.port = l.Addr().(*net.TCPAddr).Port
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			l.count.Add(1)
			conn.Close()
		}
	}()
	return l
}

// gateway is the node's address on the bridge of its containers.
func (s *privateBuilder) gateway(c *check.C) netip.Addr {
	bridge, err := s.node.cli.NetworkInspect(context.Background(), NetworkBridge, dockernetwork.InspectOptions{})
	c.Assert(err, check.IsNil)
	subnet := netip.MustParsePrefix(bridge.IPAM.Config[0].Subnet)
	return subnet.Masked().Addr().Next() // what engines take when nobody says
}

// connects tries it from a step, and by a pull of the daemon itself.
func (s *privateBuilder) connects(c *check.C, p *Private, id string, addr netip.AddrPort) (step bool, refusal string) {
	code, out := run(c, p, ContainerSpec{Image: id, Network: NetworkBridge},
		fmt.Sprintf("busybox nc -w 3 %s %d </dev/null", addr.Addr(), addr.Port()))
	ref, err := imageref.Parse(addr.String() + "/app:1")
	c.Assert(err, check.IsNil)
	err = p.Engine.Pull(context.Background(), PullRequest{Owner: newOwner(), Ref: ref}, nil)
	c.Assert(err, check.NotNil)
	c.Logf("pull: %v", err)
	return code == 0, strings.TrimSpace(out) + " " + err.Error()
}

// The node and its other containers are out of reach, but for what is allowed;
// link-local addresses and metadata services are so whatever is allowed.
func (s *privateBuilder) TestReach(c *check.C) {
	loopback, gateway := listen(c, "127.0.0.1"), listen(c, s.gateway(c).String())
	defer loopback.Close()
	defer gateway.Close()
	open := netip.AddrPortFrom(s.gateway(c), uint16(gateway.port))
	metadata := netip.MustParseAddrPort("169.254.169.254:80")
	elsewhere := netip.MustParseAddrPort("100.100.100.200:80")
	neighbour := s.neighbour(c)
	defer neighbour.stop()

	closed, id := s.start(c, PrivateOptions{allow: []netip.AddrPort{metadata, elsewhere}})
	defer s.stop(c, closed)
	for _, addr := range []netip.AddrPort{open, metadata, elsewhere, neighbour.addr,
		netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(loopback.port))} {
		step, refusal := s.connects(c, closed, id, addr)
		c.Check(step, check.Equals, false, check.Commentf("%v", addr))
		c.Check(refusal, check.Matches, `(?s).*refused.*refused.*`)
	}
	for _, addr := range []string{open.String(), fmt.Sprintf("127.0.0.1:%d", loopback.port)} {
		c.Check(s.build(closed, "ADD http://"+addr+"/ /x"), check.ErrorMatches, `(?s).*connection refused.*`)
	}
	c.Check(gateway.count.Load(), check.Equals, int64(0))
	c.Check(loopback.count.Load(), check.Equals, int64(0))

	// What is allowed shows that it was the rules that closed the others.
	opened, id := s.start(c, PrivateOptions{allow: []netip.AddrPort{open, neighbour.addr}})
	defer s.stop(c, opened)
	step, _ := s.connects(c, opened, id, open)
	c.Check(step, check.Equals, true)
	c.Check(gateway.count.Load() >= 2, check.Equals, true) // step and daemon
	step, _ = s.connects(c, opened, id, neighbour.addr)
	c.Check(step, check.Equals, true)
}

// The node's name servers may have addresses that are refused otherwise: clouds
// have them at link-local ones. So that comes before the refusals, and what
// belongs to the builder alone before that.
func (s *privateBuilder) TestNameServersAreInReach(c *check.C) {
	p, _ := s.start(c, PrivateOptions{})
	defer s.stop(c, p)
	state, _ := s.look(c, p)
	resolver, err := os.ReadFile(state.ResolvConfPath)
	c.Assert(err, check.IsNil)
	want := []string{"-A ARVADOS -o lo -j RETURN", "-A ARVADOS -o docker0 -j RETURN"}
	for _, line := range strings.Split(string(resolver), "\n") {
		if addr, ok := strings.CutPrefix(line, "nameserver "); ok && !strings.Contains(addr, ":") {
			want = append(want, "-A ARVADOS -d "+addr+"/32 -p udp -m udp --dport 53 -j RETURN",
				"-A ARVADOS -d "+addr+"/32 -p tcp -m tcp --dport 53 -j RETURN")
		}
	}
	c.Assert(len(want) > 2, check.Equals, true, check.Commentf("no name server in %s", resolver))
	want = append(want, "-A ARVADOS -d 169.254.0.0/16 -j REJECT --reject-with icmp-port-unreachable")
	rules, err := exec.Command("nsenter", "-t", fmt.Sprint(state.State.Pid), "-n", "iptables", "-S", "ARVADOS").Output()
	c.Assert(err, check.IsNil)
	c.Check(strings.Split(string(rules), "\n")[1:][:len(want)], check.DeepEquals, want)
}

// neighbour is another container of the node, on the same bridge.
type neighbour struct {
	addr netip.AddrPort
	stop func()
}

func (s *privateBuilder) neighbour(c *check.C) neighbour {
	id, err := s.node.Load(context.Background(), bytes.NewReader(s.image.archive(c)))
	c.Assert(err, check.IsNil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		defer close(done)
		_, err := s.node.RunContainer(ctx, ContainerSpec{Image: id, Network: NetworkBridge, Labels: map[string]string{testLabel: s.image.label},
			Command: []string{"busybox", "httpd", "-f", "-p", "8000"}})
		done <- err
	}()
	n := neighbour{stop: func() {
		cancel()
		for range done {
		}
		c.Check(s.node.RemoveImage(context.Background(), id), check.IsNil)
	}}
	defer func() {
		if !n.addr.IsValid() {
			n.stop()
		}
	}()
	await(c, "an address of the neighbour", done, func() bool {
		containers, err := s.node.cli.ContainerList(context.Background(), container.ListOptions{Filters: filters.NewArgs(filters.Arg("label", testLabel+"="+s.image.label))})
		c.Assert(err, check.IsNil)
		for _, ctr := range containers {
			if addr, err := netip.ParseAddr(ctr.NetworkSettings.Networks[NetworkBridge].IPAddress); err == nil {
				n.addr = netip.AddrPortFrom(addr, 8000)
			}
		}
		return n.addr.IsValid()
	})
	return n
}

// Without a network there is only the one between steps, and no IPv6 anyhow.
func (s *privateBuilder) TestNoNetwork(c *check.C) {
	gateway := listen(c, s.gateway(c).String())
	defer gateway.Close()
	open := netip.AddrPortFrom(s.gateway(c), uint16(gateway.port))
	p, id := s.start(c, PrivateOptions{Network: NetworkNone, allow: []netip.AddrPort{open}})
	defer s.stop(c, p)
	step, _ := s.connects(c, p, id, open)
	c.Check(step, check.Equals, false)
	c.Check(gateway.count.Load(), check.Equals, int64(0))
	_, out := run(c, p, ContainerSpec{Image: id, Network: NetworkHost}, "busybox ip addr")
	c.Check(strings.Contains(out, "inet6"), check.Equals, false)
	c.Check(strings.Contains(out, "eth0"), check.Equals, false)
}

func (s *privateBuilder) TestStepNet(c *check.C) {
	prefix := netip.MustParsePrefix
	for _, trial := range []struct {
		own []netip.Prefix
		net string
	}{
		{nil, "198.19.255.1/24"},
		{[]netip.Prefix{prefix("10.1.2.3/8"), prefix("192.0.2.2/24")}, "198.19.255.1/24"},
		{[]netip.Prefix{prefix("198.18.0.1/15")}, "203.0.113.1/24"},
		{[]netip.Prefix{prefix("198.18.0.1/15"), prefix("203.0.113.9/30")}, "198.51.100.1/24"},
		{[]netip.Prefix{prefix("198.18.0.1/15"), prefix("203.0.113.9/30"), prefix("198.51.100.3/32")}, ""},
	} {
		found, err := stepNet(trial.own)
		if trial.net == "" {
			c.Check(err, check.ErrorMatches, `this node has addresses in all of .*`)
			continue
		}
		c.Check(err, check.IsNil)
		c.Check(found.String(), check.Equals, trial.net)
	}
}

// The program and the proxies are those of the process that is the daemon, and
// not of others, whose id an old file may have.
func (s *privateBuilder) TestDaemonOf(c *check.C) {
	dir := c.MkDir()
	onPath, err := exec.LookPath("dockerd")
	c.Assert(err, check.IsNil)
	program, err := os.ReadFile("/bin/busybox")
	c.Assert(err, check.IsNil)
	var running []*exec.Cmd
	defer func() {
		for _, cmd := range running {
			c.Check(cmd.Process.Kill(), check.IsNil)
			c.Check(cmd.Wait(), check.NotNil) // killed
		}
	}()
	process := func(name string) string {
		path := filepath.Join(dir, name)
		c.Assert(os.WriteFile(path, program, 0755), check.IsNil)
		cmd := exec.Command(path)
		cmd.Args = []string{"sleep", "100"}
		cmd.Env = []string{"HTTPS_PROXY=http://proxy:3128", "no_proxy=a,b", "SECRET=x", "PATH=/x"}
		c.Assert(cmd.Start(), check.IsNil)
		running = append(running, cmd)
		return fmt.Sprint(cmd.Process.Pid)
	}
	proxies := []string{"HTTPS_PROXY=http://proxy:3128", "no_proxy=a,b"}
	dockerd, dev, other := process("dockerd"), process("dockerd-dev"), process("systemd")
	for _, trial := range []struct {
		pids []string
		want nodeDaemon
	}{
		{[]string{dockerd}, nodeDaemon{program: filepath.Join(dir, "dockerd"), proxies: proxies}},
		{[]string{other, dev}, nodeDaemon{program: filepath.Join(dir, "dockerd-dev"), proxies: proxies}},
		{[]string{other, "no number", "999999999"}, nodeDaemon{program: onPath}},
	} {
		found, err := daemonOf(trial.pids)
		c.Check(err, check.IsNil)
		c.Check(found, check.DeepEquals, trial.want)
	}
}
