// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerbuild

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/imageref"
	"github.com/spf13/pflag"
)

// request is what the words after "docker build" ask for.
type request struct {
	context  string // "" for all mounts
	file     string // --file, "" for the default
	tags     []string
	args     map[string]string // of --build-arg, with the environment's values
	labels   map[string]string
	target   string
	platform string // "os/arch[/variant]", "" for the node's own
	noCache  bool
	pull     bool
	network  string            // "none" or ""
	secrets  map[string]string // paths of secret mounts by id
}

const hintFlags = "docker build takes --file, --tag, --build-arg, --label, --target, --platform, --no-cache, --pull, --network, --secret and one context here"

// parseArgs reads the words after "docker build" as docker does. env is the
// request's environment, which gives --build-arg NAME its value.
func parseArgs(args []string, env map[string]string) (request, error) {
	req := request{args: map[string]string{}, labels: map[string]string{}, secrets: map[string]string{}}
	var tags, buildArgs, labels, secrets []string
	flags := pflag.NewFlagSet("docker build", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	flags.StringVarP(&req.file, "file", "f", "", "")
	flags.StringArrayVarP(&tags, "tag", "t", nil, "")
	flags.StringArrayVar(&buildArgs, "build-arg", nil, "")
	flags.StringArrayVar(&labels, "label", nil, "")
	flags.StringVar(&req.target, "target", "", "")
	flags.StringVar(&req.platform, "platform", "", "")
	flags.BoolVar(&req.noCache, "no-cache", false, "")
	flags.BoolVar(&req.pull, "pull", false, "")
	flags.StringVar(&req.network, "network", "", "")
	flags.StringArrayVar(&secrets, "secret", nil, "")
	if err := flags.Parse(args); err != nil {
		return request{}, builtin.Wrong("command", err, hintFlags)
	}
	if words := flags.Args(); len(words) > 1 {
		return request{}, builtin.Wrong("command", fmt.Errorf("more than one context: %q", words), hintFlags)
	} else if len(words) == 1 {
		req.context = words[0]
	}
	for _, tag := range tags {
		ref, err := imageref.Parse(tag)
		if err != nil {
			return request{}, err
		}
		if ref.Digest != "" {
			return request{}, builtin.Wrong("--tag", fmt.Errorf("%q has a digest, which only the finished image has", tag), "write name:tag")
		}
		if !slices.Contains(req.tags, ref.RepoTag()) {
			req.tags = append(req.tags, ref.RepoTag())
		}
	}
	for _, arg := range buildArgs {
		name, value, given := strings.Cut(arg, "=")
		if name == "" {
			return request{}, builtin.Wrong("--build-arg", fmt.Errorf("%q has no name", arg), "write NAME=value")
		}
		if !given {
			if value, given = env[name]; !given {
				continue // as docker does with a variable that is not set
			}
		}
		req.args[name] = value
	}
	for _, label := range labels {
		name, value, _ := strings.Cut(label, "=")
		if name == "" {
			return request{}, builtin.Wrong("--label", fmt.Errorf("%q has no name", label), "write NAME=value")
		}
		req.labels[name] = value
	}
	for _, secret := range secrets {
		if err := req.addSecret(secret); err != nil {
			return request{}, err
		}
	}
	switch req.network {
	case "", "none":
	case "default":
		req.network = ""
	default:
		return request{}, builtin.Wrong("--network", fmt.Errorf("%q is not allowed", req.network), "write none or default, or leave it out")
	}
	if flags.Changed("platform") {
		if err := builtin.CheckPlatform(req.platform); err != nil {
			return request{}, err
		}
	}
	return req, nil
}

// addSecret reads docker's "id=X,src=/path".
func (req *request) addSecret(text string) error {
	const hint = "write id=NAME,src=/path with the path of a secret mount of the request"
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return builtin.Wrong("--secret", errors.New("it cannot be read"), hint) // the text may hold a secret by mistake
	}
	var id, source string
	for _, field := range fields {
		key, value, _ := strings.Cut(field, "=")
		switch strings.ToLower(key) {
		case "id":
			id = value
		case "src", "source":
			source = value
		case "type":
			if value != "file" {
				return builtin.Wrong("--secret", fmt.Errorf("type %q cannot be had here", value), hint)
			}
		default:
			return builtin.Wrong("--secret", fmt.Errorf("key %q is unknown", key), hint)
		}
	}
	if id == "" || source == "" {
		return builtin.Wrong("--secret", errors.New("it needs both id and src"), hint)
	}
	if _, twice := req.secrets[id]; twice {
		return builtin.Wrong("--secret", fmt.Errorf("id %q is there twice", id), hint)
	}
	req.secrets[id] = source
	return nil
}
