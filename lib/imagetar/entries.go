// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"path"
	"strings"
)

// entries are the members of a scanned archive by clean name.
type entries map[string]*entry

// entry is what is remembered of a member. Exactly one of link, blob, json and
// useless says what it is.
type entry struct {
	link    string // name of the member it stands for, not yet cleaned
	blob    BlobInfo
	json    []byte
	useless string // why it serves for nothing

	size      int64       // as in the archive
	digest    string      // as in the archive; "" if it was not read
	kept      Compression // of a blob
	converted bool        // the sink did not get the bytes as they are
}

// add enters a member. A name may occur twice, as some programs write layers
// that two images share, if the content does not differ.
func (es entries) add(name string, e *entry) error {
	if hex, ok := strings.CutPrefix(name, "blobs/sha256/"); ok && e.digest != "" && e.digest != "sha256:"+hex {
		return invalid(opScan, name, "the content of the member is %s", e.digest)
	}
	if old := es[name]; old != nil && (old.digest != e.digest || old.link != e.link || old.size != e.size) {
		return invalid(opScan, name, "the member occurs twice with different content")
	}
	es[name] = e
	return nil
}

// lookup finds the member that a metadata file names, through links, and its
// clean name. what is its part in the image, for messages.
func (es entries) lookup(what, name string) (string, *entry, error) {
	const maxLinks = 16
	target := name
	for range maxLinks {
		clean, ok := cleanName(target)
		if !ok {
			return "", nil, invalid(opScan, what, "the name %.200q leads out of the archive", target)
		}
		e := es[clean]
		switch {
		case e == nil:
			return "", nil, missing(what, clean)
		case e.useless != "":
			return "", nil, invalid(opScan, what, "%s cannot be used: %s", clean, e.useless)
		case e.link == "":
			return clean, e, nil
		}
		target = e.link
	}
	return "", nil, invalid(opScan, what, "%.200q is a chain of more than %d links", name, maxLinks)
}

// metadata is the JSON that the archive has under the name.
func (es entries) metadata(what, name string) ([]byte, error) {
	_, e, err := es.lookup(what, name)
	if err != nil {
		return nil, err
	}
	if e.json == nil {
		return nil, invalid(opScan, what, "%.200q is not JSON", name)
	}
	return e.json, nil
}

// layer is the blob that the sink got for the name, and under which name it did.
func (es entries) layer(what, name string) (string, *entry, error) {
	member, e, err := es.lookup(what, name)
	if err == nil && e.json != nil {
		err = invalid(opScan, what, "%.200q is not a layer", name)
	}
	return member, e, err
}

// cleanName brings the name of a member into the one form by which it is looked
// up ("./a" is "a"); false if it is none within the archive.
func cleanName(name string) (string, bool) {
	clean := path.Clean(name)
	if path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") {
		return "", false
	}
	return clean, true
}

// symlinkTarget is the name that a symbolic link called name stands for. It
// may lead out of the archive, in which case lookup refuses it.
func symlinkTarget(name, target string) string {
	if path.IsAbs(target) {
		return target
	}
	return path.Join(path.Dir(name), target)
}

// isTar reports whether data that starts with prefix is a tar archive, an empty
// one included.
func isTar(prefix []byte) bool {
	if len(prefix) < tarBlock {
		return false
	}
	if bytes.Count(prefix, []byte{0}) == len(prefix) {
		return true
	}
	_, err := tar.NewReader(bytes.NewReader(prefix)).Next()
	// Any other error than that of the checksum and the fields comes from
	// reading on after a valid header.
	return err != tar.ErrHeader
}

const jsonSpace = " \t\r\n"

// isJSON reports whether data that starts with prefix may be JSON metadata.
func isJSON(prefix []byte) bool {
	trimmed := bytes.TrimLeft(prefix, jsonSpace)
	return len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[')
}

// isMetadata reports whether content, for which isJSON holds, is an index, a manifest, a config or
// manifest.json.
func isMetadata(content []byte) bool {
	if bytes.TrimLeft(content, jsonSpace)[0] == '[' {
		var images []dockerImage
		return json.Unmarshal(content, &images) == nil
	}
	var object struct{ RootFS, Manifests, Layers json.RawMessage }
	return json.Unmarshal(content, &object) == nil && (object.RootFS != nil || object.Manifests != nil || object.Layers != nil)
}
