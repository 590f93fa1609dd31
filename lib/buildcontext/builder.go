// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// builder puts a Tree together.
type builder struct {
	entries map[string]Entry // by path
}

func newBuilder() *builder { return &builder{entries: map[string]Entry{}} }

// add takes an entry, and makes the folders that it is in.
func (b *builder) add(e Entry) error {
	if err := checkName(e.Path); err != nil {
		return err
	}
	if strings.ContainsRune(e.Target, 0) {
		return errors.New("the target of the link has a NUL character")
	}
	if was, known := b.entries[e.Path]; known && !(was.Kind == Folder && e.Kind == Folder) {
		return fmt.Errorf("%q is there twice", e.Path)
	}
	var missing []string
	for parent := parentOf(e.Path); parent != ""; parent = parentOf(parent) {
		above, known := b.entries[parent]
		if known && above.Kind == Folder {
			break
		}
		if known {
			return fmt.Errorf("%q is no folder", parent)
		}
		missing = append(missing, parent)
	}
	for _, parent := range missing {
		b.entries[parent] = folder(parent)
	}
	b.entries[e.Path] = e
	return nil
}

// remove takes away what is at a path and below it. The folders above stay.
func (b *builder) remove(name string) {
	if was, known := b.entries[name]; !known || was.Kind != Folder {
		delete(b.entries, name)
		return
	}
	for other := range b.entries {
		if within(other, name) {
			delete(b.entries, other)
		}
	}
}

// tree is all that was added. The builder must not be used after it.
func (b *builder) tree() *Tree {
	entries := make([]Entry, 0, len(b.entries))
	for _, e := range b.entries {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, compare)
	return newTree(entries)
}

// within reports whether name is folder or something in it.
func within(name, folder string) bool {
	return folder == "" || name == folder || strings.HasPrefix(name, folder) && name[len(folder)] == '/'
}

// maxPath is less than a system call takes (PATH_MAX of Linux), so that there is
// room for the folder that a builder unpacks a context in. What it cannot handle
// stops all other builds on its engine.
const maxPath = 3500

// checkName refuses what could lead out of the folder that a tree is unpacked
// in, and what no file system can store.
func checkName(name string) error {
	if len(name) > maxPath {
		return fmt.Errorf("%.200q… is longer than the %d bytes that a path may have", name, maxPath)
	}
	for _, part := range strings.Split(name, "/") {
		if part == "" || part == "." || part == ".." || strings.ContainsRune(part, 0) {
			return fmt.Errorf("%.200q is no proper name for a file", name)
		}
	}
	return nil
}

// compare is the order of a tree: the files and links of a folder by name, then
// its folders by name, each with all that is in it. Manifests written by the
// Go SDK and by arv-put list files in the same order, so that blocks are read
// one after the other.
func compare(a, b Entry) int {
	same := 0 // where the first different part begins
	for i := 0; i < len(a.Path) && i < len(b.Path) && a.Path[i] == b.Path[i]; i++ {
		if a.Path[i] == '/' {
			same = i + 1
		}
	}
	partA, _, deepA := strings.Cut(a.Path[same:], "/")
	partB, _, deepB := strings.Cut(b.Path[same:], "/")
	folderA, folderB := deepA || a.Kind == Folder, deepB || b.Kind == Folder
	switch {
	case folderA != folderB && folderB:
		return -1
	case folderA != folderB:
		return 1
	case partA != partB:
		return strings.Compare(partA, partB)
	default: // one is the folder that the other is in
		return len(a.Path) - len(b.Path)
	}
}
