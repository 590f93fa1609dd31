// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// Report is what Validate found.
type Report struct {
	// Problems are why the collection cannot be trusted to be the image it
	// seems to be, or cannot be used; each is a clause. None: it is in order.
	Problems []string

	// Canonical tells that archive and blocks are just those that a Saver
	// makes. Images stored by other programs are in order without it.
	Canonical bool

	PDH          string
	ConfigDigest string
	Platform     string
	Layers       int
	Size         int64 // of all layers unpacked, in bytes
}

// OK reports whether there are no problems.
func (r Report) OK() bool { return len(r.Problems) == 0 }

func (r *Report) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// Validate reads all of an image collection and checks everything that can be
// checked: one file, named as its image; an archive that engines load; every
// layer and blob as its digest says, packed and unpacked; of an archive that a
// Saver made, every byte between them; the properties. The
// error is nil unless the work could not be done, which says nothing about the
// image.
func Validate(ctx context.Context, keep keepfile.BlockReader, manifestText string, props Properties) (Report, error) {
	report := Report{PDH: arvados.PortableDataHash(manifestText)}
	files, err := keepfile.ParseManifest(manifestText)
	if err != nil {
		report.problem("its manifest is malformed: %v", err)
		return report, nil
	}
	if props.PDH != "" && props.PDH != report.PDH {
		report.problem("it was changed since it was made: its portable data hash is %s, and was %.100s", report.PDH, props.PDH)
	}
	if len(files) != 1 {
		report.problem("it has %d files and folders instead of one file", len(files))
		return report, nil
	}
	file := files[0]
	if tokens := strings.Count(manifestText, ":"); tokens != 2 || strings.Count(manifestText, "\n") != 1 {
		report.problem("its file is in several pieces, from which schedulers guess a wrong size")
	}
	v := &validation{report: &report, seen: map[string]seenBlob{}, layers: map[string]bool{}, members: &tarWalk{}}
	in := keepfile.NewReader(ctx, keep, file)
	defer in.Close()
	archive, err := imagetar.ScanArchive(io.TeeReader(in, v.members), sink(v.blob))
	var failed *fault.Error
	switch {
	case err == nil:
		v.check(archive.Image, file, props)
	case ctx.Err() != nil || errors.As(err, &failed) && failed.Transient:
		return report, err
	default:
		report.problem("%v%s", err, v.place(failed, file))
	}
	report.Platform = archive.Platform
	return report, nil
}

// validation is the work of one Validate.
type validation struct {
	report  *Report
	seen    map[string]seenBlob // by digest
	layers  map[string]bool     // names of members that may be layers
	members *tarWalk
}

// seenBlob is what may be a layer.
type seenBlob struct {
	diffID string
	size   int64 // unpacked
	end    tail
	err    error // why it cannot be unpacked
}

// blob hashes a layer packed and unpacked.
func (v *validation) blob(name string, _ int64, r io.Reader) (imagetar.BlobInfo, error) {
	v.layers[name] = true
	var seen seenBlob
	packed, unpacked := sha256.New(), sha256.New()
	in := &errKeeper{ReadCloser: io.NopCloser(r)}
	all := &counted{Reader: io.TeeReader(in, packed)}
	buffered := bufio.NewReaderSize(all, 64<<10)
	prefix, _ := buffered.Peek(imagetar.SniffLen)
	plain, err := imagetar.Decompress(buffered, imagetar.Sniff(prefix))
	if err == nil {
		seen.size, err = io.Copy(unpacked, plain)
		plain.Close()
	}
	seen.err = err
	seen.diffID = fmt.Sprintf("sha256:%x", unpacked.Sum(nil))
	if _, err := io.Copy(io.Discard, buffered); err != nil {
		return imagetar.BlobInfo{}, err
	}
	if in.err != nil {
		return imagetar.BlobInfo{}, in.err
	}
	seen.end = all.tail
	info := imagetar.BlobInfo{Digest: fmt.Sprintf("sha256:%x", packed.Sum(nil)), Size: all.n}
	v.seen[info.Digest] = seen
	return info, nil
}

// place says, for people, in what part of the archive a scan has failed.
func (v *validation) place(failed *fault.Error, file keepfile.File) string {
	if failed == nil {
		return ""
	}
	switch hex, _ := strings.CutPrefix(failed.Subject, "blobs/sha256/"); {
	case failed.Subject == "" && v.members.broken && len(v.members.members) > 0:
		return "; it is the tar header after " + v.members.members[len(v.members.members)-1].name
	case failed.Subject == "" && v.members.broken:
		return "; it is the first tar header"
	case failed.Subject == "" && v.members.dirty:
		return "; it is what follows the last member"
	case v.layers[failed.Subject]:
		return "; it is a layer"
	case failed.Subject == "config" || strings.HasPrefix(failed.Subject, "layer "):
		return "; so says manifest.json, or else the manifest that index.json names"
	case FileName("sha256:"+hex) == file.Path:
		return "; its file is named by it"
	case hex != failed.Subject:
		return "; it is a manifest"
	}
	return ""
}

// counted counts what is read.
type counted struct {
	io.Reader
	n    int64
	tail tail
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	c.tail.add(p[:n])
	return n, err
}

// check compares the image with what file and properties say.
func (v *validation) check(img imagetar.Image, file keepfile.File, props Properties) {
	r := v.report
	r.ConfigDigest = fmt.Sprintf("sha256:%x", sha256.Sum256(img.Config))
	r.Layers = len(img.Layers)
	if props.Hash != "" && props.Hash+".tar" != file.Path {
		r.problem("property %s is %.100s but the file is called %.100q", KeyHash, props.Hash, file.Path)
	}
	var big []string
	var claimed int64
	done := map[string]bool{}
	for i, layer := range img.Layers {
		seen := v.seen[layer.Digest]
		if seen.err != nil {
			r.problem("layer %d (%s) cannot be unpacked: %v", i+1, layer.Digest, seen.err)
		} else if seen.diffID != layer.DiffID {
			r.problem("layer %d (%s) unpacks to %s but the config says %s", i+1, layer.Digest, seen.diffID, layer.DiffID)
		}
		if done[layer.Digest] {
			continue
		}
		done[layer.Digest] = true
		r.Size += seen.size
		claimed += unpackedSize(layer, seen.end)
		if layer.Size >= imagetar.BigMember {
			big = append(big, layer.Digest)
		}
	}
	if props.Size > 0 && props.Size != claimed {
		r.problem("property %s is %d, but the layers say that they unpack to %d bytes", KeySize, props.Size, claimed)
	}
	layout, err := imagetar.NewLayout(img)
	hashes := append([]string{r.ConfigDigest, layout.ManifestDigest}, img.Digests...)
	if !slices.ContainsFunc(hashes, func(hash string) bool { return FileName(hash) == file.Path }) {
		r.problem("its file is called %.100q but holds image %s", file.Path, r.ConfigDigest)
	}
	if err == nil {
		differences := v.members.differences(layout, img.Layers)
		r.Canonical = len(differences) == 0 && hasBlocks(file.Segments, layoutBlocks(layout))
		if props.PDH != "" && v.members.resembles(layout) { // a Saver has made it, and makes no other
			for _, difference := range differences {
				r.problem("its archive was changed: %s", difference)
			}
		}
	}
	// Only blocks that are a layer's alone make a layer to be reused.
	if len(props.Layers) > 0 && (!r.Canonical || !slices.Equal(props.Layers, big)) {
		r.problem("property %s does not list just the layers that have blocks of their own", KeyLayers)
	}
}
