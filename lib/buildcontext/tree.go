// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
)

// Tree is files, folders and symbolic links. It never changes, and may be used
// by several goroutines at a time.
type Tree struct {
	entries []Entry        // sorted
	index   map[string]int // by path
}

func newTree(entries []Entry) *Tree {
	t := &Tree{entries: entries, index: make(map[string]int, len(entries))}
	for i, e := range entries {
		t.index[e.Path] = i
	}
	return t
}

// FromFiles is a tree of files with the given contents, by path.
func FromFiles(files map[string][]byte) (*Tree, error) {
	b := newBuilder()
	for name, content := range files {
		if err := b.add(fileInMemory(name, plainMode, content)); err != nil {
			return nil, &fault.Error{Op: "make a build context", Side: fault.Request, Err: err}
		}
	}
	return b.tree(), nil
}

// Entries are all entries but the tree itself, in the order of the stream: a
// folder comes before what is in it.
func (t *Tree) Entries() iter.Seq[Entry] { return slices.Values(t.entries) }

// Size is the number of entries, and the bytes of all files together.
func (t *Tree) Size() (entries int, bytes int64) {
	for _, e := range t.entries {
		bytes += e.Size
	}
	return len(t.entries), bytes
}

// maxLinks is how many symbolic links Lookup follows, as Linux does
// (path_resolution(7)).
const maxLinks = 40

// Lookup finds what is at a path, with or without a slash at its beginning. It
// follows links as long as they stay in the tree; what it finds is no link. If
// nothing is there, errors.Is(err, fs.ErrNotExist).
func (t *Tree) Lookup(name string) (Entry, error) {
	refuse := func(err error) (Entry, error) {
		return Entry{}, &fault.Error{Op: "find", Side: fault.Request, Subject: fmt.Sprintf("%q", name), Err: err}
	}
	at := folder("")
	links := 0
	for rest := strings.Split(name, "/"); len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch {
		case at.Kind != Folder:
			return refuse(fs.ErrNotExist)
		case part == "" || part == ".":
			continue
		case part == ".." && at.Path == "":
			return refuse(errors.New("the path leads out of the build context"))
		case part == "..":
			at = folder(parentOf(at.Path))
			continue
		}
		i, known := t.index[path.Join(at.Path, part)]
		if !known {
			return refuse(fs.ErrNotExist)
		}
		if t.entries[i].Kind != Symlink {
			at = t.entries[i]
			continue
		}
		target := t.entries[i].Target
		if links++; links > maxLinks {
			return refuse(errors.New("too many symbolic links"))
		}
		if strings.HasPrefix(target, "/") {
			return refuse(fmt.Errorf("the link %q leads out of the build context", t.entries[i].Path))
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, nil
}

// parentOf is the folder that name is in, "" for the tree itself.
func parentOf(name string) string {
	return name[:max(strings.LastIndexByte(name, '/'), 0)]
}

// Sub is the tree in a folder. See Lookup.
func (t *Tree) Sub(name string) (*Tree, error) {
	top, err := t.Lookup(name)
	if err != nil {
		return nil, err
	}
	if top.Kind != Folder {
		return nil, refusal("use as a build context", fmt.Sprintf("%q", name), "it is a file", "name the folder that it is in")
	}
	if top.broken != nil {
		return nil, top.broken
	}
	if top.Path == "" {
		return t, nil
	}
	var entries []Entry
	for _, e := range t.entries {
		if rest, ok := strings.CutPrefix(e.Path, top.Path+"/"); ok {
			e.Path = rest
			entries = append(entries, e)
		}
	}
	return newTree(entries), nil
}

// part is the tree of what is at these paths, and of the folders above.
func (t *Tree) part(paths []string) *Tree {
	keep := make([]bool, len(t.entries))
	for _, name := range paths {
		for ; name != "" && !keep[t.index[name]]; name = parentOf(name) {
			keep[t.index[name]] = true
		}
	}
	var entries []Entry
	for i, e := range t.entries {
		if keep[i] {
			entries = append(entries, e)
		}
	}
	return newTree(entries)
}

// ReadFile is the content of a file of at most so many bytes. See Lookup.
func (t *Tree) ReadFile(ctx context.Context, name string, limit int64) ([]byte, error) {
	e, err := t.Lookup(name)
	if err != nil {
		return nil, err
	}
	if e.Size > limit {
		return nil, refusal("read", fmt.Sprintf("%q", name), fmt.Sprintf("it has %d bytes; at most %d are allowed", e.Size, limit), "")
	}
	r, err := e.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
