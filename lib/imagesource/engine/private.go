// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/mount"
)

const (
	// privateFolder holds a folder for each private builder's socket. The
	// path of a socket has 107 bytes at most (unix(7)).
	privateFolder = "/run/arvados-builtin"
	// startTime bounds how long a private builder may take until it answers.
	// Half a second is usual.
	startTime = 30 * time.Second
	// stopTime bounds how long it may take to remove one.
	stopTime = 10 * time.Second
	// pollTime is between two looks at something that changes soon.
	pollTime = 20 * time.Millisecond
)

// emptyTar is the root of the container: all that is in it is mounted.
var emptyTar = make([]byte, 1024)

// PrivateOptions says what a private builder may use.
type PrivateOptions struct {
	// Owner makes private names on the engine: the UUID of the container.
	Owner string
	// Memory, in bytes, is for the steps of builds and for containers, all
	// together; 0 for no limit. The daemon may have daemonMemory besides.
	Memory int64
	// CPUs are for everything, the daemon's own work included; 0 for no
	// limit.
	CPUs float64
	// Network is NetworkBridge (also "") or NetworkNone, with which the
	// daemon and the steps have no network but one between themselves.
	Network string
	// allow are TCP ports, IPv4, that are in reach although they are the
	// node's own or its containers': tests see by them that it is the rules
	// that close the others.
	allow []netip.AddrPort
}

// Private is a second daemon from the node's own programs, for one user, that
// is thrown away afterwards with everything in it.
type Private struct {
	// Engine is the second daemon. It has the images that one brings, and
	// no other.
	Engine *Engine

	node *Engine

	mutex     sync.Mutex // guards what Stop takes down
	image     string     // name of the empty image of the container
	container string     // id
	volume    string     // the container's, with the data
	folder    string     // of the socket
	conn      *types.HijackedResponse
	ended     <-chan error // of the daemon's output
}

// StartPrivate starts a private builder, and returns when it answers. It must be
// stopped.
//
// The second daemon runs in a container of the node's engine that has nothing of
// its own: programs and libraries are the node's, read-only; data lies in an
// anonymous volume. The container has a network namespace (a second daemon in
// the node's takes the network of all containers down), a process namespace,
// so that nothing outlives it, and a cgroup. It is not privileged: it has the
// capabilities SYS_ADMIN and NET_ADMIN and no device of the node. Steps of
// builds run in containers within, with the usual capabilities and seccomp
// profile but without AppArmor.
//
// Out of reach for the daemon (ADD, FROM) and for steps: the node's loopback and
// its other addresses, other containers of the node, link-local addresses,
// metadata services, and IPv6. The node's DNS servers answer, wherever they are.
// What a proxy that the node's daemon has in its environment would fetch is the
// proxy's affair.
//
// When this process dies, the container's input ends, and it goes: container,
// volume and processes. The folder of its socket and an empty image (0 bytes)
// stay then; otherwise nothing does.
//
// The cgroups were tried with version 1 only. For version 2 the same is written
// by its rules, untried: processes in one leaf, steps in another. Where a limit
// cannot be set, the start fails.
func (e *Engine) StartPrivate(ctx context.Context, opts PrivateOptions) (*Private, error) {
	name, err := privateName("builder", "private", opts.Owner)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, e.fault("start a private builder on", "", err)
	}
	daemon, err := e.findDaemon(ctx)
	if err != nil {
		return nil, err
	}
	network, err := e.privateNetwork(ctx, opts)
	if err != nil {
		return nil, err
	}
	p := &Private{node: e}
	if err := p.start(ctx, name, daemon, network, opts); err != nil {
		_ = p.Stop(ctx) // the cause is worth more
		return nil, err
	}
	return p, nil
}

func (p *Private) start(ctx context.Context, name string, daemon nodeDaemon, network privateNetwork, opts PrivateOptions) (err error) {
	if err := p.makeFolder(); err != nil {
		return err
	}
	name += "-" + filepath.Base(p.folder) // so that one owner may have several
	if p.Engine, err = New("unix://" + filepath.Join(p.folder, "docker.sock")); err != nil {
		return err
	}
	p.Engine.second = true
	config, host := daemon.container(name, p.folder, network, opts)
	if err := p.create(ctx, name, config, host); err != nil {
		return err
	}
	// Attached before the start: the container lives as long as its input.
	conn, err := p.node.attach(ctx, p.container, container.AttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		return p.node.fault("attach to the private builder", name, err)
	}
	p.conn = &conn
	output := &privateOutput{}
	p.ended = pump(conn, ContainerSpec{Image: name, Stdout: output, Stderr: output})
	if err := p.node.cli.ContainerStart(ctx, p.container, container.StartOptions{}); err != nil {
		return p.node.fault("start the private builder", name, err)
	}
	return p.ready(ctx, name, output, startTime)
}

// makeFolder makes the folder for the socket, which only root can enter.
func (p *Private) makeFolder() error {
	err := os.MkdirAll(privateFolder, 0711)
	if err == nil {
		p.folder, err = os.MkdirTemp(privateFolder, "")
	}
	if err == nil {
		return nil
	}
	f := &fault.Error{Op: "make a folder for the private builder's socket in", Side: fault.Engine, Subject: privateFolder, Err: err}
	if os.IsPermission(err) {
		f.Hint = "build.builder: private needs a crunch-run that runs as root"
	}
	return f
}

// create imports the image and makes the container. It is not cut short when
// ctx ends: then nobody would know what to remove.
func (p *Private) create(ctx context.Context, name string, config *container.Config, host *container.HostConfig) error {
	ctx, cancel := detached(ctx)
	defer cancel()
	p.image = name
	body, err := p.node.cli.ImageImport(ctx, image.ImportSource{Source: bytes.NewReader(emptyTar), SourceName: "-"}, name, image.ImportOptions{})
	if err == nil {
		err = readMessages(body, func(message) {})
		body.Close()
	}
	if err != nil {
		return p.node.fault("import an empty image as", name, err)
	}
	// The container's name shows administrators whose it is.
	created, err := p.node.cli.ContainerCreate(ctx, config, host, nil, nil, strings.NewReplacer("/", "-", ":", "-").Replace(name))
	if err != nil {
		return p.node.fault("create the private builder", name, err)
	}
	p.container = created.ID
	state, err := p.node.cli.ContainerInspect(ctx, p.container)
	if err != nil {
		return p.node.fault("look at the private builder", name, err)
	}
	for _, m := range state.Mounts {
		if m.Type == mount.TypeVolume {
			p.volume = m.Name
		}
	}
	return nil
}

// ready waits until the daemon answers, for limit at most, and sees to it that it
// is good for something.
func (p *Private) ready(ctx context.Context, name string, output *privateOutput, limit time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	for {
		info, err := p.Engine.Ping(waiting)
		if err == nil {
			if info.Store == StoreContainerd || info.Store == "overlay2" {
				return nil
			}
			return &fault.Error{Op: "start the private builder", Side: fault.Engine, Subject: name,
				Err:  errors.New("its image store would be " + info.Store + ", which copies all files for each step"),
				Hint: "the file system of the Docker Engine's volumes must be one that overlay2 can use"}
		}
		select {
		case <-p.ended:
			return &fault.Error{Op: "start the private builder", Side: fault.Engine, Subject: name,
				Err: errors.New("it ended: " + output.lastLine()), Transient: true}
		case <-waiting.Done():
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return &fault.Error{Op: "wait for the private builder", Side: fault.Engine, Subject: name, Err: err,
				Hint: "it wrote last: " + output.lastLine(), Transient: true}
		case <-tick.C:
		}
	}
}

// Stop kills everything in the private builder and removes it, within 10
// seconds, also when ctx is over. It may be called again, and by several
// goroutines.
func (p *Private) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.Engine != nil {
		p.Engine.Close()
	}
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
	var errs []error
	if err := p.removeContainer(ctx); err != nil {
		errs = append(errs, p.node.fault("remove the private builder", p.image, err))
	} else {
		p.container, p.volume = "", ""
	}
	if p.image != "" {
		// With force it goes although a container uses it, in case that
		// could not be removed.
		_, err := p.node.cli.ImageRemove(ctx, p.image, image.RemoveOptions{Force: true, PruneChildren: true})
		if err != nil && !cerrdefs.IsNotFound(err) {
			errs = append(errs, p.node.fault("remove image", p.image, err))
		} else {
			p.image = ""
		}
	}
	if p.folder != "" {
		if err := os.RemoveAll(p.folder); err != nil {
			errs = append(errs, &fault.Error{Op: "remove folder", Side: fault.Engine, Subject: p.folder, Err: err})
		} else {
			p.folder = ""
		}
	}
	return errors.Join(errs...)
}

// removeContainer returns when the container and its volume are gone. The engine
// removes both by itself as soon as the container ends, the volume last, and says
// of ours meanwhile that a removal is under way, or that there is no container.
func (p *Private) removeContainer(ctx context.Context) error {
	if p.container != "" {
		err := untilGone(ctx, func() error {
			return p.node.cli.ContainerRemove(ctx, p.container, container.RemoveOptions{Force: true, RemoveVolumes: true})
		})
		if err != nil {
			return err
		}
	}
	if p.volume != "" {
		return untilGone(ctx, func() error { return p.node.cli.VolumeRemove(ctx, p.volume, false) })
	}
	return nil
}

// untilGone removes something until the engine does not know it any more.
func untilGone(ctx context.Context, remove func() error) error {
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	for {
		err := remove()
		switch {
		case cerrdefs.IsNotFound(err):
			return nil
		case err != nil && !cerrdefs.IsConflict(err):
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// privateOutput keeps the end of what is written.
type privateOutput struct {
	mutex sync.Mutex
	text  []byte
}

// outputSize is more than any line of a daemon that says why it ends.
const outputSize = 4 << 10

func (t *privateOutput) Write(p []byte) (int, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.text = append(t.text, p...)
	t.text = bytes.Clone(t.text[max(0, len(t.text)-outputSize):])
	return len(p), nil
}

func (t *privateOutput) lastLine() string {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	lines := bytes.Split(bytes.TrimSpace(t.text), []byte("\n"))
	return string(lines[len(lines)-1])
}
