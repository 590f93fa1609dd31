// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerbuild

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/dockerfile"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
)

// base is an image that the recipe builds upon, found.
type base struct {
	dockerimage.Base
	image imagetar.Image
}

// findBases finds all images that the recipe needs, and looks at the ONBUILD
// triggers that they bring.
func (b *build) findBases(ctx context.Context) error {
	triggers := map[string][]string{}
	for _, use := range b.recipe.Images {
		found, err := b.find(ctx, use)
		if err != nil {
			return fmt.Errorf("%s line %d, image %s: %w", b.name, use.Places[0].Line, use.Name, err)
		}
		b.bases = append(b.bases, found)
		list, err := onBuild(found)
		if err != nil {
			return err
		}
		if len(list) > 0 { // all those of a name, if it is used for several platforms
			triggers[use.Name] = append(triggers[use.Name], list...)
		}
	}
	recipe, err := b.recipe.OnBuild(triggers)
	if err != nil {
		return err
	}
	for _, use := range recipe.Images {
		if !use.Pinnable() {
			return b.notPinnable(use)
		}
	}
	b.recipe = recipe // with the same images in the same order
	return nil
}

// notPinnable refuses an image that only a trigger names: the engine would
// fetch it by that name, by its own rules.
func (b *build) notPinnable(use dockerfile.Use) error {
	place := use.Places[slices.IndexFunc(use.Places, func(p dockerfile.Place) bool { return p.Base != "" })]
	return &fault.Error{Op: "check", Side: fault.Request, Subject: fmt.Sprintf("%s line %d", b.name, place.Line),
		Err:  fmt.Errorf("an ONBUILD trigger of the image %s takes something from the image %s", place.Base, use.Name),
		Hint: "build upon an image without that trigger, and copy from " + use.Name + " in the recipe itself"}
}

// onBuild are the triggers in an image's config.
func onBuild(found base) ([]string, error) {
	var config struct {
		Config struct{ OnBuild []string }
	}
	if err := json.Unmarshal(found.image.Config, &config); err != nil {
		return nil, &fault.Error{Op: "read config of image", Side: fault.Request, Subject: found.Name, Err: err}
	}
	return config.Config.OnBuild, nil
}

// find finds one image, where the site wants it to come from.
func (b *build) find(ctx context.Context, use dockerfile.Use) (base, error) {
	platform := use.Platform
	if platform == "" {
		platform = b.targetPlatform()
	}
	from := b.Site.Build.From
	if from != "registry" && (!b.pull || from == "keep-only") {
		found, err := b.findInKeep(ctx, use, platform)
		if err == nil || from == "keep-only" || !errors.Is(err, dockerimage.ErrNotFound) {
			return found, err
		}
	}
	b.Activity("resolving " + use.Name)
	image, err := b.registry.Resolve(ctx, use.Ref, platform)
	if err != nil {
		return base{}, err
	}
	var total int64
	for _, layer := range image.Layers {
		total += layer.Size
	}
	if limit := int64(b.Site.Pull.MaxSize); limit > 0 && total > limit {
		return base{}, &fault.Error{Op: "build upon", Side: fault.Request, Subject: use.Name,
			Err: fmt.Errorf("the image has %s", builtin.Size(total)), Hint: fmt.Sprintf("this site allows %s (pull.max_size)", builtin.Size(limit))}
	}
	found := base{Base: dockerimage.Base{Name: use.Name, Hash: digestOf(image.Config)}}
	fmt.Fprintf(b.Stdout, "%s: from its registry, %s\n", use.Name, image.Ref.Digest)
	found.image, err = b.loadable(ctx, image.Image)
	return found, err
}

// loadable is an image that every engine takes. Old ones do not know zstd, and
// how long a layer is when it is unpacked is known afterwards only; so such an
// image goes through Keep, where blocks that no collection needs do not stay.
func (b *build) loadable(ctx context.Context, image imagetar.Image) (imagetar.Image, error) {
	if !slices.ContainsFunc(image.Layers, func(layer imagetar.Layer) bool { return imagetar.CompressionOf(layer.MediaType) == imagetar.Zstd }) {
		return image, nil
	}
	b.Activity("unpacking a base image")
	saved, err := b.Saver(nil).Save(ctx, image)
	if err != nil {
		return imagetar.Image{}, err
	}
	return dockerimage.Open(ctx, b.Keep, dockerimage.Found{ManifestText: saved.ManifestText, PDH: saved.PDH})
}

// findInKeep finds an image that an image collection has. ErrNotFound is in the
// chain of the error if there is none for the platform.
func (b *build) findInKeep(ctx context.Context, use dockerfile.Use, platform string) (base, error) {
	b.Activity("looking for " + use.Name + " in Keep")
	resolved, err := dockerimage.Resolve(ctx, b.API, use.Name, b.Policy())
	for _, passed := range resolved.PassedOver {
		b.Log.Warnf("collection %s (owner %s) is not taken for %s: %v", passed.Found.UUID, passed.Found.OwnerUUID, use.Name, passed.Reason)
	}
	if err != nil {
		return base{}, err
	}
	image, err := dockerimage.Open(ctx, b.Keep, resolved.Found)
	if err != nil {
		return base{}, err
	}
	if digest := use.Ref.Digest; digest != "" && digest != digestOf(image.Manifest) && resolved.OwnerUUID != b.Owner {
		// It may be the digest of an index, which is not stored, so all that
		// speaks for it is a property that anybody can set.
		b.Log.Warnf("collection %s (owner %s) is not taken for %s: its manifest does not have that digest", resolved.UUID, resolved.OwnerUUID, use.Name)
		return base{}, &fault.Error{Op: "build upon", Side: fault.Request, Subject: use.Name, Err: dockerimage.ErrNotFound,
			Hint: "the image of this name in Keep belongs to somebody else, and its digest cannot be checked"}
	}
	if has := platformOf(image.Config); !fits(platform, has) {
		b.Log.Warnf("collection %s has %s for %s, not for %s", resolved.UUID, use.Name, has, platform)
		return base{}, &fault.Error{Op: "build upon", Side: fault.Request, Subject: use.Name, Err: dockerimage.ErrNotFound,
			Hint: "the image in Keep is for " + has + ", not for " + platform}
	}
	found := base{Base: dockerimage.Base{Name: use.Name, Hash: digestOf(image.Config), PDH: resolved.PDH}, image: image}
	fmt.Fprintf(b.Stdout, "%s: from Keep, %s in %s\n", use.Name, found.Hash, found.PDH)
	if resolved.OwnerUUID != b.Owner {
		b.Log.Infof("%s is collection %s, which belongs to %s", use.Name, resolved.UUID, resolved.OwnerUUID)
	}
	return found, nil
}

func digestOf(content []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(content)) }
