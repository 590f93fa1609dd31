// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
)

//go:embed private.sh
var privateScript string

// daemonMemory is what the daemon and its helpers may have beside the steps:
// they hold about 120 MB, and more for a moment when they pack layers. If they
// shared the steps' memory, a greedy step might have the daemon killed.
const daemonMemory = 256 << 20

// nodePaths are the node's files that the second daemon works with, as far as
// they are there: programs and libraries, and what says whom to trust. Nothing
// else of /etc, where secrets are.
var nodePaths = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
	"/etc/alternatives", "/etc/ld.so.cache", "/etc/hosts",
	"/etc/ssl/certs", "/etc/pki/ca-trust", "/etc/pki/tls/certs", "/etc/ca-certificates", "/etc/docker/certs.d"}

// proxyVariables are those of the node's daemon that the second one has too.
var proxyVariables = []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"}

// nodeDaemon is what is known of the daemon that the node has.
type nodeDaemon struct {
	program string   // absolute path
	proxies []string // "KEY=value"
	// registries are the flags that say how to deal with registries.
	registries []string
}

// findDaemon finds out which program the engine is, and how it was set up.
func (e *Engine) findDaemon(ctx context.Context) (nodeDaemon, error) {
	socket, ok := strings.CutPrefix(e.cli.DaemonHost(), "unix://")
	if !ok {
		return nodeDaemon{}, &fault.Error{Op: "start a private builder on", Side: fault.Engine, Subject: e.cli.DaemonHost(),
			Err: errors.New("the engine need not be of this machine"), Hint: "build.builder: private needs an engine.host like " + DefaultHost}
	}
	pids, err := daemonPIDs(ctx, socket)
	if err != nil {
		return nodeDaemon{}, e.fault("connect to", "", err)
	}
	d, err := daemonOf(pids)
	if err != nil {
		return d, &fault.Error{Op: "find the program of the Docker Engine at", Side: fault.Engine, Subject: e.cli.DaemonHost(), Err: err,
			Hint: "build.builder: private needs dockerd on this machine, and on PATH if crunch-run cannot look at the running one"}
	}
	info, err := e.cli.Info(ctx)
	if err != nil {
		return d, e.fault("ask the settings of", "", err)
	}
	if registries := info.RegistryConfig; registries != nil {
		for _, mirror := range registries.Mirrors {
			d.registries = append(d.registries, "--registry-mirror", mirror)
		}
		for _, network := range registries.InsecureRegistryCIDRs {
			d.registries = append(d.registries, "--insecure-registry", network.String())
		}
		for name, index := range registries.IndexConfigs {
			if !index.Secure {
				d.registries = append(d.registries, "--insecure-registry", name)
			}
		}
	}
	return d, nil
}

// daemonOf looks at the processes, and at PATH when none is it.
func daemonOf(pids []string) (d nodeDaemon, err error) {
	for _, pid := range pids {
		program, err := os.Readlink(filepath.Join("/proc", pid, "exe"))
		if err != nil || !strings.HasPrefix(filepath.Base(program), "dockerd") {
			continue
		}
		// After an upgrade, the new program is as good.
		d.program = strings.TrimSuffix(program, " (deleted)")
		environ, err := os.ReadFile(filepath.Join("/proc", pid, "environ"))
		if err != nil {
			return d, err
		}
		for _, variable := range strings.Split(string(environ), "\x00") {
			if name, _, _ := strings.Cut(variable, "="); slices.Contains(proxyVariables, name) {
				d.proxies = append(d.proxies, variable)
			}
		}
		_, err = os.Stat(d.program)
		return d, err
	}
	if d.program, err = exec.LookPath("dockerd"); err == nil {
		d.program, err = filepath.Abs(d.program)
	}
	return d, err
}

// container is the container of a second daemon with its socket in folder.
func (d nodeDaemon) container(image, folder string, network privateNetwork, opts PrivateOptions) (*container.Config, *container.HostConfig) {
	const data, run = "/var/lib/docker", "/run/private"
	home := filepath.Dir(d.program)
	config := &container.Config{
		Image:      image,
		Entrypoint: []string{"/bin/sh", "-c", privateScript, "sh"},
		Cmd: append([]string{d.program,
			"--host", "unix://" + run + "/docker.sock", "--group", "0",
			"--data-root", data, "--exec-root", "/run/docker", "--pidfile", "/run/docker.pid",
			"--bip", network.bridge.String(), "--ip6tables=false", "--userland-proxy=false",
			"--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", "/steps",
		}, d.registries...),
		Env: append([]string{
			// The folder first: an engine may have its own runc.
			"PATH=" + home + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"NEVER=" + words(neverNets),
			"REFUSE=" + words(network.refuse),
			"ALLOW=" + words(opts.allow),
			fmt.Sprintf("MEMORY=%d", opts.Memory),
			// What of the output of a step is kept, in bytes, and bytes a
			// second: logs are complete but for those of programs that go wild.
			"BUILDKIT_STEP_LOG_MAX_SIZE=104857600",
			"BUILDKIT_STEP_LOG_MAX_SPEED=4194304",
		}, d.proxies...),
		Volumes:   map[string]struct{}{data: {}},
		OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true,
	}
	host := &container.HostConfig{
		AutoRemove:   true,
		NetworkMode:  container.NetworkMode(network.mode),
		LogConfig:    container.LogConfig{Type: "none"}, // the output comes here
		CgroupnsMode: container.CgroupnsModePrivate,
		UsernsMode:   "host", // where the engine maps users, its root could mount nothing
		CapAdd:       []string{"SYS_ADMIN", "NET_ADMIN"},
		SecurityOpt:  []string{"seccomp=unconfined", "apparmor=unconfined", "label=disable"},
		// Not nil: the daemon writes to /proc/sys, and a process may mount
		// /proc only if its own shows everything.
		MaskedPaths:   []string{},
		ReadonlyPaths: []string{},
		Tmpfs:         map[string]string{"/run": "mode=755", "/tmp": ""},
		Mounts:        []mount.Mount{{Type: mount.TypeBind, Source: folder, Target: run}},
	}
	if opts.Memory > 0 {
		host.Memory = opts.Memory + daemonMemory
		host.MemorySwap = host.Memory
	}
	host.NanoCPUs = int64(opts.CPUs * 1e9)
	shown := slices.Clone(nodePaths)
	if !slices.ContainsFunc(nodePaths, func(path string) bool { return strings.HasPrefix(home+"/", path+"/") }) {
		shown = append(shown, home)
	}
	for _, path := range shown {
		if _, err := os.Stat(path); err == nil {
			host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeBind, Source: path, Target: path, ReadOnly: true})
		}
	}
	return config, host
}

func words[T fmt.Stringer](list []T) string {
	var texts []string
	for _, item := range list {
		texts = append(texts, item.String())
	}
	return strings.Join(texts, " ")
}
