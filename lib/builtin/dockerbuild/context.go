// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerbuild

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"git.arvados.org/arvados.git/lib/buildcontext"
	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/fault"
)

const (
	keepScheme = "keep:"
	// maxDockerfile is the most bytes of a Dockerfile.
	maxDockerfile = 4 << 20
	// maxGit is the most bytes of a git repository where the site has no
	// limit: it is in memory.
	maxGit = 256 << 20
)

// readContext finds the context and the Dockerfile.
func (b *build) readContext(ctx context.Context) error {
	b.Activity("reading the build context")
	mounts, err := buildcontext.FromMounts(ctx, b.API, b.Keep, b.Mounts)
	if err != nil {
		return err
	}
	var found place
	switch {
	case strings.HasPrefix(b.context, keepScheme):
		found, err = b.inCollection(ctx, mounts)
	case buildcontext.IsGitURL(b.context):
		found, err = b.inRepository(ctx, mounts)
	default:
		found, err = b.inMounts(mounts)
	}
	if err != nil {
		return err
	}
	b.name = found.dockerfile
	b.text, err = found.recipes.ReadFile(ctx, found.dockerfile, maxDockerfile)
	if errors.Is(err, fs.ErrNotExist) {
		return builtin.Wrong("--file", fmt.Errorf("there is no Dockerfile at %q", found.dockerfile), found.hint)
	} else if err != nil {
		return err
	}
	ignore, err := found.ignore(ctx)
	if err != nil {
		return err
	}
	if b.tree, err = found.tree.Filter(ctx, ignore); err != nil {
		return err
	}
	entries, size := b.tree.Size()
	fmt.Fprintf(b.Stdout, "Build context: %s, %d files and folders, %s; recipe %s\n", found.what, entries, builtin.Size(size), b.name)
	if limit := int64(b.Site.Build.Limits.Context); limit > 0 && size > limit {
		return builtin.Wrong("build context", fmt.Errorf("it has %s", builtin.Size(size)),
			fmt.Sprintf("this site allows %s (build.limits.context); exclude what the recipe does not need by a %s file", builtin.Size(limit), buildcontext.IgnoreName))
	}
	return nil
}

// place is where a build's files are.
type place struct {
	what       string             // for people
	tree       *buildcontext.Tree // the context
	recipes    *buildcontext.Tree // that the Dockerfile is in
	folder     string             // of the context in recipes, if it is there
	dockerfile string             // in recipes
	hint       string             // if there is no Dockerfile
}

func (p place) ignore(ctx context.Context) (buildcontext.Ignore, error) {
	ignore, err := p.recipes.ReadIgnore(ctx, p.folder, p.dockerfile)
	if err == nil && ignore.File == "" && p.recipes != p.tree {
		ignore, err = p.tree.ReadIgnore(ctx, "", "")
	}
	return ignore, err
}

// inMounts: the context is all mounts, or what is mounted below a path.
func (b *build) inMounts(mounts *buildcontext.Tree) (place, error) {
	top, err := mounts.Lookup(b.context)
	if errors.Is(err, fs.ErrNotExist) {
		return place{}, builtin.Wrong("context", fmt.Errorf("nothing is mounted at %q", b.context), "mount the files there, or name the path of a mount, keep:PDH, or https://host/path.git")
	} else if err != nil {
		return place{}, err
	}
	p := place{recipes: mounts, folder: top.Path, hint: "mount it, or name the path of the Dockerfile with --file"}
	if top.Kind != buildcontext.Folder {
		if b.file != "" {
			return place{}, builtin.Wrong("context", fmt.Errorf("%q is a file, and --file names another one", b.context), "name a folder as the context")
		}
		p.folder, p.dockerfile = folderOf(top.Path), top.Path
	} else {
		p.dockerfile = b.dockerfileIn(mounts, top.Path)
	}
	p.what = "the mounts below /" + p.folder
	p.tree, err = mounts.Sub(p.folder)
	return p, err
}

// inCollection: the context is "keep:PDH" or "keep:PDH/folder".
func (b *build) inCollection(ctx context.Context, mounts *buildcontext.Tree) (place, error) {
	id, folder, _ := strings.Cut(strings.TrimPrefix(b.context, keepScheme), "/")
	whole, err := buildcontext.FromCollection(ctx, b.API, b.Keep, id)
	if err != nil {
		return place{}, err
	}
	tree, err := whole.Sub(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return place{}, builtin.Wrong("context", fmt.Errorf("collection %s has no folder %q", id, folder), "correct the path in the command")
	} else if err != nil {
		return place{}, err
	}
	return b.elsewhere(b.context, tree, mounts), nil
}

// inRepository: the context is a commit of a git repository.
func (b *build) inRepository(ctx context.Context, mounts *buildcontext.Tree) (place, error) {
	from, err := buildcontext.ParseGitURL(b.context)
	if err != nil {
		return place{}, err
	}
	b.Activity("fetching " + from.Repository)
	limit := int64(b.Site.Build.Limits.Context)
	if limit <= 0 || limit > maxGit {
		limit = maxGit
	}
	tree, commit, err := buildcontext.FromGit(ctx, b.registry.HTTPClient(), from, limit)
	if err != nil {
		return place{}, err
	}
	b.Log.Infof("%s is commit %s", from, commit)
	return b.elsewhere(from.String()+" (commit "+commit+")", tree, mounts), nil
}

// elsewhere is a context that is not mounted. Its Dockerfile may be: an
// absolute path that is mounted means that.
func (b *build) elsewhere(what string, tree, mounts *buildcontext.Tree) place {
	p := place{what: what, tree: tree, recipes: tree, hint: "name its path in the context with --file, or mount it and give its absolute path"}
	p.dockerfile = b.dockerfileIn(tree, "")
	if strings.HasPrefix(b.file, "/") {
		if _, err := mounts.Lookup(b.file); err == nil {
			p.recipes, p.dockerfile = mounts, strings.TrimPrefix(path.Clean(b.file), "/")
		}
	}
	return p
}

// dockerfileIn is where --file, or docker's default, is for a context in a
// folder of the tree.
func (b *build) dockerfileIn(tree *buildcontext.Tree, folder string) string {
	if strings.HasPrefix(b.file, "/") {
		return strings.TrimPrefix(path.Clean(b.file), "/")
	}
	if b.file != "" {
		return path.Join(folder, b.file)
	}
	standard := path.Join(folder, "Dockerfile")
	if _, err := tree.Lookup(standard); errors.Is(err, fs.ErrNotExist) {
		if lower := path.Join(folder, "dockerfile"); exists(tree, lower) {
			return lower
		}
	}
	return standard
}

func exists(tree *buildcontext.Tree, name string) bool {
	_, err := tree.Lookup(name)
	return err == nil
}

func folderOf(name string) string {
	return strings.TrimPrefix(path.Dir("/"+name), "/")
}

// readSecrets gathers what --secret names, and sees whether the recipe needs
// more.
func (b *build) readSecrets(context.Context) error {
	b.secret = map[string][]byte{}
	for id, source := range b.secrets {
		content, ok := b.Secrets[source]
		if !ok {
			return builtin.Wrong("--secret", fmt.Errorf("id %q: there is no secret mount at %q", id, source), fmt.Sprintf("add it to secret_mounts of the request, or correct src; if the request is a copy, made to run another one again, it has lost its secrets: arv-docker build --secret id=%s,src=FILE sends it with them", id))
		}
		b.secret[id] = content
	}
	for _, need := range b.recipe.Secrets {
		if _, ok := b.secret[need.ID]; !ok && need.Required {
			return &fault.Error{Op: "check", Side: fault.Request, Subject: fmt.Sprintf("%s line %d", b.name, need.Line),
				Err: fmt.Errorf("the step needs a secret %q, which is not given", need.ID), Hint: fmt.Sprintf("add --secret id=%s,src=/path and a secret mount at that path", need.ID)}
		}
	}
	return nil
}
