// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package ordinary

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"git.arvados.org/arvados.git/lib/builtinrun"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imagesource/engine"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// mounts are a container's mounts as folders and files on this machine.
type mounts struct {
	dir            string // temporary folder for all of them
	made           int    // files and folders in it
	output         string // the folder behind output_path
	binds          []engine.Bind
	stdin          io.Reader
	stdout, stderr io.Writer
	open           []io.Closer
}

func prepareMounts(ctx context.Context, s *builtinrun.Session, dir string) (*mounts, error) {
	m := &mounts{dir: dir, stdout: s.Stdout, stderr: s.Stderr}
	all := map[string]arvados.Mount{}
	for target, mount := range s.Container.Mounts {
		all[target] = mount
	}
	for target, mount := range s.Secrets {
		all[target] = mount
	}
	var targets []string
	for target := range all {
		targets = append(targets, target)
	}
	sort.Strings(targets) // outer ones first, and the streams last
	for _, target := range targets {
		if err := m.prepare(ctx, s, target, all[target]); err != nil {
			m.close()
			return nil, fmt.Errorf("mount %s: %w", target, err)
		}
	}
	return m, nil
}

func (m *mounts) prepare(ctx context.Context, s *builtinrun.Session, target string, mount arvados.Mount) error {
	host := filepath.Join(m.dir, fmt.Sprint(m.made))
	m.made++
	bind := engine.Bind{Host: host, Container: target, ReadOnly: !mount.Writable}
	switch mount.Kind {
	case "tmp":
		bind.ReadOnly = false
		if err := makeShared(host); err != nil {
			return err
		}
	case "collection":
		if err := makeShared(host); err != nil {
			return err
		}
		id := mount.PortableDataHash
		if id == "" {
			id = mount.UUID
		}
		if id != "" {
			manifest, err := s.Manifest(ctx, id)
			if err != nil {
				return err
			}
			if err := copyFiles(ctx, s.Keep, manifest, host); err != nil {
				return err
			}
		}
		bind.Host = filepath.Join(host, filepath.FromSlash(path.Clean("/"+mount.Path)))
		if target == "stdin" {
			f, err := os.Open(bind.Host)
			if err != nil {
				return err
			}
			m.stdin, m.open = f, append(m.open, f)
			return nil
		}
	case "json", "text":
		content, ok := mount.Content.(string)
		if mount.Kind == "json" || !ok {
			buf, err := json.Marshal(mount.Content)
			if err != nil {
				return err
			}
			content = string(buf)
		}
		if err := os.WriteFile(host, []byte(content), 0644); err != nil {
			return err
		}
		if target == "stdin" {
			m.stdin = strings.NewReader(content)
			return nil
		}
	case "file":
		return m.redirect(s, target, mount.Path)
	default: // "keep", and what newer servers may know: ignored, as crunch-run does
		return nil
	}
	_, secret := s.Secrets[target]
	if rel, ok := below(target, s.Container.OutputPath); ok && m.output != "" && !secret {
		// Part of the output: it is put there, not mounted over it. Secrets
		// are not, and must not get into Keep.
		inside := filepath.Join(m.output, filepath.FromSlash(rel))
		if err := os.MkdirAll(filepath.Dir(inside), 0777); err != nil {
			return err
		}
		return os.Rename(bind.Host, inside)
	}
	m.binds = append(m.binds, bind)
	if target == s.Container.OutputPath {
		m.output = bind.Host
	}
	return nil
}

// redirect sends stdout or stderr to a file below the output path.
func (m *mounts) redirect(s *builtinrun.Session, target, file string) error {
	rel, ok := below(file, s.Container.OutputPath)
	if !ok || m.output == "" {
		return fmt.Errorf("%s is not below the output path", file)
	}
	root, err := os.OpenRoot(m.output)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.MkdirAll(path.Dir(rel), 0777); err != nil {
		return err
	}
	f, err := root.Create(rel)
	if err != nil {
		return err
	}
	m.open = append(m.open, f)
	if target == "stdout" {
		m.stdout = f
	} else {
		m.stderr = f
	}
	return nil
}

// below is the path of something in a folder, relative to that.
func below(name, dir string) (rel string, ok bool) {
	return strings.CutPrefix(path.Clean(name), path.Clean(dir)+"/")
}

func (m *mounts) close() {
	for _, c := range m.open {
		c.Close()
	}
}

// makeShared makes a folder that any user in the container may write to, as
// crunch-run does.
func makeShared(dir string) error {
	if err := os.Mkdir(dir, 0777); err != nil {
		return err
	}
	return os.Chmod(dir, 0777|fs.ModeSetgid)
}

// copyFiles writes the files of a collection below dir.
func copyFiles(ctx context.Context, keep keepfile.BlockReader, manifest, dir string) error {
	files, err := keepfile.ParseManifest(manifest)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, file := range files {
		name := path.Clean(file.Path)
		if err := root.MkdirAll(path.Dir(name), 0755); err != nil {
			return err
		}
		out, err := root.Create(name)
		if err != nil {
			return err
		}
		in := keepfile.NewReader(ctx, keep, file)
		_, err = io.Copy(out, in)
		if err = errors.Join(err, in.Close(), out.Close()); err != nil {
			return err
		}
	}
	return nil
}

// capture stores the output folder in Keep and returns its manifest. Links are
// followed within the folder; a link that leads out of it is left out, and the
// log says so.
func (m *mounts) capture(ctx context.Context, s *builtinrun.Session) (string, error) {
	for _, c := range m.open { // redirected streams belong to the output
		c.Close()
	}
	if m.output == "" {
		return "", fmt.Errorf("output path %s is not a mount", s.Container.OutputPath)
	}
	root, err := os.OpenRoot(m.output)
	if err != nil {
		return "", err
	}
	defer root.Close()
	classes := s.Container.OutputStorageClasses
	if len(classes) == 0 {
		classes = nil // the cluster's default ones; an empty list would mean none
	}
	pack := keepfile.NewPacker(ctx, keepfile.NewWriter(s.Keep, dockerimage.BlocksInFlight(), arvados.BlockWriteOptions{StorageClasses: classes}))
	defer pack.Abort()
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := root.Stat(name)
		if err != nil || !info.Mode().IsRegular() {
			s.Log.Warnf("output %s is left out: not a file in the output path", name)
			return nil
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return pack.Add(name, f)
	})
	if err != nil {
		return "", err
	}
	files, err := pack.Close()
	return keepfile.FormatManifest(files), err
}
