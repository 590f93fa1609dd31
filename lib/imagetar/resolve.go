// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
)

// found is an image as the archive's metadata describes it, by names of
// members.
type found struct {
	config   string
	layers   []string
	repoTags []string
	manifest *foundManifest // nil if there is none
}

// resolve finds the one image of the archive. manifest.json decides if there is
// one, as in docker load; index.json then only adds the manifest.
func (es entries) resolve() (Archive, error) {
	var manifests []foundManifest
	if es["index.json"] != nil {
		var err error
		if manifests, err = es.manifests(); err != nil {
			return Archive{}, err
		}
	}
	var image found
	var err error
	switch {
	case es["manifest.json"] != nil:
		image, err = es.dockerImage(manifests)
	case es["index.json"] != nil:
		image, err = es.ociImage(manifests)
	default:
		err = &fault.Error{Op: opScan, Side: fault.Request, Err: errors.New("it has neither manifest.json nor index.json"),
			Hint: "this is no image archive: make one with docker save"}
	}
	if err != nil {
		return Archive{}, err
	}
	return es.assemble(image)
}

// dockerImage is the image that manifest.json describes.
func (es entries) dockerImage(manifests []foundManifest) (found, error) {
	raw, err := es.metadata("manifest.json", "manifest.json")
	if err != nil {
		return found{}, err
	}
	var images []dockerImage
	if err := json.Unmarshal(raw, &images); err != nil {
		return found{}, invalid(opScan, "manifest.json", "it is malformed: %w", err)
	}
	if len(images) != 1 {
		var names []string
		for _, image := range images {
			names = append(names, image.RepoTags...)
		}
		return found{}, severalImages(len(images), names)
	}
	image := found{config: images[0].Config, layers: images[0].Layers, repoTags: images[0].RepoTags}
	for _, m := range manifests {
		if m.configName() == image.config && slices.Equal(m.layerNames(), image.layers) {
			image.manifest = &m
			break
		}
	}
	return image, nil
}

// assemble makes the Image of what the metadata names.
func (es entries) assemble(image found) (Archive, error) {
	raw, err := es.metadata("config", image.config)
	if err != nil {
		return Archive{}, err
	}
	cfg, err := parseConfig(raw)
	if err != nil {
		return Archive{}, err
	}
	if len(image.layers) != len(cfg.RootFS.DiffIDs) {
		return Archive{}, invalid(opScan, "", "it lists %d layers but the config names %d (rootfs.diff_ids)", len(image.layers), len(cfg.RootFS.DiffIDs))
	}
	a := Archive{Image: Image{Config: raw}, RepoTags: image.repoTags}
	if cfg.OS != "" && cfg.Architecture != "" {
		a.Platform = cfg.platform.String()
	}
	verbatim := image.manifest != nil
	for i, name := range image.layers {
		what := fmt.Sprintf("layer %d", i+1)
		member, e, err := es.layer(what, name)
		if err != nil {
			return Archive{}, err
		}
		layer := Layer{MediaType: layerType(e.kept), Digest: e.blob.Digest, Size: e.blob.Size, DiffID: cfg.RootFS.DiffIDs[i]}
		if e.kept == Plain && layer.Digest != layer.DiffID {
			return Archive{}, invalid(opScan, what, "%.200q holds %s but the config says %s", name, layer.Digest, layer.DiffID)
		}
		if image.manifest != nil {
			// Only a manifest that tells the truth can be kept.
			offered := image.manifest.Layers[i].MediaType
			if foreign(offered) || CompressionOf(offered) == e.kept {
				layer.MediaType = offered
			} else {
				verbatim = false
			}
		}
		a.Image.Layers = append(a.Image.Layers, layer)
		a.Members = append(a.Members, member)
	}
	if image.manifest != nil {
		a.Image.Digests = image.manifest.digests
	}
	if verbatim {
		a.Image.Manifest, a.Image.ManifestMediaType = image.manifest.raw, image.manifest.MediaType
	}
	// What NewLayout refuses is refused here, where the archive can be named.
	if _, err := NewLayout(a.Image); err != nil {
		return Archive{}, err
	}
	return a, nil
}

func severalImages(n int, names []string) error {
	err := fmt.Errorf("it holds %d images", n)
	if len(names) > 0 {
		err = fmt.Errorf("%w (%.1000s)", err, strings.Join(names, ", "))
	}
	return &fault.Error{Op: opScan, Side: fault.Request, Err: err, Hint: "make an archive of exactly one image for one platform"}
}

func missing(what, name string) error {
	return &fault.Error{Op: opScan, Side: fault.Request, Subject: what, Err: fmt.Errorf("the archive has no member %.200q", name),
		Hint: "the archive is incomplete; an engine that has lost a blob saves the image without it, so pull or build it again before saving it"}
}
