// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"net/http"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/keepfile"
)

// fileTree is the files of a collection; a Path that ends in "/" is an empty
// directory. In what part gives, a file that is itself the part has Path "".
type fileTree []keepfile.File

func readTree(manifest string) (fileTree, error) {
	files, err := keepfile.ParseManifest(manifest)
	if err != nil {
		return nil, refuseAsController(http.StatusBadRequest, "replace_files: %s", err)
	}
	return files, nil
}

// part is what lies at or below a path, with paths relative to it.
func (t fileTree) part(path string) (fileTree, bool) {
	path = strings.Trim(path, "/")
	if path == "" {
		return slices.Clone(t), true
	}
	var part fileTree
	for _, file := range t {
		if file.Path == path {
			return fileTree{{Segments: file.Segments}}, true
		}
		if rest, ok := strings.CutPrefix(file.Path, path+"/"); ok {
			if rest == "" {
				rest = "/"
			}
			part = append(part, keepfile.File{Path: rest, Segments: file.Segments})
		}
	}
	return part, len(part) > 0
}

// below puts a part at a target, "/dir/name" or "/".
func (t fileTree) below(target string) fileTree {
	prefix := strings.Trim(target, "/")
	placed := fileTree{}
	for _, file := range t {
		switch {
		case file.Path == "":
			file.Path = prefix
		case prefix != "":
			file.Path = prefix + "/" + strings.TrimPrefix(file.Path, "/")
		}
		placed = append(placed, file)
	}
	return placed
}

// without removes what lies at or below a target. The directory that it was in
// stays, even if nothing is left there.
func (t fileTree) without(target string) fileTree {
	path := strings.Trim(target, "/")
	kept := slices.DeleteFunc(slices.Clone(t), func(file keepfile.File) bool {
		return path == "" || file.Path == path || strings.HasPrefix(file.Path, path+"/")
	})
	if slash := strings.LastIndex(path, "/"); slash > 0 && len(kept) < len(t) {
		kept = append(kept, keepfile.File{Path: path[:slash+1]})
	}
	return kept
}

// normal leaves out directories that are not empty, and second mentions.
func (t fileTree) normal() []keepfile.File {
	var files []keepfile.File
	for i, file := range t {
		covered := slices.ContainsFunc(t, func(other keepfile.File) bool {
			return strings.HasSuffix(file.Path, "/") && other.Path != file.Path && strings.HasPrefix(other.Path, file.Path)
		})
		again := slices.ContainsFunc(t[:i], func(other keepfile.File) bool { return other.Path == file.Path })
		if !covered && !again && file.Path != "/" {
			files = append(files, file)
		}
	}
	return files
}
