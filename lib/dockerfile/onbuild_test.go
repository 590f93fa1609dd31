// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerfile_test

import (
	"strings"

	"git.arvados.org/arvados.git/lib/dockerfile"
	"git.arvados.org/arvados.git/lib/fault"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&onBuildSuite{})

type onBuildSuite struct{}

func (*onBuildSuite) TestTriggersOfBases(c *check.C) {
	for _, trial := range []struct {
		text     string
		triggers map[string][]string // by the name in text
		opts     string
		want     string // of the description, or of the error
	}{
		{"FROM app\n", map[string][]string{"app": {"COPY . /src", "RUN make"}}, "", "image app = docker.io/library/app:latest, line 1 FROM\ncontext [\".\"]\n"},
		{"FROM app\nCOPY a $B /\n", map[string][]string{"app": {"ENV B=b", "COPY *.txt /src", "RUN --mount=source=c,target=/c make"}}, "", "image app = docker.io/library/app:latest, line 1 FROM\ncontext [\"*.txt\" \"a\" \"b\" \"c\"]\n"},
		// Triggers of an image that is no base do not run.
		{"FROM scratch\nCOPY --from=app /a /\n", map[string][]string{"app": {"COPY . /src"}}, "", "image app = docker.io/library/app:latest, line 2 COPY\n"},
		{"FROM app\n", map[string][]string{"app": {"COPY --from=golang:1 /go /go", "RUN --mount=from=busybox,target=/b true"}}, "", "" +
			"image app = docker.io/library/app:latest, line 1 FROM\n" +
			"image golang:1 = docker.io/library/golang:1, line 1 ONBUILD COPY of app\n" +
			"image busybox = docker.io/library/busybox:latest, line 1 ONBUILD RUN of app\n"},
		// A stage that nothing else needs.
		{"FROM busybox AS tools\nFROM app\n", map[string][]string{"app": {"COPY --from=tools /bin /bin"}}, "", "" +
			"image busybox = docker.io/library/busybox:latest, line 1 FROM\n" +
			"image app = docker.io/library/app:latest, line 2 FROM\n"},
		{"FROM busybox\nFROM app\n", map[string][]string{"app": {"COPY --from=0 /bin /bin"}}, "", "" +
			"image busybox = docker.io/library/busybox:latest, line 1 FROM\n" +
			"image app = docker.io/library/app:latest, line 2 FROM\n"},
		// Triggers of images that are no bases are looked at, too.
		{"FROM alpine\nCOPY --from=app / /\n", map[string][]string{"app": {"COPY --from=deep / /"}, "deep": {"ADD https://example.com/x /", "COPY --from=deeper / /"}}, "network=none", "" +
			"image alpine = docker.io/library/alpine:latest, line 1 FROM\n" +
			"image app = docker.io/library/app:latest, line 2 COPY\n" +
			"image deeper = docker.io/library/deeper:latest, line 2 ONBUILD COPY of deep\n" +
			"image deep = docker.io/library/deep:latest, line 2 ONBUILD COPY of app\n"},
		{"FROM app\nADD $JAR /\n", map[string][]string{"app": {"ENV JAR=https://example.com/a", "ARG TOKEN", "ADD https://example.org/b /b"}}, "", "" +
			"image app = docker.io/library/app:latest, line 1 FROM\n" +
			"url https://example.org/b host \"example.org\" line 1 unknown false\n" +
			"url https://example.com/a host \"example.com\" line 2 unknown false\n" +
			"args TOKEN\n" +
			"warning line 1 ONBUILD ARG TOKEN looks like a secret, and whoever has the image can read it; give it by --secret, and use RUN --mount=type=secret\n"},
		{"FROM app\n", map[string][]string{"app": {"RUN --mount=type=secret,id=x,required true"}}, "", "" +
			"image app = docker.io/library/app:latest, line 1 FROM\nsecret x line 1 required true\n"},
		// The triggers are not for the escape character of this file.
		{"# escape=`\nFROM app\n", map[string][]string{"app": {"RUN --mount=from=\\b\\\nusybox,target=/b true"}}, "", "" +
			"image app = docker.io/library/app:latest, line 2 FROM\n" +
			"image busybox = docker.io/library/busybox:latest, line 2 ONBUILD RUN of app\n"},

		{"FROM alpine\nFROM app\n", map[string][]string{"app": {"ADD https://example.com/x /"}}, "network=none", `request: check Dockerfile line 2: the ONBUILD trigger of app: ADD fetches from example.com, and the network is none (use another base image, or one that was built without this trigger)`},
		{"FROM app\n", map[string][]string{"app": {"WORKDR true"}}, "", `request: check Dockerfile line 1: the ONBUILD trigger of app: unknown instruction: WORKDR (did you mean WORKDIR?) (use another base image, or one that was built without this trigger)`},
		{"FROM app\n", map[string][]string{"app": {"ONBUILD RUN true"}}, "", `ONBUILD ONBUILD isn't allowed`},
		{"FROM app\n", map[string][]string{"app": {"FROM evil"}}, "", `the ONBUILD trigger of app: `},
		{"FROM app\n", map[string][]string{"app": {"RUN true\nFROM evil"}}, "", `there must be one instruction after ONBUILD`},
		{"FROM app\n", map[string][]string{"app": {""}}, "", `the ONBUILD trigger of app: file with no instructions`},
		{"FROM app\n", map[string][]string{"app": {"COPY --from=0 / /"}}, "", `the stage 0 takes files from itself`},
		{"FROM app\n", map[string][]string{"app": {"ARG BUILDKIT_SYNTAX"}}, "", `BUILDKIT_SYNTAX`},
		{"FROM app\n", map[string][]string{"app": {"COPY --from=Bad /a /b"}}, "", `image name "Bad"`},
		{"FROM app\n", map[string][]string{"app": {"RUN --security=insecure true"}}, "", `--security=insecure is not allowed`},
	} {
		opts := parseOptions(c, trial.opts)
		recipe, err := dockerfile.Parse([]byte(trial.text), opts)
		c.Assert(err, check.IsNil, check.Commentf("%s", trial.text))
		again, err := recipe.OnBuild(trial.triggers)
		if err != nil {
			c.Check(fault.SideOf(err), check.Equals, fault.Request)
			c.Check(strings.Contains(err.Error(), trial.want), check.Equals, true, check.Commentf("%s", err))
			continue
		}
		c.Check(describeRecipe(again), check.Equals, trial.want)

		full := map[string][]string{}
		for name, triggers := range trial.triggers {
			full["docker.io/library/"+name+":latest"] = triggers
		}
		asked, paths, err := ask([]byte(trial.text), opts, full)
		c.Check(err, check.IsNil)
		c.Check(covered(again, paths), check.Equals, true, check.Commentf("%s: BuildKit reads %q of the context", trial.text, paths))
		c.Check(asked, check.DeepEquals, listed(again, opts), check.Commentf("%s", trial.text))

		rewritten, err := again.Rewrite(pin)
		c.Assert(err, check.IsNil)
		c.Check(string(rewritten), check.Matches, `(?s).*FROM pin\.test/library-app@sha256:.*|.*COPY --from=pin\.test/library-app@.*`)
	}
}

func (*onBuildSuite) TestPinnable(c *check.C) {
	recipe, err := dockerfile.Parse([]byte("FROM app\nCOPY --from=busybox / /\nCOPY --from=golang / /\n"), dockerfile.Options{})
	c.Assert(err, check.IsNil)
	recipe, err = recipe.OnBuild(map[string][]string{"app": {"COPY --from=busybox / /"}})
	c.Assert(err, check.IsNil)
	pinnable := map[string]bool{}
	for _, u := range recipe.Images {
		pinnable[u.Name] = u.Pinnable()
	}
	c.Check(pinnable, check.DeepEquals, map[string]bool{"app": true, "busybox": false, "golang": true})
}
