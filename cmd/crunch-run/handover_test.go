// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"gopkg.in/check.v1"
)

// tellingScript stands for Arvados's crunch-run and says what it was started with,
// as the kernel has it: no runtime of a language has changed anything. Signals come
// first, since a shell blocks them when it waits for other programs.
const tellingScript = `#!/bin/sh
while read -r name value; do
	case $name in SigIgn: | SigBlk:) echo "$name $value" ;; esac
done </proc/self/status
read -r _ _ _ _ group _ </proc/self/stat
echo "pid $$"
echo "group $group"
echo "lock $(readlink /proc/$$/fd/3)"
flock --nonblock "$(readlink /proc/$$/fd/3)" true || echo "held yes"
echo "args $*"
echo "stdin $(wc -c)"
tr '\0' '\n' </proc/$$/environ | sed 's/^/env /'
exit 7
`

// Stock crunch-run gets this process as the dispatcher made it.
func (s *stockSuite) TestWhatIsHandedOver(c *check.C) {
	dir := c.MkDir()
	script, site, lockFile := filepath.Join(dir, "script"), filepath.Join(dir, "builtin.yml"), filepath.Join(dir, "lock")
	c.Assert(os.WriteFile(script, []byte(tellingScript), 0700), check.IsNil)
	c.Assert(os.WriteFile(site, []byte("stock_crunch_run: "+script+"\n"), 0600), check.IsNil)
	lock, err := os.Create(lockFile)
	c.Assert(err, check.IsNil)
	c.Assert(syscall.Flock(int(lock.Fd()), syscall.LOCK_EX), check.IsNil)

	cmd := exec.Command(s.front, "-no-detach", "-detach", "-builtin-config", site, "-stdin-config", uuid)
	cmd.Env = []string{"GatewayAddress=10.0.0.1:0", "GatewayAuthSecret=0123", "PATH=" + os.Getenv("PATH"), "SSL_CERT_FILE=/none"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.ExtraFiles = []*os.File{lock}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	stdin, err := cmd.StdinPipe()
	c.Assert(err, check.IsNil)
	c.Assert(cmd.Start(), check.IsNil)
	c.Assert(lock.Close(), check.IsNil) // it is the process's alone from here on
	input := s.input(s.api, 1<<20)
	_, err = io.WriteString(stdin, input)
	c.Assert(err, check.IsNil)
	stdin.Close()
	c.Check(cmd.Wait(), check.ErrorMatches, `exit status 7`)

	got := map[string]string{}
	var env []string
	for line := range strings.Lines(out.String()) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if key == "env" {
			env = append(env, value)
		} else {
			got[key] = value
		}
	}
	pid := strconv.Itoa(cmd.Process.Pid)
	ignored, err := strconv.ParseUint(got["SigIgn:"], 16, 64)
	c.Assert(err, check.IsNil, check.Commentf("%s", &out))
	for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2} {
		c.Check(ignored>>(sig-1)&1, check.Equals, uint64(1), check.Commentf("%v", sig))
	}
	c.Check(ignored>>(syscall.SIGTERM-1)&1, check.Equals, uint64(0)) // which ends the container
	delete(got, "SigIgn:")
	c.Check(got, check.DeepEquals, map[string]string{
		"pid": pid, "group": pid, "lock": lockFile, "held": "yes", "SigBlk:": "0000000000000000",
		"args": "-no-detach -detach -stdin-config " + uuid, "stdin": strconv.Itoa(len(input)),
	})
	slices.Sort(env)
	c.Check(env, check.DeepEquals, []string{"ARVADOS_API_HOST=" + s.api.Listener.Addr().String(), "ARVADOS_API_HOST_INSECURE=1", "ARVADOS_API_TOKEN=xyzzy",
		cmd.Env[0], cmd.Env[1], cmd.Env[2], cmd.Env[3]})
}
