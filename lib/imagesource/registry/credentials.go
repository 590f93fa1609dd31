// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
)

// CredentialsPath is where docker looks for credentials in a container, and so
// the secret mount that users put them in. It is for messages; the package
// reads no file.
const CredentialsPath = "/root/.docker/config.json"

// credentials are the parts of a docker config.json that are about registries.
type credentials struct {
	entries []entry           // sorted by key
	store   string            // helper for every registry
	helpers map[string]string // helper by key
}

// entry is the login for one key of "auths".
type entry struct {
	key  string
	host string // in the form of address()
	path string // "" for the whole registry, else the start of repositories
	login
}

// login is how to identify oneself to a registry; at most one of the three
// ways is used, the last one first.
type login struct {
	username, password string
	identityToken      string // is exchanged for a token (OAuth 2)
	registryToken      string // is the token
}

func (l login) empty() bool { return l == login{} }

// parseCredentials reads a docker config.json; nil has none. Its errors quote
// keys, never values.
func parseCredentials(text []byte) (credentials, error) {
	var c credentials
	if len(text) == 0 {
		return c, nil
	}
	var file struct {
		Auths map[string]struct {
			Auth          string `json:"auth"`
			Username      string `json:"username"`
			Password      string `json:"password"`
			IdentityToken string `json:"identitytoken"`
			RegistryToken string `json:"registrytoken"`
		} `json:"auths"`
		CredsStore  string            `json:"credsStore"`
		CredHelpers map[string]string `json:"credHelpers"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		problem := "its entries have not the types of a docker config.json"
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			problem = fmt.Sprintf("it is not JSON (at byte %d)", syntax.Offset)
		}
		return c, badCredentials(problem)
	}
	c.store, c.helpers = file.CredsStore, file.CredHelpers
	for key, auth := range file.Auths {
		e := entry{key: key, login: login{auth.Username, auth.Password, auth.IdentityToken, auth.RegistryToken}}
		e.host, e.path = splitKey(key)
		if auth.Auth != "" {
			decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(auth.Auth), "="))
			user, password, ok := strings.Cut(string(decoded), ":")
			if err != nil || !ok {
				return c, badCredentials(fmt.Sprintf("auth of %.100q is not the base64 of user:password", key))
			}
			e.username, e.password = user, strings.TrimRight(password, "\x00")
		}
		c.entries = append(c.entries, e)
	}
	sort.Slice(c.entries, func(i, j int) bool { return c.entries[i].key < c.entries[j].key })
	return c, nil
}

func badCredentials(problem string) error {
	return &fault.Error{Op: "read registry credentials", Side: fault.Request, Subject: CredentialsPath, Err: errors.New(problem),
		Hint: `write {"auths": {"registry.example.com": {"auth": "<base64 of user:password>"}}}, as docker login does without a credential store`}
}

// splitKey takes a key of "auths" apart: "host", "host:port", "https://host/v1/"
// or, as podman writes it, "host/path/of/repository".
func splitKey(key string) (host, path string) {
	scheme := "https"
	if s, rest, ok := strings.Cut(key, "://"); ok {
		scheme, key = strings.ToLower(s), rest
	}
	host, path, _ = strings.Cut(key, "/")
	path = strings.Trim(path, "/")
	if path == "v1" || path == "v2" { // versions of the API
		path = ""
	}
	return address(scheme, apiHost(host)), path
}

// apiHost is where the API of a registry is, host:port. Docker Hub goes by
// several names.
func apiHost(domain string) string {
	switch domain {
	case "docker.io", "registry-1.docker.io", "registry.hub.docker.com":
		return hubHost
	}
	return domain
}

const hubHost = "index.docker.io"

// login finds what to show to the registry for a repository: the entry with
// the longest path that fits; none is no error. A credential helper is not
// run, but is named in the error if the entry is left to it.
func (c credentials) login(domain, repository string) (login, error) {
	host := address("https", apiHost(domain))
	best := -1
	for i, e := range c.entries {
		fits := e.host == host && (e.path == "" || strings.HasPrefix(repository+"/", e.path+"/"))
		if fits && (best < 0 || len(e.path) > len(c.entries[best].path) || c.entries[best].empty()) {
			best = i
		}
	}
	if best >= 0 && !c.entries[best].empty() {
		return c.entries[best].login, nil
	}
	helper := ""
	if best >= 0 {
		helper = c.store // docker login leaves an empty entry for what it gave to the store
	}
	for key, name := range c.helpers {
		if at, _ := splitKey(key); at == host {
			helper = name
		}
	}
	if helper == "" {
		return login{}, nil
	}
	return login{}, &fault.Error{Op: "read registry credentials", Side: fault.Request, Subject: CredentialsPath,
		Err:  fmt.Errorf("it leaves %s to the credential helper %.50q, which cannot be run here", domain, helper),
		Hint: fmt.Sprintf(`write the credentials themselves: {"auths": {%q: {"auth": "<base64 of user:password>"}}}`, keyFor(domain))}
}

// keyFor is the key under which docker login files a registry.
func keyFor(domain string) string {
	if apiHost(domain) == hubHost {
		return "https://index.docker.io/v1/"
	}
	return domain
}

// keys are the registries there is something for.
func (c credentials) keys() []string {
	var keys []string
	for _, e := range c.entries {
		if !e.empty() {
			keys = append(keys, e.key)
		}
	}
	return keys
}

// hide replaces every secret in a text, longer ones first.
func (c credentials) hide() *strings.Replacer {
	var secrets []string
	for _, e := range c.entries {
		pair := base64.StdEncoding.EncodeToString([]byte(e.username + ":" + e.password))
		for _, secret := range []string{e.password, e.identityToken, e.registryToken, pair} {
			if len(secret) >= 4 { // shorter ones would garble ordinary words
				secrets = append(secrets, secret)
			}
		}
	}
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, secret := range secrets {
		pairs = append(pairs, secret, "[secret]")
	}
	return strings.NewReplacer(pairs...)
}
