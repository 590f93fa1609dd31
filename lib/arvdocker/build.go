// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"git.arvados.org/arvados.git/lib/buildcontext"
	"github.com/spf13/cobra"
)

// buildNeeds is what RUN steps get if the user does not say.
var buildNeeds = resources{ram: 2 << 30, cores: 2}

// Paths of mounts in a request for a build.
const (
	contextMount = "/context"
	recipeMount  = "/Dockerfile"
	secretMounts = "/secrets/"
)

const keepScheme = "keep:"

// buildFlags are docker build's own.
type buildFlags struct {
	file      string
	tags      []string
	buildArgs []string
	labels    []string
	secrets   []string
	target    string
	platform  string
	network   string
	noCache   bool
	pull      bool
}

func (p *Program) buildCommand() *cobra.Command {
	var flags requestFlags
	var build buildFlags
	cmd := &cobra.Command{
		Use:   "build [OPTIONS] FOLDER|keep:PDH[/FOLDER]|URL",
		Short: "Build an image from a Dockerfile into Keep",
		Long: `Build an image from a Dockerfile into Keep, by a container request.

The context is a folder here, a collection, or a git repository
(https://host/path.git#ref:folder). Of a folder, what .dockerignore lets through
goes to Keep, where data that Keep has from builds before is not sent again.
Keep stores neither permissions (every file is executable in the build) nor
links: a link to a file inside becomes a copy, any other link is refused.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if err := checkLinks(flags.links); err != nil {
				return err
			}
			words, err := build.words()
			if err != nil {
				return err
			}
			secrets, secretWords, err := build.secretMounts()
			if err != nil {
				return err
			}
			s, err := p.connect(ctx)
			if err != nil {
				return err
			}
			r, err := s.build(ctx, args[0], &build, append(words, secretWords...), secrets, &flags)
			if err != nil {
				return err
			}
			return s.print(r, &flags)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&build.file, "file", "f", "", `Dockerfile; "-" is standard input (default: Dockerfile in the context)`)
	f.StringArrayVarP(&build.tags, "tag", "t", nil, "name:tag for the image (several times)")
	f.StringArrayVar(&build.buildArgs, "build-arg", nil, "NAME=value for ARG; NAME alone takes it from the environment")
	f.StringArrayVar(&build.labels, "label", nil, "NAME=value in the image's configuration")
	f.StringArrayVar(&build.secrets, "secret", nil, "id=NAME,src=FILE for RUN --mount=type=secret; it goes with the request as a secret mount")
	f.StringVar(&build.target, "target", "", "stage to build")
	f.StringVar(&build.platform, "platform", "", "os/arch[/variant] to build for (default: that of the node)")
	f.StringVar(&build.network, "network", "", "default or none")
	f.BoolVar(&build.noCache, "no-cache", false, "run every step again")
	f.BoolVar(&build.pull, "pull", false, "take images that are built upon from their registries, not from Keep")
	flags.add(cmd)
	return cmd
}

// words are the flags as the container gets them, but for file and secrets.
func (b *buildFlags) words() ([]string, error) {
	var words []string
	for _, tag := range b.tags {
		name, err := tagOf("--tag", tag)
		if err != nil {
			return nil, err
		}
		words = append(words, "--tag", name)
	}
	for _, arg := range b.buildArgs {
		name, _, given := strings.Cut(arg, "=")
		if name == "" {
			return nil, wrong("--build-arg", fmt.Errorf("%q has no name", arg), "write NAME=value")
		}
		if !given {
			value, ok := os.LookupEnv(name)
			if !ok {
				continue // as docker does
			}
			arg = name + "=" + value
		}
		words = append(words, "--build-arg", arg)
	}
	for _, label := range b.labels {
		words = append(words, "--label", label)
	}
	for _, flag := range []struct{ name, value string }{
		{"--target", b.target}, {"--platform", b.platform}, {"--network", b.network},
	} {
		if flag.value != "" {
			words = append(words, flag.name, flag.value)
		}
	}
	if b.noCache {
		words = append(words, "--no-cache")
	}
	if b.pull {
		words = append(words, "--pull")
	}
	return words, nil
}

// build submits the request for a build.
func (s *session) build(ctx context.Context, from string, b *buildFlags, words []string, secrets attrs, f *requestFlags) (*result, error) {
	owner, err := s.checkProject(ctx, f.project)
	if err != nil {
		return nil, err
	}
	credentials, err := f.registryCredentials()
	if err != nil {
		return nil, err
	}
	mounts := attrs{}
	switch {
	case from == "-":
		return nil, wrong("context", errors.New("it cannot come from standard input"), "name a folder or keep:PDH; the Dockerfile alone can: --file - FOLDER")
	case strings.HasPrefix(from, keepScheme) && b.file == "-":
		text, err := readRecipe(b.file, s.Stdin)
		if err != nil {
			return nil, err
		}
		pdh, sub, _ := strings.Cut(strings.TrimPrefix(from, keepScheme), "/")
		mount := attrs{"kind": "collection", "portable_data_hash": pdh}
		if sub != "" {
			mount["path"] = sub
		}
		mounts[contextMount] = mount
		mounts[recipeMount] = attrs{"kind": "text", "content": text}
		words = append(words, "--file", recipeMount, contextMount)
	case strings.HasPrefix(from, keepScheme), buildcontext.IsGitURL(from):
		if b.file != "" {
			words = append(words, "--file", b.file)
		}
		words = append(words, from)
	default:
		folder, err := s.openFolder(ctx, from, b.file)
		if err != nil {
			return nil, err
		}
		defer folder.root.Close()
		pdh, err := s.upload(ctx, folder, owner, f)
		if err != nil {
			return nil, err
		}
		mounts[contextMount] = attrs{"kind": "collection", "portable_data_hash": pdh}
		for path, content := range folder.recipe {
			mounts[path] = attrs{"kind": "text", "content": content}
		}
		words = append(words, "--file", recipeMount, contextMount)
	}
	request, err := f.request(owner, b.title(from), append([]string{"docker", "build"}, words...), buildNeeds, mounts, withCredentials(secrets, credentials))
	if err != nil {
		return nil, err
	}
	request["description"] = describeBuild(len(secrets) > 0 || credentials != nil)
	return s.submit(ctx, request, f)
}

// title names the request.
func (b *buildFlags) title(from string) string {
	if len(b.tags) > 0 {
		return "docker build " + b.tags[0]
	}
	if strings.HasPrefix(from, keepScheme) {
		return "docker build " + from
	}
	if buildcontext.IsGitURL(from) {
		if at, err := buildcontext.ParseGitURL(from); err == nil {
			return "docker build " + at.String() // without what may be a password
		}
		return "docker build"
	}
	if absolute, err := filepath.Abs(from); err == nil {
		from = absolute
	}
	return "docker build " + filepath.Base(from)
}
