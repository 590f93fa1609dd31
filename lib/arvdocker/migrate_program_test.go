// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"git.arvados.org/arvados.git/lib/imagemigrate"
	"gopkg.in/check.v1"
)

// clientDir is where builtClient is.
var clientDir string

func TestMain(m *testing.M) {
	var err error
	if clientDir, err = os.MkdirTemp("", "arv-docker-test"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(clientDir) // nothing depends on it
	os.Exit(code)
}

// builtClient is arv-docker as a program, built when a test first needs it.
var builtClient = sync.OnceValues(func() (string, error) {
	program := filepath.Join(clientDir, "arv-docker")
	out, err := exec.Command("go", "build", "-o", program, "../../cmd/arv-docker").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return program, err
})

// client is a call of arv-docker as a program, with the user's token.
func (f *fixture) client(c *check.C, args ...string) *exec.Cmd {
	program, err := builtClient()
	c.Assert(err, check.IsNil)
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"ARVADOS_API_HOST=" + f.user.APIHost, "ARVADOS_API_TOKEN=" + f.user.AuthToken, "ARVADOS_API_HOST_INSECURE=1", "HOME=" + c.MkDir()}
	return cmd
}

// killUntilDone starts arv-docker migrate, and kills it at random times, most times at
// most, until it comes to its end by itself. midway is how often it was started with
// a resume file from which it could go on.
func (f *fixture) killUntilDone(c *check.C, rng *rand.Rand, most int, resume string, args ...string) (kills, midway int) {
	for done := false; !done; {
		at, err := imagemigrate.LoadPosition(resume)
		c.Assert(err, check.IsNil)
		if at.After != "" {
			midway++
		}
		cmd := f.client(c, append([]string{"migrate", "--resume", resume}, args...)...)
		c.Assert(cmd.Start(), check.IsNil)
		wait := 60*time.Millisecond + time.Duration(rng.IntN(400))*time.Millisecond
		if kills == most {
			wait = 2 * time.Minute
		}
		timer := time.AfterFunc(wait, func() { _ = cmd.Process.Kill() }) // fails if it has ended
		done = cmd.Wait() == nil
		timer.Stop()
		if !done {
			c.Assert(kills < most, check.Equals, true)
			c.Assert(cmd.ProcessState.ExitCode(), check.Equals, -1) // by the signal, not by an error
			kills++
		}
	}
	return kills, midway
}
