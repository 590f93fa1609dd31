// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// platform is what an image runs on, in the terms of GOOS and GOARCH.
type platform struct {
	os, arch, variant string
}

// wanted is the platform of a request.
type wanted struct {
	platform
	explicit bool // the user asked for it
}

// String is "linux/arm/v7"; what is missing shows as unknown, as in docker.
func (p platform) String() string {
	text := orUnknown(p.os) + "/" + orUnknown(p.arch)
	if p.variant != "" {
		text += "/" + p.variant
	}
	return text
}

func orUnknown(part string) string {
	if part == "" {
		return "unknown"
	}
	return part
}

var platformPart = regexp.MustCompile(`^[a-z0-9_.-]{1,32}$`)

// sameArch are other names of architectures, as in containerd.
var sameArch = map[string]platform{
	"x86_64":  {arch: "amd64"},
	"x86-64":  {arch: "amd64"},
	"i386":    {arch: "386"},
	"aarch64": {arch: "arm64"},
	"armhf":   {arch: "arm", variant: "v7"},
	"armel":   {arch: "arm", variant: "v6"},
}

// parsePlatform reads "os/arch[/variant]".
func parsePlatform(text string) (wanted, error) {
	if text == "" {
		return wanted{platform: platform{os: "linux", arch: runtime.GOARCH}}, nil
	}
	parts := strings.Split(strings.ToLower(text), "/")
	malformed := len(parts) < 2 || len(parts) > 3 || slices.ContainsFunc(parts, func(part string) bool { return !platformPart.MatchString(part) })
	if malformed {
		return wanted{}, &fault.Error{Op: "read platform", Side: fault.Request, Subject: strconv.Quote(fmt.Sprintf("%.100s", text)),
			Err: errors.New("this is no platform"), Hint: "write os/architecture or os/architecture/variant, for example linux/amd64 or linux/arm/v7"}
	}
	p := platform{os: parts[0], arch: parts[1]}
	if same, ok := sameArch[p.arch]; ok {
		p.arch, p.variant = same.arch, same.variant
	}
	if len(parts) == 3 {
		p.variant = parts[2]
	}
	return wanted{platform: p, explicit: true}, nil
}

// fits says how well an image for has serves w: the higher the better, below
// zero not at all. A processor runs what is made for lower variants of its
// architecture; of the wanted one, the highest is best.
func (w wanted) fits(has platform) int {
	if w.os != has.os || w.arch != has.arch {
		return -1
	}
	want, ok := level(w.arch, w.variant)
	have, known := level(has.arch, has.variant)
	switch {
	case !ok || !known:
		if w.variant == "" || w.variant == has.variant {
			return 0
		}
		return -1
	case have > want:
		return -1
	}
	return have
}

// usualVariant is what is meant when there is none.
var usualVariant = map[string]string{"amd64": "v1", "arm": "v7", "arm64": "v8"}

// level is the number in a variant, or in the one that is meant when there is
// none.
func level(arch, variant string) (int, bool) {
	if variant == "" {
		if variant = usualVariant[arch]; variant == "" {
			return 0, true
		}
	}
	major, _, _ := strings.Cut(strings.TrimPrefix(variant, "v"), ".") // arm64 has v8.1 and so on
	n, err := strconv.Atoi(major)
	return n, err == nil && n > 0
}

// Platforms are the ways in which an image can write a platform, which is given
// as to Resolve: with the variant that is meant when there is none, and without.
// Errors are those of Resolve.
func Platforms(text string) ([]string, error) {
	want, err := parsePlatform(text)
	if err != nil {
		return nil, err
	}
	usual := usualVariant[want.arch]
	if usual == "" || want.variant != "" && want.variant != usual {
		return []string{want.String()}, nil
	}
	want.variant = ""
	return []string{want.String(), want.String() + "/" + usual}, nil
}

// choose fetches the image of an index for a platform.
func (ss *session) choose(ctx context.Context, index *manifest, want wanted) (*manifest, error) {
	best, fit := -1, -1
	var exist []string
	images := slices.DeleteFunc(slices.Clone(index.Manifests), noImage)
	for i, entry := range images {
		if entry.Platform == nil {
			continue
		}
		has := platform{entry.Platform.OS, entry.Platform.Architecture, entry.Platform.Variant}
		exist = append(exist, has.String())
		if n := want.fits(has); n > fit {
			best, fit = i, n
		}
	}
	if len(images) == 1 && images[0].Platform == nil {
		best = 0 // the config will tell
	}
	if best < 0 {
		hint := "name another image"
		if len(exist) > 0 {
			exist = slices.Compact(slices.Sorted(slices.Values(exist)))
			hint = "the image exists for " + strings.Join(exist[:min(len(exist), 50)], ", ") + "; ask for one of these with --platform"
		}
		return nil, &fault.Error{Op: "choose platform", Side: fault.Request, Subject: ss.ref.Familiar(),
			Err: errors.New("there is no image for " + want.String()), Hint: hint}
	}
	digest := string(images[best].Digest)
	if !wellFormed.MatchString(digest) {
		return nil, ss.invalid(manifestOp, index.digest, "the digest of the image for %s is malformed", want)
	}
	m, err := ss.fetch(ctx, digest, digest)
	switch {
	case err != nil:
		return nil, err
	case m.isIndex():
		return nil, ss.invalid(manifestOp, digest, "the index names another index for %s", want)
	case int64(len(m.raw)) != images[best].Size:
		return nil, ss.invalid(manifestOp, digest, "it has %d bytes, but the index says %d", len(m.raw), images[best].Size)
	}
	return m, nil
}

// noImage tells entries of an index that are none for running: attestations,
// which buildx adds, and other kinds of manifests.
func noImage(entry ocispec.Descriptor) bool {
	return entry.Annotations["vnd.docker.reference.type"] != "" ||
		entry.Platform != nil && entry.Platform.OS == "unknown" && entry.Platform.Architecture == "unknown" ||
		entry.ArtifactType != "" && !slices.Contains(configTypes, entry.ArtifactType) ||
		!slices.Contains(imageTypes, entry.MediaType)
}
