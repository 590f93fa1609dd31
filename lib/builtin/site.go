// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"github.com/dustin/go-humanize"
	"github.com/goccy/go-yaml"
)

// DefaultSiteFile is where a node keeps its Site.
const DefaultSiteFile = "/etc/arvados/builtin.yml"

// Site is the site file: what the administrator decides about builtin
// commands. Every key may be left out; the zero Site, after LoadSite, has the
// defaults named below.
type Site struct {
	// StockCrunchRun is the program that runs every other container.
	// Default: /usr/bin/crunch-run.
	StockCrunchRun string `yaml:"stock_crunch_run"`
	// BuiltinImages are portable data hashes of image collections that mean
	// the same as the image arvados/builtin. API servers that resolve image
	// names before the front sees them need it. Default: none.
	BuiltinImages []string `yaml:"builtin_images"`
	// Links says whether the links docker_image_hash and
	// docker_image_repo+tag are written beside the properties: "auto"
	// (default: unless the API server resolves images by properties),
	// "always" or "never".
	Links  string     `yaml:"links"`
	Pull   SitePull   `yaml:"pull"`
	Engine SiteEngine `yaml:"engine"`
}

// SitePull is the part of the site file about docker pull.
type SitePull struct {
	// Source is "registry" (straight from the registry), "engine" (by the
	// node's Docker Engine) or "auto" (default: registry, and engine when
	// the registry cannot be reached from here or refuses).
	Source string `yaml:"source"`
	// Registries, when not empty, are the only ones that may be used; see
	// registry.Options for what an entry may be. Hosts with private or
	// loopback addresses can be used only when they are listed by name.
	Registries []string `yaml:"registries"`
	// Credentials is a docker config.json on the node, for registries that
	// the request's own credentials say nothing of. Default: none.
	Credentials string `yaml:"credentials"`
	// MaxSize bounds the bytes that a pull may download: a number of bytes,
	// or "50GiB". Default: no bound.
	MaxSize Bytes `yaml:"max_size"`
}

// SiteEngine is the part of the site file about the node's Docker Engine.
type SiteEngine struct {
	// Host is the engine's address. Default: unix:///var/run/docker.sock.
	Host string `yaml:"host"`
}

// Bytes is a size in bytes, in YAML a number or a text such as "50GiB".
type Bytes int64

// UnmarshalYAML reads a number or a text with a unit.
func (b *Bytes) UnmarshalYAML(text []byte) error {
	n, err := humanize.ParseBytes(strings.Trim(strings.TrimSpace(string(text)), `"'`))
	if err != nil {
		return fmt.Errorf("not a size such as 50GiB: %w", err)
	}
	*b = Bytes(n)
	return nil
}

// LoadSite reads the site file at path; a file that is not there is the empty
// one. Errors name line, key and what is allowed.
func LoadSite(path string) (Site, error) {
	buf, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return Site{}, &fault.Error{Op: "read site file", Subject: path, Err: err}
	}
	site, err := ParseSite(buf)
	if err != nil {
		return Site{}, &fault.Error{Op: "read site file", Subject: path, Err: err}
	}
	return site, nil
}

// ParseSite decodes a site file and fills in the defaults.
func ParseSite(text []byte) (Site, error) {
	var site Site
	err := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict()).Decode(&site)
	if err != nil && !errors.Is(err, io.EOF) {
		return Site{}, err
	}
	if site.StockCrunchRun == "" {
		site.StockCrunchRun = "/usr/bin/crunch-run"
	}
	if site.Engine.Host == "" {
		site.Engine.Host = "unix:///var/run/docker.sock"
	}
	for _, choice := range []struct {
		key     string
		value   *string
		allowed []string // the first is the default
	}{
		{"links", &site.Links, []string{"auto", "always", "never"}},
		{"pull.source", &site.Pull.Source, []string{"auto", "registry", "engine"}},
	} {
		if *choice.value == "" {
			*choice.value = choice.allowed[0]
		}
		if !slices.Contains(choice.allowed, *choice.value) {
			return Site{}, fmt.Errorf("%s: %q is none of %s", choice.key, *choice.value, strings.Join(choice.allowed, ", "))
		}
	}
	for i, pdh := range site.BuiltinImages {
		if !pdhPattern.MatchString(pdh) {
			return Site{}, fmt.Errorf("builtin_images[%d]: %q is not a portable data hash", i, pdh)
		}
	}
	return site, nil
}

var pdhPattern = regexp.MustCompile(`^[0-9a-f]{32}\+\d+$`)

// IsBuiltin reports whether containers with this container_image are for
// builtin commands: it is one of the two names, the portable data hash of the
// empty collection, or one that the site has pinned.
func (site Site) IsBuiltin(containerImage string) bool {
	switch containerImage {
	case Image, NoImage, emptyCollection:
		return true
	}
	return slices.Contains(site.BuiltinImages, containerImage)
}

// emptyCollection is the portable data hash of the collection without files.
const emptyCollection = "d41d8cd98f00b204e9800998ecf8427e+0"
