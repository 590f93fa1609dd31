// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/lib/keepfile/keepaccess"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localcluster"
	"github.com/sirupsen/logrus"
	"gopkg.in/check.v1"
)

// node is this machine with this program as dispatchers start it, and an embedded
// cluster and a registry that containers use.
type node struct {
	*localcluster.Cluster
	root, user *arvados.Client
	dir        string // of the programs
	front      string // this program
	site       string // file
	data       string // folder of the cluster
	registry   *registrytest.Server
}

type attrs = map[string]interface{}

func newNode(c *check.C) *node {
	n := &node{dir: c.MkDir(), data: c.MkDir(), registry: registrytest.New()}
	n.front, n.site = filepath.Join(n.dir, "crunch-run"), filepath.Join(n.dir, "builtin.yml")
	out, err := exec.Command("go", "build", "-o", n.front, ".").CombinedOutput()
	c.Assert(err, check.IsNil, check.Commentf("%s", out))
	c.Assert(os.WriteFile(n.site, []byte("pull: {registries: ['127.0.0.1:*']}\n"), 0600), check.IsNil)
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	n.Cluster, err = localcluster.Start(context.Background(), localcluster.Options{Dir: n.data, Log: quiet, Wrap: n.withLogs})
	c.Assert(err, check.IsNil)
	n.root, n.user = n.Client(n.SystemRootToken), n.UserClient(localcluster.User)
	return n
}

func (n *node) close(c *check.C) {
	n.registry.Close()
	c.Check(n.Stop(), check.IsNil)
}

// pushShell puts an image with a shell into the registry, and returns its name.
func (n *node) pushShell(c *check.C) string { return n.pushLabelled(c, nil) }

// pushLabelled is pushShell with labels in the image's config.
func (n *node) pushLabelled(c *check.C, labels attrs) string {
	program, err := os.ReadFile("/bin/busybox")
	c.Assert(err, check.IsNil)
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	c.Assert(w.WriteHeader(&tar.Header{Name: "bin/busybox", Mode: 0755, Size: int64(len(program))}), check.IsNil)
	w.Write(program)
	for _, link := range []string{"sh", "cat", "sleep"} {
		c.Assert(w.WriteHeader(&tar.Header{Name: "bin/" + link, Typeflag: tar.TypeSymlink, Linkname: "busybox"}), check.IsNil)
	}
	c.Assert(w.Close(), check.IsNil)
	digest := n.registry.PutBlob(layer.Bytes())
	config, err := json.Marshal(attrs{"os": "linux", "architecture": "amd64", "created": "2026-11-24T00:00:00Z",
		"config": attrs{"Env": []string{"PATH=/bin"}, "Labels": labels}, "rootfs": attrs{"type": "layers", "diff_ids": []string{digest}}})
	c.Assert(err, check.IsNil)
	id := n.registry.PutBlob(config)
	const manifest = "application/vnd.oci.image.manifest.v1+json"
	raw, err := json.Marshal(attrs{"schemaVersion": 2, "mediaType": manifest,
		"config": attrs{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": id, "size": len(config)},
		"layers": []attrs{{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": layer.Len()}}})
	c.Assert(err, check.IsNil)
	n.registry.PutManifest("interop/shell:1", manifest, raw)
	return n.registry.Host() + "/interop/shell:1"
}

// withLogs serves logs of requests at the address where Arvados's controller
// has them, which the embedded cluster does not.
func (n *node) withLogs(server string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, path, ok := strings.Cut(r.URL.Path, "/log")
		if server != "api" || !ok || !strings.HasPrefix(r.URL.Path, "/arvados/v1/container_requests/") {
			h.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Dav", "1, 2")
		if r.Method == http.MethodOptions {
			return
		}
		parts := strings.Split(path, "/") // "", container, file
		var ctr arvados.Container
		err := n.root.RequestAndDecode(&ctr, "GET", "arvados/v1/containers/"+parts[1], nil, nil)
		text, there := "", false
		if err == nil && ctr.Log != "" {
			var logs map[string]string
			logs, err = n.readAll(ctr.Log)
			text, there = logs[parts[2]]
		}
		if err != nil || !there {
			http.Error(w, fmt.Sprint("no log: ", err), http.StatusNotFound)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(text))
	})
}

// readAll is the files of a small collection.
func (n *node) readAll(pdh string) (map[string]string, error) {
	var coll arvados.Collection
	err := n.root.RequestAndDecode(&coll, "GET", "arvados/v1/collections/"+pdh, nil, nil)
	if err != nil {
		return nil, err
	}
	list, err := keepfile.ParseManifest(coll.ManifestText)
	if err != nil {
		return nil, err
	}
	kc, err := keepaccess.Open(context.Background(), n.root)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, file := range list {
		r := keepfile.NewReader(context.Background(), kc, file)
		text, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			return nil, err
		}
		files[file.Path] = string(text)
	}
	return files, nil
}

// submit commits a request, for a builtin command if changes name no image, and
// locks its container.
func (n *node) submit(c *check.C, changes attrs) (cr arvados.ContainerRequest) {
	all := attrs{
		"state":               "Committed",
		"priority":            1,
		"container_image":     "arvados/builtin",
		"mounts":              attrs{"/out": attrs{"kind": "tmp", "capacity": 1 << 20}},
		"output_path":         "/out",
		"cwd":                 "/",
		"runtime_constraints": attrs{"vcpus": 1, "ram": 256 << 20, "API": true},
		"container_count_max": 1,
		"use_existing":        false,
	}
	for key, value := range changes {
		all[key] = value
	}
	c.Assert(n.user.RequestAndDecode(&cr, "POST", "arvados/v1/container_requests", nil, attrs{"container_request": all}), check.IsNil)
	c.Assert(n.root.RequestAndDecode(nil, "POST", "arvados/v1/containers/"+cr.ContainerUUID+"/lock", nil, nil), check.IsNil)
	return cr
}

// call runs a program as a dispatcher does, with its words in the test's log.
// code is the exit code that is expected; negative for any.
func (n *node) call(c *check.C, code int, stdin []byte, program string, args ...string) (stdout, stderr string) {
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"PATH=" + n.dir + ":" + os.Getenv("PATH"), "HOME=" + n.dir, "TMPDIR=" + os.TempDir()}
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &errs
	started := time.Now()
	cmd.Run() // the exit code says it
	c.Logf("%s %s <%d bytes: exit %d after %d ms\n%s%s", filepath.Base(program), strings.Join(args, " "), len(stdin),
		cmd.ProcessState.ExitCode(), time.Since(started).Milliseconds(), &out, &errs)
	if code >= 0 {
		c.Assert(cmd.ProcessState.ExitCode(), check.Equals, code)
	}
	return out.String(), errs.String()
}

// start starts a request's container as dispatch-cloud does, with as much on
// stdin as a large cluster's config has.
func (n *node) start(c *check.C, program string, cr arvados.ContainerRequest) {
	n.startWith(c, program, cr, 0, nil)
}

// foreground starts a request's container as a dispatcher does that stays its parent,
// with nothing but the variables that crunch-dispatch-local passes on, and nothing on
// stdin.
func (n *node) foreground(c *check.C, cr arvados.ContainerRequest, stderr *bytes.Buffer) *exec.Cmd {
	cmd := exec.Command(n.front, "--runtime-engine=docker", "-builtin-config", n.site, cr.ContainerUUID)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + c.MkDir(), `InstanceType={"Price":1}`, "ARVADOS_API_HOST=" + n.APIAddress,
		"ARVADOS_API_HOST_INSECURE=1", "ARVADOS_API_TOKEN=" + n.SystemRootToken, "GatewayAuthSecret=0123"}
	cmd.Stdout, cmd.Stderr = stderr, stderr
	c.Assert(cmd.Start(), check.IsNil)
	return cmd
}

// startWith is start where the program gets so many buffers for a keepstore of its
// own, and the configuration of the cluster for it.
func (n *node) startWith(c *check.C, program string, cr arvados.ContainerRequest, buffers int, cluster attrs) {
	stdin, err := json.Marshal(attrs{
		"Env": attrs{"ARVADOS_API_HOST": n.APIAddress, "ARVADOS_API_HOST_INSECURE": "1", "ARVADOS_API_TOKEN": n.SystemRootToken,
			"InstanceType": `{"ProviderType":"test","Price":1}`, "GatewayAddress": "127.0.0.1:0", "GatewayAuthSecret": "0123"},
		"KeepBuffers": buffers, "EC2SpotCheck": false, "Cluster": cluster, "Filler": strings.Repeat("x", 1<<20)})
	c.Assert(err, check.IsNil)
	args := []string{"--detach", "--stdin-config", "--runtime-engine=docker"}
	if filepath.Base(program) != stockBeside {
		args = append(args, "--builtin-config="+n.site)
	}
	n.call(c, 0, stdin, program, append(args, cr.ContainerUUID)...)
}

// wait waits until a request's container is final and its process has gone.
func (n *node) wait(c *check.C, cr arvados.ContainerRequest) (ctr arvados.Container) {
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		c.Assert(n.root.RequestAndDecode(&ctr, "GET", "arvados/v1/containers/"+cr.ContainerUUID, nil, nil), check.IsNil)
		if ctr.State == arvados.ContainerStateComplete || ctr.State == arvados.ContainerStateCancelled {
			if list, _ := n.call(c, 0, nil, n.front, "--list"); !strings.Contains(list, cr.ContainerUUID) {
				return ctr
			}
		}
	}
	journal, _ := os.ReadFile(filepath.Join(n.dir, "journal"))
	c.Fatalf("%s does not end:\n%s", cr.ContainerUUID, journal)
	return ctr
}

func (n *node) container(c *check.C, cr arvados.ContainerRequest) (ctr arvados.Container) {
	c.Assert(n.root.RequestAndDecode(&ctr, "GET", "arvados/v1/containers/"+cr.ContainerUUID, nil, nil), check.IsNil)
	return ctr
}

func (n *node) waitRunning(c *check.C, cr arvados.ContainerRequest) {
	for range 300 {
		if n.container(c, cr).State == arvados.ContainerStateRunning {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.Fatalf("%s does not run", cr.ContainerUUID)
}
