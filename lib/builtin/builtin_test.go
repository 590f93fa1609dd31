// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtin

import (
	"context"
	"errors"
	"fmt"

	"git.arvados.org/arvados.git/lib/fault"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&registrySuite{})

type registrySuite struct {
	before map[string]Command
}

func (s *registrySuite) SetUpTest(c *check.C) {
	s.before, commands = commands, map[string]Command{}
}

func (s *registrySuite) TearDownTest(c *check.C) {
	commands = s.before
}

type named string

func (named) Run(context.Context, *Job) (*Result, error) { return nil, nil }

func (*registrySuite) TestFindByTheFirstWords(c *check.C) {
	Register("docker pull", named("pull"))
	Register("docker build", named("build"))
	c.Check(Names(), check.DeepEquals, []string{"docker build", "docker pull"})
	for _, trial := range []struct {
		words []string
		cmd   Command
		args  []string
	}{
		{[]string{"docker", "pull", "alpine"}, named("pull"), []string{"alpine"}},
		{[]string{"docker", "pull"}, named("pull"), []string{}},
		{[]string{"docker", "build", "-t", "a b", ""}, named("build"), []string{"-t", "a b", ""}},
		{[]string{"docker pull", "alpine"}, nil, nil},
		{[]string{"docker", "push", "alpine"}, nil, nil},
		{[]string{"docker"}, nil, nil},
		{[]string{"Docker", "pull", "alpine"}, nil, nil},
		{nil, nil, nil},
	} {
		cmd, args, ok := Find(trial.words)
		c.Check(ok, check.Equals, trial.cmd != nil, check.Commentf("%q", trial.words))
		c.Check(cmd, check.DeepEquals, trial.cmd)
		c.Check(args, check.DeepEquals, trial.args)
	}
}

func (*registrySuite) TestSecondOfOneNamePanics(c *check.C) {
	Register("docker pull", named("pull"))
	c.Check(func() { Register("docker pull", named("other")) }, check.PanicMatches, "builtin: registered twice: docker pull")
}

func (*registrySuite) TestUnknownNamesWhatThereIs(c *check.C) {
	Register("docker pull", named("pull"))
	c.Check(Unknown([]string{"echo", "hi"}), check.ErrorMatches,
		`request: run command \["echo" "hi"\]: not a builtin command \(with image arvados/builtin the command must begin with docker pull\)`)
}

func (*registrySuite) TestExitCodes(c *check.C) {
	cause := errors.New("cause")
	for _, trial := range []struct {
		err  error
		code int
		ok   bool
	}{
		{&fault.Error{Side: fault.Request, Err: cause}, 2, true},
		{&fault.Error{Side: fault.Registry, Err: cause}, 1, true},
		{fmt.Errorf("wrapped: %w", &fault.Error{Side: fault.Registry, Err: cause}), 1, true},
		{&fault.Error{Side: fault.Registry, Err: cause, Transient: true}, 0, false},
		{&fault.Error{Side: fault.Registry, Err: &fault.Error{Side: fault.Keep, Transient: true}}, 0, false},
		{&fault.Error{Side: fault.Engine, Err: cause}, 0, false},
		{&fault.Error{Side: fault.Keep, Err: cause}, 0, false},
		{&fault.Error{Side: fault.API, Err: cause}, 0, false},
		{cause, 0, false},
	} {
		code, ok := ExitCode(trial.err)
		c.Check(code, check.Equals, trial.code, check.Commentf("%v", trial.err))
		c.Check(ok, check.Equals, trial.ok, check.Commentf("%v", trial.err))
	}
}
