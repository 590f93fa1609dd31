// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// FromMounts is what a container would see of its mounts: collections, texts
// and JSON values at their paths, a mount below another one instead of what
// that one has there. Mounts that bring no data are passed over (tmp, keep,
// stdin, stdout and stderr, a writable collection that is still empty), and so
// never hide anything. Nothing is read from Keep yet.
func FromMounts(ctx context.Context, api API, keep keepfile.BlockReader, mounts map[string]arvados.Mount) (*Tree, error) {
	m := &mountReader{collections: newCollections(api, keep), builder: newBuilder(), keys: map[string]string{}}
	keys := make([]string, 0, len(mounts))
	for key := range mounts {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int { return strings.Compare(path.Clean(a), path.Clean(b)) })
	for _, key := range keys { // outer ones first
		mount := mounts[key]
		if brings(key, mount) {
			if err := m.mount(ctx, key, mount); err != nil {
				return nil, err
			}
		}
	}
	return m.builder.tree(), nil
}

// brings reports whether a mount is for files that the container reads.
func brings(key string, mount arvados.Mount) bool {
	switch key {
	case "stdin", "stdout", "stderr":
		return false
	}
	switch mount.Kind {
	case "tmp", "keep", "file":
		return false
	case "collection":
		return mount.PortableDataHash != "" || mount.UUID != "" || !mount.Writable
	}
	return true
}

type mountReader struct {
	*collections
	builder *builder
	keys    map[string]string // of the mounts so far, by path
}

func (m *mountReader) mount(ctx context.Context, key string, mount arvados.Mount) error {
	subject := fmt.Sprintf("mounts[%q]", key)
	at := strings.TrimPrefix(path.Clean(key), "/")
	if !strings.HasPrefix(key, "/") || slices.Contains(strings.Split(key, "/"), "..") {
		return refusal("read", subject, "it is not an absolute path", `begin it with "/" and leave out ".."`)
	}
	if other, taken := m.keys[at]; taken {
		return refusal("read", subject, fmt.Sprintf("mounts[%q] is at the same path", other), "leave one of them out")
	}
	m.keys[at] = key
	source, err := m.source(ctx, subject, mount)
	if err != nil {
		return err
	}
	if err := m.place(at, source); err != nil {
		return &fault.Error{Op: "read", Side: fault.Request, Subject: subject, Err: err}
	}
	return nil
}

// source is what a mount brings: entries of which the first one, with an empty
// path, is what appears at the mount's own path.
func (m *mountReader) source(ctx context.Context, subject string, mount arvados.Mount) ([]Entry, error) {
	switch mount.Kind {
	case "collection":
		return m.collection(ctx, subject, mount)
	case "text":
		text, ok := mount.Content.(string)
		if !ok {
			return nil, refusal("read", subject, "its content is no text", `make "content" a string, or the kind "json"`)
		}
		return []Entry{fileInMemory("", plainMode, []byte(text))}, nil
	case "json":
		content, err := json.Marshal(mount.Content) // as crunch-run does
		if err != nil {
			return nil, &fault.Error{Op: "read", Side: fault.Request, Subject: subject, Err: err}
		}
		return []Entry{fileInMemory("", plainMode, content)}, nil
	}
	hint := `use the kinds "collection", "text" and "json"`
	if mount.Kind == "git_tree" {
		hint = "name the git repository in the command instead, as the context: https://host/path.git#ref:folder"
	}
	return nil, refusal("read", subject, fmt.Sprintf("mounts of the kind %q are not supported in a build", mount.Kind), hint)
}

func (m *mountReader) collection(ctx context.Context, subject string, mount arvados.Mount) ([]Entry, error) {
	id := mount.PortableDataHash
	if id == "" {
		id = mount.UUID
	}
	if id == "" {
		return nil, refusal("read", subject, `it has neither "portable_data_hash" nor "uuid"`, "add one of them")
	}
	t, err := m.read(ctx, id, subject)
	if err != nil {
		return nil, err
	}
	top, err := t.Lookup(mount.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refusal("read", subject, fmt.Sprintf("collection %s has no %q", id, mount.Path), `correct "path"`)
	} else if err != nil {
		return nil, &fault.Error{Op: "read", Side: fault.Request, Subject: subject, Err: err}
	}
	entries := []Entry{top}
	if top.Kind == Folder {
		below, err := t.Sub(mount.Path)
		if err != nil {
			return nil, err
		}
		entries = append(entries, below.entries...)
	}
	entries[0].Path = ""
	return entries, nil
}

// place puts entries at a path, instead of what is there.
func (m *mountReader) place(at string, source []Entry) error {
	if at == "" && source[0].Kind != Folder {
		return errors.New("a file cannot be mounted at \"/\"")
	}
	m.builder.remove(at)
	for _, e := range source {
		e.Path = path.Join(at, e.Path)
		if e.Path == "" {
			continue
		}
		if err := m.builder.add(e); err != nil {
			return err
		}
	}
	return nil
}
