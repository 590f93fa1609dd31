// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/keepfile"
)

// replaceFiles makes a manifest of the parameter "replace_files": an object of
// targets ("/dir/name", "/") and sources: "" to delete, "PDH/path",
// "manifest_text/path" (the manifest sent along), "current/path" (the
// collection as it is).
func (s *Server) replaceFiles(tx *Tx, c *Call) error {
	raw := c.Params["replace_files"]
	if len(raw) == 0 {
		return nil
	}
	var wanted map[string]string
	if err := json.Unmarshal(raw, &wanted); err != nil {
		return refuseAsController(http.StatusInternalServerError, "transcode: %s", err)
	}
	if len(wanted) == 0 {
		return nil
	}
	targets, err := replaceTargets(wanted)
	if err != nil {
		return err
	}
	sources := &fileSources{server: s, tx: tx, call: c, loaded: map[string]fileTree{}}
	if given := Params(c.Attrs).String("manifest_text"); given != "" {
		if !slices.ContainsFunc(targets, func(target string) bool { return strings.HasPrefix(wanted[target], "manifest_text/") }) {
			return refuseAsController(http.StatusBadRequest, "invalid request: attrs['manifest_text'] was provided, but would not be used because it is not referenced by any 'replace_files' entry")
		}
		if sources.loaded["manifest_text"], err = readTree(given); err != nil {
			return err
		}
	}
	if sources.loaded["current"], err = sources.current(); err != nil {
		return err
	}
	tree := sources.loaded["current"]
	if _, all := wanted["/"]; all {
		tree = nil
	}
	for _, target := range targets {
		if wanted[target] == "" {
			tree = tree.without(target)
			continue
		}
		part, err := sources.find(wanted[target], target)
		if err != nil {
			return err
		}
		tree = append(tree.without(target), part.below(target)...)
	}
	manifest, err := json.Marshal(keepfile.FormatManifest(tree.normal()))
	c.Attrs["manifest_text"] = manifest
	return err
}

// replaceTargets are the targets in the order in which they are replaced,
// deletions first.
func replaceTargets(wanted map[string]string) ([]string, error) {
	var targets []string
	for target := range wanted {
		targets = append(targets, target)
		if target == "/" {
			continue
		}
		if !strings.HasPrefix(target, "/") || strings.HasSuffix(target, "/") || strings.Contains(target, "//") || hasDots(target) {
			return nil, refuseAsController(http.StatusBadRequest, "invalid replace_files target: %q", target)
		}
		for i := range target {
			outer := max(target[:i], "/") // "/" for the root itself
			if target[i] == '/' && wanted[outer] != "" {
				return nil, refuseAsController(http.StatusBadRequest, "replace_files: cannot operate on target %q inside non-empty target %q", target, outer)
			}
		}
	}
	slices.Sort(targets)
	slices.SortStableFunc(targets, func(a, b string) int { return min(len(wanted[a]), 1) - min(len(wanted[b]), 1) })
	return targets, nil
}

// fileSources are collections to take files from.
type fileSources struct {
	server *Server
	tx     *Tx
	call   *Call
	loaded map[string]fileTree
}

// current is the collection as it is, nothing for a new one.
func (f *fileSources) current() (fileTree, error) {
	if f.call.UUID == "" {
		return nil, nil
	}
	rec, err := get(f.tx, f.call, kinds[collections])
	if err != nil {
		return nil, err
	}
	return f.read(rec)
}

// read signs what the caller may read, so that the new manifest passes the
// check of signatures.
func (f *fileSources) read(rec Record) (fileTree, error) {
	if err := f.server.prepareCollection(f.tx, f.call, rec); err != nil {
		return nil, err
	}
	return readTree(rec["manifest_text"].(string))
}

// find is the files of "SRC/path", with paths relative to that.
func (f *fileSources) find(source, target string) (fileTree, error) {
	from, path, _ := strings.Cut(source, "/")
	tree, ok := f.loaded[from]
	if !ok {
		parts := hashPattern.FindStringSubmatch(from)
		if parts == nil {
			return nil, refuseAsController(http.StatusBadRequest, "invalid source %q for replace_files[%q]: must be \"\" or \"SRC\" or \"SRC/path\" where SRC is \"current\", \"manifest_text\", or a portable data hash", source, target)
		}
		found, err := f.tx.List(collections, Query{
			Filters: []Filter{Where("portable_data_hash", "=", parts[1])}, Reader: f.call.Caller, Limit: 1, Whole: true,
		})
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, refuseAsController(http.StatusNotFound, "not found")
		}
		if tree, err = f.read(found[0]); err != nil {
			return nil, err
		}
		f.loaded[from] = tree
	}
	part, exists := tree.part(path)
	switch {
	case exists:
		return part, nil
	case from == "current":
		return nil, refuseAsController(http.StatusBadRequest, "replace_files: nonexistent source %q", source)
	}
	return nil, refuseAsController(http.StatusBadRequest, "error getting snapshot of %q from %q: file does not exist", path, from)
}
