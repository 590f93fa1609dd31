// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerfile_test

import (
	"git.arvados.org/arvados.git/lib/dockerfile"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&contextPathsSuite{})

type contextPathsSuite struct{}

// TestDoubt has what only the variables of a real base image decide, which
// BuildKit refuses without them.
func (*contextPathsSuite) TestDoubt(c *check.C) {
	for _, trial := range []struct {
		step string
		want []string
	}{
		{"RUN --mount=type=$KIND,target=/a true", []string{"."}},
		{"RUN --mount=type=$KIND,target=/a,from=scratch true", nil},
		{"RUN --mount=type=cache,sharing=$SHARING,target=/a true", nil},
		{"RUN --mount=type=bind,type=cache,sharing=$SHARING,target=/a true", nil},
		{"RUN --mount=type=cache,type=bind,ro=$RO,target=/a true", []string{"."}},
		{"RUN --mount=type=cache,ro=$RO,target=/a --mount=source=b,target=/b true", []string{"."}},
		{"RUN --mount=source=$DIR,target=/a true", []string{"."}},
		{"RUN --mount=source=a,target=/a true $DIR", []string{"a"}},
		{"COPY a b$X /", []string{"."}},
		{"COPY ${A:?} /", []string{"."}},
		{"COPY --chown=$OWNER --chmod=$MODE a $DIR/", []string{"a"}},
		{"COPY --from=scratch $X /", nil},
		{"ADD https://example.com/$X /", []string{"."}},
	} {
		recipe, err := dockerfile.Parse([]byte("FROM alpine\n"+trial.step+"\n"), dockerfile.Options{})
		c.Assert(err, check.IsNil, check.Commentf("%s", trial.step))
		c.Check(recipe.ContextPaths, check.DeepEquals, trial.want, check.Commentf("%s", trial.step))
	}
}
