// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/sdk/cwl"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// madeBy is what the history of an image says of a layer from here.
const madeBy = "arv-docker setup"

// publishBuiltin publishes the image of builtin commands, and returns its portable
// data hash, which is "" if a dry run would make it.
func (u *setup) publishBuiltin(ctx context.Context) (string, error) {
	layer, err := newLayer([]layerFile{{name: "bin/docker", mode: 0755, path: u.program.path}})
	if err != nil {
		return "", err
	}
	variable := "1"
	if u.flags.imageID == dockerimage.ByManifest {
		variable = string(dockerimage.ByManifest)
	}
	config := attrs{
		"architecture": u.program.architecture,
		"os":           "linux",
		"config": attrs{
			"Env":    []string{"PATH=/bin", builtin.Variable + "=" + variable},
			"Labels": map[string]string{builtin.Label: "1"},
		},
	}
	if !u.program.made.IsZero() {
		config["created"] = u.program.made.UTC().Format(time.RFC3339)
	}
	raw, err := withLayer(config, layer)
	if err != nil {
		return "", err
	}
	return u.publish(ctx, imagetar.Image{Config: raw, Layers: []imagetar.Layer{layer}}, builtin.Image+":latest", nil)
}

// keyBase is the label of an image for runners with the portable data hash of the
// image that it was made of.
const keyBase = "org.arvados.builtin-runner.base"

// publishRunner publishes the image for workflow runners under the name, or that of
// its base if it is "". Without the base there is none, and the user is told.
func (u *setup) publishRunner(ctx context.Context, name string) (string, error) {
	base, err := u.resolve(ctx, u.flags.base)
	if errors.Is(err, dockerimage.ErrNotFound) {
		u.say("no image for workflow runners is made, since Keep has no image %s that you can read; bring it there by arv-docker push or load, or name another one by --runner-base", u.flags.base)
		return "", nil
	} else if err != nil {
		return "", err
	}
	kc, err := u.keep(ctx)
	if err != nil {
		return "", err
	}
	img, err := dockerimage.Open(ctx, kc, base.Found)
	if err != nil {
		return "", err
	}
	config, fields, err := parseConfig(img.Config)
	if err != nil {
		return "", err
	}
	if first, ok := config.Config.Labels[keyBase]; ok { // made here, and named as its base
		if base, err = u.resolve(ctx, first); err != nil {
			return "", err
		}
		if img, err = dockerimage.Open(ctx, kc, base.Found); err != nil {
			return "", err
		}
		if config, fields, err = parseConfig(img.Config); err != nil {
			return "", err
		}
	}
	if config.Architecture != u.program.architecture {
		return "", wrong("--program", fmt.Errorf("it is for %s, and image %s for %s", u.program.architecture, u.flags.base, config.Architecture),
			"name an arv-docker for that platform")
	}
	files, err := runnerFiles(u.program.path)
	if err != nil {
		return "", err
	}
	layer, err := newLayer(files)
	if err != nil {
		return "", err
	}
	inner, _ := fields["config"].(attrs)
	labels, _ := inner["Labels"].(attrs)
	fields["config"] = with(inner, attrs{
		"Env":    runnerPath(config.Config.Env),
		"Labels": with(labels, attrs{keyBase: base.PDH}),
	})
	raw, err := withLayer(fields, layer)
	if err != nil {
		return "", err
	}
	if name == "" {
		name = usualRunner + "-builtin:" + tagIn(base.Properties.RepoTags, u.flags.base)
	}
	return u.publish(ctx, imagetar.Image{Config: raw, Layers: append(slices.Clone(img.Layers), layer)}, name,
		[]dockerimage.Base{{Name: u.flags.base, Hash: digestOf(img.Config), PDH: base.PDH}})
}

// tagIn is the tag of the first name that says more than latest.
func tagIn(names []string, asked string) string {
	for _, name := range append([]string{asked}, names...) {
		if ref, err := imageref.Parse(name); err == nil && ref.Tag != "" && ref.Tag != "latest" {
			return ref.Tag
		}
	}
	return "latest"
}

// runnerFiles are what a workflow runner needs: arv-docker, also as docker, and the
// adapter for arvados-cwl-runner.
func runnerFiles(program string) ([]layerFile, error) {
	files := []layerFile{
		{name: "usr/local/bin/arv-docker", mode: 0755, path: program},
		{name: "usr/local/bin/docker", mode: 0777, link: "arv-docker"},
	}
	err := fs.WalkDir(cwl.Files(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(cwl.Files(), name)
		file := layerFile{name: path.Join(cwl.Folder, name)[1:], mode: 0644, text: text}
		if path.Dir(name) == cwl.Programs {
			file.mode = 0755
		}
		files = append(files, file)
		return err
	})
	return files, err
}

// runnerPath is an environment in which the adapter is found before
// arvados-cwl-runner, and docker at all.
func runnerPath(env []string) []string {
	const variable = "PATH="
	old := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" // where images say nothing
	var rest []string
	for _, setting := range env {
		if value, ok := strings.CutPrefix(setting, variable); ok {
			old = value
		} else {
			rest = append(rest, setting)
		}
	}
	folders := append([]string{path.Join(cwl.Folder, cwl.Programs)}, strings.Split(old, ":")...)
	if !slices.Contains(folders, "/usr/local/bin") {
		folders = append(folders, "/usr/local/bin")
	}
	return append([]string{variable + strings.Join(folders, ":")}, rest...)
}

// parseConfig reads the config of the base, as what is looked at and as all that
// there is.
func parseConfig(raw []byte) (config ocispec.Image, fields attrs, err error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err = json.Unmarshal(raw, &config); err == nil {
		err = decoder.Decode(&fields)
	}
	if err != nil {
		err = wrong("--runner-base", fmt.Errorf("its config cannot be read: %w", err), "name another image")
	}
	return config, fields, err
}

// with is a copy of fields with more of them.
func with(fields, more attrs) attrs {
	all := attrs{}
	maps.Copy(all, fields)
	maps.Copy(all, more)
	return all
}

// withLayer is the config with a layer on top.
func withLayer(config attrs, layer imagetar.Layer) ([]byte, error) {
	history, _ := config["history"].([]interface{})
	rootfs, _ := config["rootfs"].(attrs)
	diffIDs, _ := rootfs["diff_ids"].([]interface{})
	return json.Marshal(with(config, attrs{
		"history": append(history, attrs{"created_by": madeBy}),
		"rootfs":  attrs{"type": "layers", "diff_ids": append(diffIDs, layer.DiffID)},
	}))
}

// publish stores an image that the project has not got, and gives it the name. It
// returns the portable data hash.
func (u *setup) publish(ctx context.Context, img imagetar.Image, name string, bases []dockerimage.Base) (string, error) {
	thing := published{Kind: "image", Name: name}
	layout, err := imagetar.NewLayout(img)
	if err != nil {
		return "", err
	}
	coll, err := u.findImage(ctx,
		arvados.Filter{Attr: "owner_uuid", Operator: "=", Operand: u.owner},
		arvados.Filter{Attr: "properties." + keyHash, Operator: "=", Operand: u.flags.imageID.Of(layout)})
	if err != nil {
		return "", err
	}
	named := coll != nil && slices.Contains(dockerimage.ParseProperties(coll.Properties).RepoTags, name)
	switch {
	case u.flags.dryRun && !named:
		thing.State = stateMissing
	case named:
		thing.State = stateUnchanged
	case coll != nil:
		thing.State = stateChanged
		err = u.addNames(ctx, coll, []string{name}, u.flags.links)
	default:
		thing.State = stateNew
		kc, err := u.keep(ctx)
		if err != nil {
			return "", err
		}
		saver := &dockerimage.Saver{API: u.API, Keep: kc, Owner: u.owner, ImageID: u.flags.imageID, Blocks: dockerimage.BlocksInFlight(), Progress: func(p dockerimage.Progress) {
			u.now(name + ": stored " + builtin.Size(p.Done) + " of " + builtin.Size(p.Total))
		}}
		saved, err := saver.Save(ctx, img)
		if err != nil {
			return "", err
		}
		properties := saved.Properties([]string{name}, time.Now())
		properties.Bases = bases
		r, err := u.keepImage(ctx, u.owner, saved.ManifestText, properties, u.flags.links)
		if err != nil {
			return "", err
		}
		thing.UUID, thing.PortableDataHash = r.Collection, r.PortableDataHash
	}
	if err != nil {
		return "", err
	}
	if coll != nil {
		thing.UUID, thing.PortableDataHash = coll.UUID, coll.PortableDataHash
	}
	u.add(thing)
	if thing.State != stateMissing {
		u.checkMeaning(ctx, name, thing.PortableDataHash)
	}
	return thing.PortableDataHash, nil
}
