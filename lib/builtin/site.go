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
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"github.com/dustin/go-humanize"
	"github.com/goccy/go-yaml"
)

// DefaultSiteFile is where a node keeps its Site.
const DefaultSiteFile = "/etc/arvados/builtin.yml"

// DefaultEngine is the address of the node's Docker Engine, which is also the one
// that stock crunch-run uses.
const DefaultEngine = "unix:///var/run/docker.sock"

// Site is the site file: what the administrator decides about builtin
// commands. Every key may be left out; the zero Site, after LoadSite, has the
// defaults named below.
type Site struct {
	// StockCrunchRun is the program that runs every other container. Default:
	// crunch-run~stock in the front's own folder, else /usr/bin/crunch-run. A
	// front that carries its stock program has no use for it.
	StockCrunchRun string `yaml:"stock_crunch_run"`
	// BuiltinImages are portable data hashes of image collections that mean
	// the same as the image arvados/builtin though they have not its Label.
	// Default: none.
	BuiltinImages []string `yaml:"builtin_images"`
	// ImageID says which digest new images are named by: what the engines of
	// the cluster's nodes call a loaded image, since stock crunch-run starts
	// containers by that name. Default: config.
	ImageID dockerimage.ImageID `yaml:"image_id"`
	// Links says whether the links docker_image_hash and
	// docker_image_repo+tag are written beside the properties: "auto"
	// (default: unless the API server resolves images by properties),
	// "always" or "never".
	Links   string      `yaml:"links"`
	Pull    SitePull    `yaml:"pull"`
	Build   SiteBuild   `yaml:"build"`
	Resolve SiteResolve `yaml:"resolve"`
	Engine  SiteEngine  `yaml:"engine"`
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
	// MaxSize bounds the bytes that a pull may download or, when the engine
	// pulls, that the engine may hand over, usually unpacked: a number of
	// bytes, or "50GiB". Default: no bound.
	MaxSize Bytes `yaml:"max_size"`
}

// SiteBuild is the part of the site file about docker build.
type SiteBuild struct {
	// Enabled: users may build at all. Nil, the default, is true.
	Enabled *bool `yaml:"enabled"`
	// Builder is "engine" (default: the node's Docker Engine) or "private" (a
	// second daemon for each build, in a cgroup and a network namespace of
	// its own, thrown away afterwards).
	Builder string `yaml:"builder"`
	// From says where the images come from that a recipe builds upon:
	// "keep-first" (default: from Keep if it has one of the name, else from
	// the registry), "registry" or "keep-only".
	From string `yaml:"from"`
	// Network is the most that RUN steps and ADD may have: "default" (default)
	// or "none".
	Network string `yaml:"network"`
	// Cache is "none" (default: what a build leaves in the engine's build
	// cache is removed) or "user" (it stays, so that steps which have not
	// changed are not run again; cache mounts are shared by the builds of one
	// user).
	Cache string `yaml:"cache"`
	// CacheSize is the most that the engine's build cache may have after a
	// build if it stays; what was not used for longest goes. Default: 20 GiB.
	CacheSize Bytes      `yaml:"cache_size"`
	Limits    SiteLimits `yaml:"limits"`
}

// SiteLimits bound a build. A zero is no bound.
type SiteLimits struct {
	Time    Duration `yaml:"time"`    // from start to end
	Context Bytes    `yaml:"context"` // of all files sent to the builder
	Size    Bytes    `yaml:"size"`    // of the image, as the builder hands it over
	Layers  int      `yaml:"layers"`  // of the image
	// Resources says what happens where the builder cannot hold RUN steps to
	// the RAM and cores of the request: "warn" (default) or "refuse".
	Resources string `yaml:"resources"`
}

// SiteResolve is the part of the site file about names of images in Keep.
type SiteResolve struct {
	// Trust says whose images a name may mean: "any" (that the user can read),
	// "own" or "site" (own, or of the Owners). Default: any, but site for
	// administrators, who can read everybody's.
	Trust string `yaml:"trust"`
	// Owners are UUIDs of users and projects that everybody trusts.
	Owners []string `yaml:"owners"`
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

// Duration is a time span, in YAML a text such as "90m" or "12h".
type Duration time.Duration

// UnmarshalYAML reads a number with a unit.
func (d *Duration) UnmarshalYAML(text []byte) error {
	n, err := time.ParseDuration(strings.Trim(strings.TrimSpace(string(text)), `"'`))
	if err != nil || n < 0 {
		return fmt.Errorf("not a time span such as 90m: %.50q", text)
	}
	*d = Duration(n)
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
	if site.Build.CacheSize == 0 {
		site.Build.CacheSize = 20 << 30
	}
	if site.Engine.Host == "" {
		site.Engine.Host = DefaultEngine
	}
	for _, choice := range []struct {
		key     string
		value   *string
		allowed []string // the first is the default
	}{
		{"image_id", (*string)(&site.ImageID), []string{string(dockerimage.ByConfig), string(dockerimage.ByManifest)}},
		{"links", &site.Links, []string{"auto", "always", "never"}},
		{"pull.source", &site.Pull.Source, []string{"auto", "registry", "engine"}},
		{"build.builder", &site.Build.Builder, []string{"engine", "private"}},
		{"build.from", &site.Build.From, []string{"keep-first", "registry", "keep-only"}},
		{"build.network", &site.Build.Network, []string{"default", "none"}},
		{"build.cache", &site.Build.Cache, []string{"none", "user"}},
		{"build.limits.resources", &site.Build.Limits.Resources, []string{"warn", "refuse"}},
		{"resolve.trust", &site.Resolve.Trust, []string{"", "any", "own", "site"}},
	} {
		if *choice.value == "" {
			*choice.value = choice.allowed[0]
		}
		if !slices.Contains(choice.allowed, *choice.value) {
			return Site{}, fmt.Errorf("%s: %q is none of %s", choice.key, *choice.value,
				strings.TrimPrefix(strings.Join(choice.allowed, ", "), ", "))
		}
	}
	for i, uuid := range site.Resolve.Owners {
		if !ownerPattern.MatchString(uuid) {
			return Site{}, fmt.Errorf("resolve.owners[%d]: %q is not the UUID of a user or project", i, uuid)
		}
	}
	for i, pdh := range site.BuiltinImages {
		if !pdhPattern.MatchString(pdh) {
			return Site{}, fmt.Errorf("builtin_images[%d]: %q is not a portable data hash", i, pdh)
		}
	}
	return site, nil
}

var (
	pdhPattern   = regexp.MustCompile(`^[0-9a-f]{32}\+\d+$`)
	ownerPattern = regexp.MustCompile(`^[0-9a-z]{5}-(tpzed|j7d0g)-[0-9a-z]{15}$`)
)

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
