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
// most, until it comes to its end by itself: some time after it was started, or after
// it has got further, so that it gets somewhere however slow the machine is. midway
// is how often it was started with a resume file from which it could go on.
func (f *fixture) killUntilDone(c *check.C, rng *rand.Rand, most int, resume string, args ...string) (kills, midway int) {
	for done := false; !done; {
		at, err := imagemigrate.LoadPosition(resume)
		c.Assert(err, check.IsNil)
		if at.After != "" {
			midway++
		}
		cmd := f.client(c, append([]string{"migrate", "--resume", resume}, args...)...)
		c.Assert(cmd.Start(), check.IsNil)
		var failed error
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			failed = cmd.Wait()
		}()
		endsWithin := func(wait time.Duration) bool {
			select {
			case <-ended:
				return true
			case <-time.After(wait):
				return false
			}
		}
		wait := 2 * time.Minute
		if kills < most {
			// More often short than long, to be in time where all is fast.
			wait = time.Duration(rng.IntN(20)*rng.IntN(20)) * time.Millisecond
			if rng.IntN(2) == 0 {
				until(c, "it gets further", func() bool {
					now, err := imagemigrate.LoadPosition(resume)
					c.Assert(err, check.IsNil)
					return now.After != at.After || endsWithin(0)
				})
			}
		}
		if !endsWithin(wait) {
			_ = cmd.Process.Kill() // fails if it has ended
		}
		<-ended
		if done = failed == nil; !done {
			c.Assert(kills < most, check.Equals, true)
			c.Assert(cmd.ProcessState.ExitCode(), check.Equals, -1) // by the signal, not by an error
			kills++
		}
	}
	return kills, midway
}
