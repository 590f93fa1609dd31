// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerfile_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"git.arvados.org/arvados.git/lib/dockerfile"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&oracleSuite{})

// oracleSuite asks BuildKit itself which images it would look up.
type oracleSuite struct{}

// lookups stands for the registry, and keeps what is asked for.
type lookups struct {
	mu       sync.Mutex
	names    []string
	triggers map[string][]string // by full name
}

func (l *lookups) ResolveImageConfig(ctx context.Context, name string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.names = append(l.names, name+" "+platforms.Format(*opt.ImageOpt.Platform))
	config := map[string]any{
		"os": "linux", "architecture": "amd64",
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{string(digest.FromString(name))}},
		"config": map[string]any{"OnBuild": l.triggers[name]},
	}
	data, err := json.Marshal(config)
	return name, "", data, err
}

func platform(name, otherwise string) *ocispec.Platform {
	if name == "" {
		name = otherwise
	}
	p := platforms.MustParse(name)
	return &p
}

// ask lets BuildKit convert a Dockerfile, and gives the images it looked up.
func ask(text []byte, opts dockerfile.Options, triggers map[string][]string) ([]string, error) {
	registry := &lookups{triggers: triggers}
	_, err := dockerfile2llb.Dockerfile2LLB(context.Background(), text, dockerfile2llb.ConvertOpt{
		Config:       dockerui.Config{BuildArgs: opts.Args, Target: opts.Target, BuildPlatforms: []ocispec.Platform{*platform(opts.BuildPlatform, "")}},
		MetaResolver: registry, TargetPlatform: platform(opts.TargetPlatform, opts.BuildPlatform),
	})
	slices.Sort(registry.names)
	return slices.Compact(registry.names), err
}

// listed are the images of a recipe as ask names them.
func listed(recipe *dockerfile.Recipe, opts dockerfile.Options) []string {
	var names []string
	for _, u := range recipe.Images {
		platform := platforms.Format(*platform(u.Platform, platforms.Format(*platform(opts.TargetPlatform, opts.BuildPlatform))))
		names = append(names, u.Ref.String()+" "+platform)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// notByBuildKit are refused here for reasons that BuildKit does not know, or
// only when the build runs.
var notByBuildKit = []string{
	"# syntax= names", "BUILDKIT_SYNTAX", "is not allowed", "ssh agent", "the network is none", "depending on a variable",
	"image name", "not taken for the number", "without a host", "NUL byte", "no stage", "no platform",
}

func (*oracleSuite) TestImagesAreThoseThatBuildKitLooksUp(c *check.C) {
	files, err := filepath.Glob("testdata/*.golden")
	c.Assert(err, check.IsNil)
	for _, name := range files {
		text, words, _ := load(c, name)
		opts := parseOptions(c, words)
		recipe, err := dockerfile.Parse(text, opts)
		if opts.TargetPlatform == "a/b/c/d" {
			continue
		}
		names, asked := ask(text, opts, nil)
		if err != nil {
			expected := slices.ContainsFunc(notByBuildKit, func(s string) bool { return strings.Contains(err.Error(), s) })
			c.Check(asked != nil || expected, check.Equals, true, check.Commentf("%s: BuildKit takes it, but: %v", name, err))
			continue
		}
		c.Check(asked, check.IsNil, check.Commentf("%s is taken", name))
		c.Check(names, check.DeepEquals, listed(recipe, opts), check.Commentf("%s", name))

		rewritten, err := recipe.Rewrite(pin)
		c.Assert(err, check.IsNil)
		names, asked = ask(rewritten, opts, nil)
		c.Check(asked, check.IsNil, check.Commentf("%s rewritten", name))
		for _, name := range names {
			c.Check(strings.HasPrefix(name, "pin.test/"), check.Equals, true, check.Commentf("%s", name))
		}
	}
}
