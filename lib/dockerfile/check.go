// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerfile

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/dfgitutil"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// reportRun refuses what a RUN may not ask for, and tells the secrets that it
// needs. Its variables are expanded; some may be in doubt.
func (b *build) reportRun(ins instruction, command *instructions.RunCommand, doubt bool) error {
	switch {
	case instructions.GetSecurity(command) == instructions.SecurityInsecure:
		return b.failIn(ins, errors.New("RUN --security=insecure is not allowed"), "remove the flag")
	case instructions.GetNetwork(command) == instructions.NetworkHost:
		return b.failIn(ins, errors.New("RUN --network=host is not allowed"), "remove the flag")
	case len(instructions.GetDevices(command)) > 0:
		return b.failIn(ins, errors.New("RUN --device is not allowed"), "remove the flag")
	}
	for _, mount := range instructions.GetMounts(command) {
		switch mount.Type {
		case instructions.MountTypeSSH:
			return b.failIn(ins, errors.New("RUN --mount=type=ssh needs an ssh agent, and a container request has none"), "pass the key by --secret, and use RUN --mount=type=secret")
		case instructions.MountTypeSecret:
			if !doubt {
				b.reportSecret(ins, mount)
			}
		}
	}
	return nil
}

// reportSecret finds the id as BuildKit does: source, else id, else the last
// part of the target.
func (b *build) reportSecret(ins instruction, mount *instructions.Mount) {
	id := mount.CacheID
	if mount.Source != "" {
		id = mount.Source
	}
	if id == "" {
		id = path.Base(mount.Target)
	}
	secret := Secret{ID: id, Required: mount.Required, Line: ins.line}
	i := slices.IndexFunc(b.recipe.Secrets, func(s Secret) bool { return s.ID == id })
	switch {
	case i < 0:
		b.recipe.Secrets = append(b.recipe.Secrets, secret)
	case secret.Required && !b.recipe.Secrets[i].Required:
		b.recipe.Secrets[i] = secret
	}
}

// reportURLs looks at the sources of ADD and COPY before their variables are
// expanded.
func (b *build) reportURLs(ins instruction, env *environment) error {
	switch command := ins.parsed.(type) {
	case *instructions.CopyCommand:
		for _, word := range command.SourcePaths {
			if v, err := env.expand(b.lex, word); err == nil && !v.doubt && isHTTP(v.text) {
				return b.failIn(ins, errors.New("COPY takes no URL"), "use ADD")
			}
		}
	case *instructions.AddCommand:
		for _, word := range command.SourcePaths {
			v, err := env.expand(b.lex, word)
			remote := RemoteURL{URL: v.text, Line: ins.line}
			switch host, isURL := remoteHost(v.text); {
			case err != nil || v.doubt:
				// Without its variables it may be refused.
				if local(word) {
					continue
				}
				remote.URL, remote.Unknown = word, true
			case isURL:
				remote.Host = host
			default:
				continue
			}
			if err := b.checkRemote(ins, remote); err != nil {
				return err
			}
			b.recipe.RemoteURLs = append(b.recipe.RemoteURLs, remote)
		}
	}
	return nil
}

func (b *build) checkRemote(ins instruction, remote RemoteURL) error {
	switch {
	case !remote.Unknown && remote.Host == "":
		return b.failIn(ins, errors.New("ADD names a URL without a host"), "write scheme://host/path")
	case remote.Unknown && b.opts.NetworkNone:
		return b.failIn(ins, errors.New("ADD may name a URL, depending on a variable of the base image, and the network is none"), "write the file's name without that variable, or ./ before it")
	case b.opts.NetworkNone:
		return b.failIn(ins, fmt.Errorf("ADD fetches from %s, and the network is none", remote.Host), "put the file into the build context, or leave --network none out")
	}
	return nil
}

// local reports whether word is a path in the context whatever the variables in
// it are: neither scheme://host nor user@host:path begin like this.
func local(word string) bool {
	start, _, _ := strings.Cut(word, "$")
	return strings.Contains(start, "/") && !strings.ContainsAny(start, ":@")
}

func isHTTP(s string) bool {
	s = strings.ToLower(s)
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")
}

// remoteHost is the host that ADD of s fetches from; ok is false for a path in
// the context.
func remoteHost(s string) (host string, ok bool) {
	ref, isGit, _ := dfgitutil.ParseGitRef(s)
	if ref != nil && ref.IndistinguishableFromLocal {
		isGit = false // a path, for ADD
	}
	if !isHTTP(s) && !isGit {
		return "", false
	}
	if u, err := url.Parse(s); err == nil && u.Host != "" {
		return u.Host, true
	}
	// user@host:path
	if _, rest, found := strings.Cut(s, "@"); found && isGit {
		host, _, _ = strings.Cut(rest, ":")
	}
	return host, true
}
