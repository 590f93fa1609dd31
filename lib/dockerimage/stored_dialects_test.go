// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"

	"git.arvados.org/arvados.git/lib/imagetar"
	check "gopkg.in/check.v1"
)

// The archives that programs write, for those that do not write a Layout.

// object is a member of an archive, a symbolic link if it has a target.
type object struct{ name, content, target string }

func tarOf(c *check.C, objects ...object) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, o := range objects {
		hdr := &tar.Header{Name: o.name, Size: int64(len(o.content)), Mode: 0644, Typeflag: tar.TypeReg}
		if o.target != "" {
			hdr.Typeflag, hdr.Linkname = tar.TypeSymlink, o.target
		} else if strings.HasSuffix(o.name, "/") {
			hdr.Typeflag = tar.TypeDir
		}
		if len(o.name) > 200 {
			hdr.Format = tar.FormatPAX
		}
		c.Assert(w.WriteHeader(hdr), check.IsNil)
		_, err := w.Write([]byte(o.content))
		c.Assert(err, check.IsNil)
	}
	c.Assert(w.Close(), check.IsNil)
	return buf.Bytes()
}

func jsonOf(v any) string {
	buf, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(buf)
}

func blobOf(content string) object {
	return object{name: fmt.Sprintf("blobs/sha256/%x", sha256.Sum256([]byte(content))), content: content}
}

// oldDockerSave is what docker save wrote before version 25, and arv-keepdocker
// has stored since: a folder for each layer, a link where one comes again.
func oldDockerSave(c *check.C, img imagetar.Image) []byte {
	config := configDigest(img)[7:] + ".json"
	objects := []object{{name: config, content: string(img.Config)}}
	var names []string
	first := map[string]string{}
	for i, layer := range img.Layers {
		dir := fmt.Sprintf("%064x", i)
		names = append(names, dir+"/layer.tar")
		o := object{name: dir + "/layer.tar", target: first[layer.Digest]}
		if o.target == "" {
			o.content = string(readLayer(c, layer))
			first[layer.Digest] = "../" + dir + "/layer.tar"
		}
		objects = append(objects, object{name: dir + "/"}, object{name: dir + "/VERSION", content: "1.0"}, object{name: dir + "/json", content: `{"id":"x"}`}, o)
	}
	return tarOf(c, append(objects,
		object{name: "manifest.json", content: jsonOf([]any{map[string]any{"Config": config, "RepoTags": nil, "Layers": names}})},
		object{name: "repositories", content: "{}"})...)
}

// ociLayout is what has no manifest.json; its layers come last.
func ociLayout(c *check.C, img imagetar.Image) []byte {
	objects := []object{
		{name: "oci-layout", content: `{"imageLayoutVersion":"1.0.0"}`},
		{name: "index.json", content: jsonOf(map[string]any{"schemaVersion": 2, "manifests": []any{
			map[string]any{"mediaType": img.ManifestMediaType, "digest": img.Digests[0], "size": len(img.Manifest)}}})},
		{name: "blobs/"}, blobOf(string(img.Config)), blobOf(string(img.Manifest)),
	}
	for _, layer := range img.Layers {
		objects = append(objects, blobOf(string(readLayer(c, layer))))
	}
	return tarOf(c, objects...)
}

// archiveByName has layers under any names, in front of what tells of them.
func archiveByName(c *check.C, img imagetar.Image, nameOf func(imagetar.Layer) string) []byte {
	var objects []object
	var names []string
	for _, layer := range img.Layers {
		names = append(names, nameOf(layer))
		objects = append(objects, object{name: nameOf(layer), content: string(readLayer(c, layer))})
	}
	return tarOf(c, append(objects, object{name: "config", content: string(img.Config)},
		object{name: "manifest.json", content: jsonOf([]any{map[string]any{"Config": "config", "Layers": names}})})...)
}

func craneName(layer imagetar.Layer) string { return layer.Digest[7:] + ".tar.gz" }

func longName(layer imagetar.Layer) string { return strings.Repeat("x", 200) + "/" + layer.Digest[7:] }
