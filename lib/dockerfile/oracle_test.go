// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerfile_test

import (
	"context"
	"encoding/json"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"git.arvados.org/arvados.git/lib/dockerfile"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gopkg.in/check.v1"
)

var _ = check.Suite(&oracleSuite{})

// oracleSuite asks BuildKit itself which images it would look up, and which
// files it would read.
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

// ask lets BuildKit convert a Dockerfile, and gives the images it looked up, and
// what it reads of the build context.
func ask(text []byte, opts dockerfile.Options, triggers map[string][]string) (images, paths []string, err error) {
	registry := &lookups{triggers: triggers}
	result, err := dockerfile2llb.Dockerfile2LLB(context.Background(), text, dockerfile2llb.ConvertOpt{
		Config:       dockerui.Config{BuildArgs: opts.Args, Target: opts.Target, BuildPlatforms: []ocispec.Platform{*platform(opts.BuildPlatform, "")}},
		MetaResolver: registry, TargetPlatform: platform(opts.TargetPlatform, opts.BuildPlatform),
	})
	slices.Sort(registry.names)
	images = slices.Compact(registry.names)
	if err == nil {
		paths = contextPaths(result.State)
	}
	return images, paths, err
}

// contextPaths are what copies and mounts of a build take from its context.
func contextPaths(state llb.State) (paths []string) {
	def, err := state.Marshal(context.Background())
	if err != nil {
		return nil // it cannot be built: the text is not UTF-8
	}
	ops := map[string]*pb.Op{}
	for _, data := range def.Def {
		op := &pb.Op{}
		if err := op.UnmarshalVT(data); err != nil {
			panic(err)
		}
		ops[string(digest.FromBytes(data))] = op
	}
	for _, op := range ops {
		fromContext := func(input int64) bool {
			return input >= 0 && int(input) < len(op.Inputs) && ops[op.Inputs[input].Digest].GetSource().GetIdentifier() == "local://context"
		}
		for _, action := range op.GetFile().GetActions() {
			if fromContext(action.SecondaryInput) {
				paths = append(paths, path.Join(".", action.GetCopy().Src))
			}
		}
		for _, mount := range op.GetExec().GetMounts() {
			if fromContext(mount.Input) {
				paths = append(paths, path.Join(".", mount.Selector))
			}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// covered reports whether a recipe lists all these paths of the context.
func covered(recipe *dockerfile.Recipe, paths []string) bool {
	return slices.Equal(recipe.ContextPaths, []string{"."}) ||
		!slices.ContainsFunc(paths, func(name string) bool { return !slices.Contains(recipe.ContextPaths, name) })
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
		names, paths, asked := ask(text, opts, nil)
		if err != nil {
			expected := slices.ContainsFunc(notByBuildKit, func(s string) bool { return strings.Contains(err.Error(), s) })
			c.Check(asked != nil || expected, check.Equals, true, check.Commentf("%s: BuildKit takes it, but: %v", name, err))
			continue
		}
		c.Check(asked, check.IsNil, check.Commentf("%s is taken", name))
		c.Check(names, check.DeepEquals, listed(recipe, opts), check.Commentf("%s", name))
		c.Check(covered(recipe, paths), check.Equals, true, check.Commentf("%s: BuildKit reads %q of the context", name, paths))

		rewritten, err := recipe.Rewrite(pin)
		c.Assert(err, check.IsNil)
		names, _, asked = ask(rewritten, opts, nil)
		c.Check(asked, check.IsNil, check.Commentf("%s rewritten", name))
		for _, name := range names {
			c.Check(strings.HasPrefix(name, "pin.test/"), check.Equals, true, check.Commentf("%s", name))
		}
	}
}
