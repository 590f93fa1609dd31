// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imageref"
	"github.com/docker/docker/api/types/registry"
)

// auth is what a registry wants to know; the zero value is no credentials.
type auth struct {
	registry.AuthConfig
}

// dockerConfig is the part of a docker config.json that is about registries.
// Its keys are host[:port], with a scheme and a path as docker login adds them
// for Docker Hub, or with the start of a repository's path as podman login does.
type dockerConfig struct {
	Auths map[string]struct {
		Auth          string `json:"auth"` // base64 of user:password
		Username      string `json:"username"`
		Password      string `json:"password"`
		IdentityToken string `json:"identitytoken"`
		RegistryToken string `json:"registrytoken"`
	} `json:"auths"`
	CredsStore  string            `json:"credsStore"`
	CredHelpers map[string]string `json:"credHelpers"`
}

// credentialsFor finds the credentials for an image in a docker config.json:
// those with the longest path that fits. Errors quote keys, never values.
func credentialsFor(text []byte, ref imageref.Ref) (auth, error) {
	var config dockerConfig
	if len(text) == 0 {
		return auth{}, nil
	}
	if json.Unmarshal(text, &config) != nil {
		// The parser's message could quote a secret.
		return auth{}, badCredentials(errors.New("it is not a docker config.json"))
	}
	best, helper := "", ""
	for _, key := range slices.Sorted(maps.Keys(config.Auths)) {
		if covers(key, ref) && len(key) > len(best) {
			best = key
			helper = config.CredsStore // if the entry is empty, docker login gave it to the store
		}
	}
	for key, name := range config.CredHelpers {
		if covers(key, ref) {
			helper = name
		}
	}
	entry := config.Auths[best]
	found := auth{registry.AuthConfig{
		Username:      entry.Username,
		Password:      entry.Password,
		IdentityToken: entry.IdentityToken,
		RegistryToken: entry.RegistryToken,
	}}
	if entry.Auth != "" {
		plain, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(entry.Auth), "="))
		user, password, ok := strings.Cut(string(plain), ":")
		if err != nil || !ok {
			return auth{}, badCredentials(fmt.Errorf("auth of %.100q is not the base64 of user:password", best))
		}
		found.Username, found.Password = user, strings.TrimRight(password, "\x00")
	}
	if found == (auth{}) && helper != "" {
		return auth{}, badCredentials(fmt.Errorf("it leaves %s to the credential helper %.50q, which cannot be run here", ref.Domain, helper))
	}
	return found, nil
}

func badCredentials(err error) error {
	return &fault.Error{Op: "read", Side: fault.Request, Subject: "registry credentials", Err: err,
		Hint: `write {"auths": {"registry.example.com": {"auth": "<base64 of user:password>"}}}, as docker login does without a credential store`}
}

// covers reports whether a key of a config.json is for an image.
func covers(key string, ref imageref.Ref) bool {
	if _, rest, ok := strings.Cut(key, "://"); ok {
		key = rest
	}
	host, path, _ := strings.Cut(strings.ToLower(key), "/")
	path = strings.Trim(path, "/")
	if path == "v1" || path == "v2" { // versions of the registry's API
		path = ""
	}
	sameHost := host == strings.ToLower(ref.Domain) || hubHosts[host] && hubHosts[ref.Domain]
	return sameHost && (path == "" || strings.HasPrefix(ref.Path+"/", path+"/"))
}

// hubHosts are the names by which Docker Hub goes.
var hubHosts = map[string]bool{"docker.io": true, "index.docker.io": true, "registry-1.docker.io": true, "registry.hub.docker.com": true}

// header is the value of X-Registry-Auth, "" without credentials.
func (a auth) header() string {
	if a == (auth{}) {
		return ""
	}
	value, err := registry.EncodeAuthConfig(a.AuthConfig)
	if err != nil {
		panic(err) // strings always encode
	}
	return value
}

// scrub takes the secrets out of an engine's message, and makes it one line.
func (a auth) scrub(err error) error {
	text := strings.Join(strings.Fields(err.Error()), " ")
	pair := base64.StdEncoding.EncodeToString([]byte(a.Username + ":" + a.Password))
	for _, secret := range []string{pair, a.Password, a.IdentityToken, a.RegistryToken} {
		if len(secret) >= 4 { // shorter ones would garble ordinary words
			text = strings.ReplaceAll(text, secret, "[secret]")
		}
	}
	return errors.New(text)
}
