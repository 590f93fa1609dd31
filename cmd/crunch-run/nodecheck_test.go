// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"bytes"
	"os"
	"path/filepath"

	"gopkg.in/check.v1"
)

func (s *stockSuite) TestVersionSaysWhatStandsBehind(c *check.C) {
	stdout, _, _, code := s.run(c, "", s.bundle(c), "-version")
	c.Check(code, check.Equals, 0)
	c.Check(stdout, check.Matches, `.*crunch-run~0123 \S+ \(go.*\) with builtin commands \["docker build" "docker pull"\]\nall else: in this program: crunch-run 3.2.1 \(go1.25\)\n`)
}

func (s *stockSuite) TestNodeCheck(c *check.C) {
	for _, trial := range []struct {
		title, site, out, want string // regular expressions
	}{
		{"a node that can do all", "stock_crunch_run: " + s.stock,
			`(?s).*stock +.*/arvados-server: crunch-run 3\.2\.1 \(go1\.25\)\n.*registries: all with public addresses\nengine +unix:///var/run/docker\.sock: Docker Engine .*, API 1\..*image_id +config\ndocker build +builder engine; .*`, ""},
		{"images are named as another engine calls them", "image_id: manifest\nstock_crunch_run: " + s.stock,
			`(?s).*image_id +manifest, but this engine calls loaded images by their config: .*\(set image_id: config if all nodes .*`, ""},
		{"builds are switched off and there is no engine", "stock_crunch_run: " + s.stock + "\nbuild: {enabled: false}\nengine: {host: 'unix:///none'}",
			`(?s).*engine +.*/none.*`, ""},
		{"no engine", "stock_crunch_run: " + s.stock + "\nengine: {host: 'unix:///none'}",
			`(?s).*engine +.*/none.*`, `builds, and pulls that need the engine, cannot run`},
		{"no stock program", "stock_crunch_run: /none",
			`(?s).*stock +stock crunch-run \(/none\) cannot be started: .*`, `ordinary containers cannot run`},
		{"another one of this program as the stock program", "stock_crunch_run: " + s.front,
			`(?s).*stock +stock crunch-run \(.*\) cannot be started: it is a crunch-run with builtin commands itself; name Arvados's own .*`, `ordinary containers cannot run`},
		{"a site file with a mistake", "links: sometimes",
			`(?s).*"sometimes" is none of auto, always, never\n`, `no builtin command can run, and ordinary containers only .*: mend the site file`},
	} {
		site := filepath.Join(c.MkDir(), "builtin.yml")
		c.Assert(os.WriteFile(site, []byte(trial.site+"\n"), 0600), check.IsNil)
		var out bytes.Buffer
		err := nodeCheck(site, &out)
		c.Check(out.String(), check.Matches, trial.out, check.Commentf(trial.title))
		if trial.want == "" {
			c.Check(err, check.IsNil, check.Commentf(trial.title))
		} else {
			c.Check(err, check.ErrorMatches, trial.want, check.Commentf(trial.title))
		}
	}
}
