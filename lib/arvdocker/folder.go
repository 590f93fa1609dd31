// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"git.arvados.org/arvados.git/lib/buildcontext"
)

// maxRecipe is the most bytes of a Dockerfile, which is a part of the request.
const maxRecipe = 1 << 20

// folder is a build context on this machine.
type folder struct {
	root *os.Root
	name string             // for people
	tree *buildcontext.Tree // what .dockerignore lets through
	// recipe are the text mounts beside the context, by path: the Dockerfile,
	// which .dockerignore may exclude and which may lie elsewhere, and the
	// ignore file that is for this Dockerfile only.
	recipe attrs
}

// openFolder reads what is in a folder. file is --file: as with docker, a path
// from where the user is, not from the folder.
func (s *session) openFolder(ctx context.Context, path, file string) (*folder, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, wrong("context", plain(path, err), "name a folder, keep:PDH, or https://host/path.git")
	}
	f := &folder{root: root, name: path}
	if absolute, err := filepath.Abs(path); err == nil {
		f.name = filepath.Base(absolute)
	}
	if err := f.read(ctx, path, file, s.Stdin); err != nil {
		root.Close()
		return nil, err
	}
	return f, nil
}

func (f *folder) read(ctx context.Context, path, file string, stdin io.Reader) error {
	tree, err := buildcontext.FromFolder(ctx, f.root)
	if err != nil {
		return err
	}
	if file == "" {
		file = filepath.Join(path, "Dockerfile")
		if lower := filepath.Join(path, "dockerfile"); !exists(file) && exists(lower) {
			file = lower
		}
	}
	text, err := readRecipe(file, stdin)
	if err != nil {
		return err
	}
	f.recipe = attrs{recipeMount: text}
	var ignore buildcontext.Ignore
	own := file + buildcontext.IgnoreName
	content, err := os.ReadFile(own)
	switch {
	case file != "-" && err == nil:
		f.recipe[recipeMount+buildcontext.IgnoreName] = string(content)
		ignore, err = buildcontext.ParseIgnore(own, content)
	case file != "-" && !errors.Is(err, fs.ErrNotExist):
		err = wrong(own, plain(own, err), "make it readable")
	default:
		ignore, err = tree.ReadIgnore(ctx, "", "")
	}
	if err != nil {
		return err
	}
	f.tree, err = tree.Filter(ctx, ignore)
	return err
}

// readRecipe reads the Dockerfile.
func readRecipe(file string, stdin io.Reader) (string, error) {
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return "", wrong("--file", plain(file, err), "name the Dockerfile by its path from here, with --file")
		}
		defer opened.Close()
		stdin = opened
	}
	text, err := io.ReadAll(io.LimitReader(stdin, maxRecipe+1))
	switch {
	case err != nil:
		return "", wrong("--file", plain(file, err), "name a file that you can read")
	case len(text) > maxRecipe:
		return "", wrong("--file", fmt.Errorf("%q has more than %d bytes", file, maxRecipe), "name a Dockerfile")
	case !utf8.Valid(text):
		return "", wrong("--file", fmt.Errorf("%q is not UTF-8, and a request can hold nothing else", file), "save it as UTF-8")
	}
	return string(text), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// plain is an error about a file that names it once, as the user has written it.
func plain(path string, err error) error {
	var withPath *fs.PathError
	if errors.As(err, &withPath) {
		err = withPath.Err
	}
	return fmt.Errorf("%q: %s", path, strings.TrimPrefix(err.Error(), "open "))
}
