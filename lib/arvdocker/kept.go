// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// Image is an image in Keep as docker inspect shows one, by what is known of it
// without reading it.
type Image struct {
	// ID is "sha256:" and 64 digits, as the image's file is named: compute
	// nodes run the image by it.
	ID           string `json:"Id"`
	RepoTags     []string
	Created      string // RFC 3339
	Size         int64  // bytes, unpacked if that is known
	Os           string
	Architecture string
	Variant      string `json:",omitempty"`
	Arvados      struct {
		Collection       string
		Owner            string
		PortableDataHash string
	}
}

// Image finds the image that a user means by a name, a hash or a portable data
// hash; dockerimage.ErrNotFound is in the chain of the error if there is none.
// It makes the links of the image that are not there, so that programs that look
// for links find what they are told of.
func (p *Program) Image(ctx context.Context, name string) (*Image, error) {
	s, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	found, err := s.resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	files, err := keepfile.ParseManifest(found.ManifestText)
	if err != nil {
		return nil, err
	}
	id := strings.TrimSuffix(files[0].Path, ".tar")
	props := found.Properties
	props.Hash = id // what else is recorded would have been passed over
	coll := arvados.Collection{
		UUID: found.UUID, OwnerUUID: found.OwnerUUID, PortableDataHash: found.PDH, CreatedAt: found.CreatedAt,
		FileSizeTotal: files[0].Size(), Properties: props.Map(),
	}
	image := describe(coll).image(id)
	if err := s.writeLinks(ctx, coll, "always"); err != nil {
		// Somebody else's, most likely: it can be used all the same.
		s.say("%s has no links by which other programs find it: %v", name, err)
	}
	return image, nil
}

// Images lists the images in Keep that the user can read, as docker would: each
// once, and each name at one image only, the one that it means. name is "" for
// all, or a name with or without a tag.
func (p *Program) Images(ctx context.Context, name string) ([]*Image, error) {
	var want wanted
	if name != "" {
		var err error
		if want, err = parseWanted(name); err != nil {
			return nil, err
		}
	}
	s, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	var images []*Image
	byID := map[string]*Image{}
	having := map[string][]*Image{} // a name
	for listed, err := range s.list(ctx, want) {
		if err != nil {
			return nil, err
		}
		props := dockerimage.ParseProperties(listed.Properties)
		if listed.hash == "" || props.PDH != "" && props.PDH != listed.PortableDataHash {
			continue // nothing says that it is an image, or it was changed
		}
		image := byID[listed.hash]
		if image == nil {
			image = listed.image(listed.hash)
			image.RepoTags = []string{}
			byID[listed.hash] = image
			images = append(images, image)
		}
		for _, tag := range listed.names {
			if want.fits(tag) && !slices.Contains(image.RepoTags, tag) {
				image.RepoTags = append(image.RepoTags, tag)
				having[tag] = append(having[tag], image)
			}
		}
	}
	for tag, several := range having {
		if len(several) == 1 {
			continue
		}
		meant, err := s.resolve(ctx, tag)
		if err != nil {
			return nil, fmt.Errorf("%s has several images: %w", tag, err)
		}
		for _, image := range several {
			if image.ID != meant.Properties.Hash && image.Arvados.Collection != meant.UUID {
				image.RepoTags = slices.DeleteFunc(image.RepoTags, func(t string) bool { return t == tag })
			}
		}
	}
	return images, nil
}

// image is what Image says of a listed image with that ID.
func (i listedImage) image(id string) *Image {
	props := dockerimage.ParseProperties(i.Properties)
	image := &Image{ID: id, RepoTags: append([]string{}, i.names...), Created: i.made.UTC().Format(time.RFC3339Nano), Size: i.size}
	image.Os, image.Architecture, image.Variant = splitPlatform(props.Platform)
	image.Arvados.Collection, image.Arvados.Owner, image.Arvados.PortableDataHash = i.UUID, i.OwnerUUID, i.PortableDataHash
	return image
}

// splitPlatform takes "os/arch[/variant]" apart.
func splitPlatform(platform string) (os, arch, variant string) {
	os, rest, _ := strings.Cut(platform, "/")
	arch, variant, _ = strings.Cut(rest, "/")
	return os, arch, variant
}
