// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registrytest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Real is a docker-registry process at a loopback address.
type Real struct {
	// Host is "127.0.0.1:port", as it stands in names of images.
	Host string
	cmd  *exec.Cmd
	done chan struct{} // closed when its log has ended
}

var listening = regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)

// StartReal starts docker-registry with its files in dir. If htpasswd is not
// empty, it is a file's content ("user:bcrypt") that says who may use it.
func StartReal(dir, htpasswd string) (*Real, error) {
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		return nil, errors.New("this needs the program docker-registry: install the Debian package of that name")
	}
	config := fmt.Sprintf("version: 0.1\nlog: {level: info, accesslog: {disabled: true}}\nhttp: {addr: '127.0.0.1:0'}\n"+
		"storage: {filesystem: {rootdirectory: %q}}\n", filepath.Join(dir, "store"))
	if htpasswd != "" {
		users := filepath.Join(dir, "htpasswd")
		if err := os.WriteFile(users, []byte(htpasswd), 0600); err != nil {
			return nil, err
		}
		config += fmt.Sprintf("auth: {htpasswd: {realm: registrytest, path: %q}}\n", users)
	}
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(config), 0600); err != nil {
		return nil, err
	}
	r := &Real{cmd: exec.Command(program, "serve", file), done: make(chan struct{})}
	stderr, err := r.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	// It chooses its port and tells it in its log, so that no other
	// process can take it in between.
	var said strings.Builder
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			r.Host = m[1]
			go func() {
				defer close(r.done)
				_, _ = io.Copy(io.Discard, stderr) // it must not block on its log
			}()
			return r, nil
		}
		said.WriteString(lines.Text() + "\n")
	}
	close(r.done)
	r.Stop()
	return nil, fmt.Errorf("docker-registry did not start: %s", said.String())
}

// Stop kills the process and waits for its end.
func (r *Real) Stop() {
	_ = r.cmd.Process.Kill() // it may have ended
	<-r.done
	_ = r.cmd.Wait()
}
