// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun_test

import (
	"net/http"
	"strings"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/imagesource/registrytest"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"gopkg.in/check.v1"
)

// onlyEngines is a registry that answers nobody but the node's engine, as a mirror of
// that may be the only one that does.
func onlyEngines(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	if strings.HasPrefix(r.UserAgent(), "docker/") {
		serve(w, r)
		return
	}
	registrytest.Status(http.StatusServiceUnavailable)(w, r, serve)
}

// By the node's engine an image comes into Keep as well, and what the site allows
// holds for it, too. That it is too large is not mended by another try.
func (s *lifeSuite) TestPullByTheEngine(c *check.C) {
	s.registry.Always("/app/", onlyEngines)
	const tooLarge = `request: pull \S+/app:1: the image has more than 1.0 MiB \(this site allows no more \(pull.max_size\), as the node's Docker Engine hands it over\)`
	for _, t := range []struct {
		what, source string
		most         builtin.Bytes
		error        string
	}{
		{"without a limit", "engine", 0, ""},
		{"within the limit", "engine", 100 * mib, ""},
		{"larger than the site allows", "engine", mib, tooLarge},
		{"only the engine can have it", "auto", 100 * mib, ""},
		{"only the engine can have it, and it is larger than the site allows", "auto", mib, tooLarge},
	} {
		s.site.Pull.Source, s.site.Pull.MaxSize = t.source, t.most
		e := s.pull(c, "app:1")
		about := check.Commentf("%s: %v\n%s", t.what, e, e.logs["crunch-run.txt"])
		c.Check(e.ctr.State, check.Equals, arvados.ContainerStateComplete, about)
		c.Check(e.problem, check.Matches, t.error, about)
		if t.error == "" {
			c.Check(e.exit, check.Equals, 0.0, about)
			c.Check(e.output, check.NotNil, about)
		} else {
			c.Check(e.exit, check.Equals, 2.0, about)
			c.Check(e.output, check.IsNil, about)
		}
	}
}
