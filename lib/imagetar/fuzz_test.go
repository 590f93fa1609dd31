// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar_test

import (
	"bytes"
	"testing"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
)

// checkScanned: whatever data holds, it is refused as somebody's mistake or is
// an image that can be laid out, whose layers the sink has.
func checkScanned(t *testing.T, data []byte) {
	sink := &memorySink{}
	a, err := imagetar.ScanArchive(bytes.NewReader(data), sink)
	if err != nil {
		if fault.SideOf(err) != fault.Request || fault.Transient(err) {
			t.Fatalf("an error of no side: %v", err)
		}
		return
	}
	if _, err := imagetar.NewLayout(a.Image); err != nil {
		t.Fatalf("a scanned image is refused: %v", err)
	}
	for i, layer := range a.Image.Layers {
		content, ok := sink.blobs[a.Members[i]]
		if !ok || sum(content) != layer.Digest || int64(len(content)) != layer.Size {
			t.Fatalf("layer %d is %+v; the sink has %d bytes as %q", i, layer, len(content), a.Members[i])
		}
	}
}

func FuzzScanArchive(f *testing.F) {
	saved, _ := containerdSave(randomimage.Of(randomimage.Layer(1, 2048, imagetar.Zstd)), attestation)
	for _, files := range [][]file{good(), oldDockerSave(plainImage()), newDockerSave(threeLayers()), saved} {
		f.Add(tarOf(files...))
		f.Add(gzipped(tarOf(files...)))
	}
	for _, bad := range badArchives() {
		if len(bad.data) < 1<<16 {
			f.Add(bad.data)
		}
	}
	f.Fuzz(checkScanned)
}

// FuzzScanMetadata leaves the tar intact and damages what is in it.
func FuzzScanMetadata(f *testing.F) {
	img := threeLayers()
	var docker, oci string
	for _, member := range newDockerSave(img) {
		switch member.name {
		case "manifest.json":
			docker = member.content
		case "index.json":
			oci = member.content
		}
	}
	f.Add(docker, oci, string(img.Manifest), string(img.Config))
	f.Add(docker, "", string(img.Manifest), string(img.Config))
	f.Add("", oci, string(img.Manifest), string(img.Config))
	f.Add("[]", index(), "{}", "{}")
	one, two := blob(layerBytes(img.Layers[0])), blob(layerBytes(img.Layers[1]))
	f.Fuzz(func(t *testing.T, docker, oci, manifest, config string) {
		files := []file{blob(manifest), blob(config), one, two}
		if docker != "" {
			files = append(files, file{name: "manifest.json", content: docker})
		}
		if oci != "" {
			files = append(files, file{name: "index.json", content: oci})
		}
		checkScanned(t, tarOf(files...))
		// Again with an index that leads to the manifest for sure.
		files = append(files[:4], file{name: "index.json", content: index(descriptor(ociManifest, manifest, nil))})
		checkScanned(t, tarOf(files...))
	})
}

func FuzzNewLayout(f *testing.F) {
	img := threeLayers()
	f.Add(img.Config, img.Manifest, img.ManifestMediaType, img.Layers[0].MediaType, img.Layers[0].Digest, img.Layers[0].Size, img.Layers[0].DiffID)
	f.Add(img.Config, []byte(nil), "", "", "", int64(-1), "")
	f.Fuzz(func(t *testing.T, config, manifest []byte, manifestType, layerType, digest string, size int64, diffID string) {
		img := threeLayers()
		img.Config, img.Manifest, img.ManifestMediaType = config, manifest, manifestType
		if len(manifest) == 0 {
			img.Manifest = nil
		}
		img.Layers[0].MediaType, img.Layers[0].Digest, img.Layers[0].Size, img.Layers[0].DiffID = layerType, digest, size, diffID
		img.Layers[2] = img.Layers[0]
		l, err := imagetar.NewLayout(img)
		if err != nil {
			if fault.SideOf(err) != fault.Request {
				t.Fatalf("an error of no side: %v", err)
			}
			return
		}
		var total int64
		for _, run := range l.Runs() {
			total += run.Span()
		}
		if total != l.Size || total%512 != 0 {
			t.Fatalf("runs have %d bytes, the archive %d", total, l.Size)
		}
	})
}
