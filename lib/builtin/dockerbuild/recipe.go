// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerbuild

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/dockerfile"
	"git.arvados.org/arvados.git/lib/fault"
)

// argEpoch is the build arg by which reproducible builds are asked for: the
// time, in seconds since 1970, that everything new in the image has
// (https://reproducible-builds.org/specs/source-date-epoch/).
const argEpoch = "SOURCE_DATE_EPOCH"

// predefined are build args that RUN steps get without an ARG.
var predefined = []string{
	"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY", "ftp_proxy",
	"NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy",
}

// readRecipe reads the Dockerfile and says what is worth saying about it.
func (b *build) readRecipe(context.Context) error {
	given := maps.Clone(b.Env)
	if given == nil {
		given = map[string]string{}
	}
	maps.Copy(given, b.args)
	recipe, err := dockerfile.Parse(b.text, dockerfile.Options{
		Name:           b.name,
		Args:           given,
		Target:         b.target,
		BuildPlatform:  nodePlatform(),
		TargetPlatform: b.platform,
		NetworkNone:    b.network == "none",
	})
	if err != nil {
		return err
	}
	if recipe.Syntax != "" {
		b.Log.Infof("%s line %d: the engine's own frontend reads the file, whatever version %s asks for", b.name, recipe.SyntaxLine, recipe.Syntax)
	}
	for _, warning := range recipe.Warnings {
		fmt.Fprintf(b.Stdout, "Warning: %s line %d: %s\n", b.name, warning.Line, warning.Text)
	}
	b.recipe, b.given = recipe, given
	return nil
}

// chooseArgs takes of the build args those that mean something to the recipe.
// What is left is no error, as with docker.
func (b *build) chooseArgs(context.Context) error {
	b.passed = map[string]string{}
	for name, value := range b.given {
		if slices.Contains(b.recipe.DeclaredArgs, name) || slices.Contains(predefined, name) {
			b.passed[name] = value
		}
	}
	if text, ok := b.given[argEpoch]; ok {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil || seconds < 0 {
			return builtin.Wrong("build arg "+argEpoch, fmt.Errorf("%q is no time", text), "write seconds since 1970, as in 1767225600")
		}
		epoch := time.Unix(seconds, 0).UTC()
		b.epoch, b.passed[argEpoch] = &epoch, text
	}
	return nil
}

// nodePlatform is what the node's engine builds for. Engines build where they
// run, on Linux.
func nodePlatform() string { return "linux/" + runtime.GOARCH }

// targetPlatform is what is built for.
func (b *build) targetPlatform() string {
	if b.platform != "" {
		return b.platform
	}
	return nodePlatform()
}

// checkDialect refuses a file that an old engine would read differently from
// what was checked.
func (b *build) checkDialect(recent bool) error {
	if b.recipe.RecentSyntax == 0 || recent {
		return nil
	}
	return &fault.Error{Op: "check", Side: fault.Request, Subject: fmt.Sprintf("%s line %d", b.name, b.recipe.RecentSyntax),
		Err:  errors.New("this node's Docker Engine is too old for heredocs and for directives below others"),
		Hint: `write RUN with && and \, and the escape directive on the first line`}
}
