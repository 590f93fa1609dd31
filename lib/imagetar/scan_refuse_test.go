// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/imagetar/randomimage"
	"gopkg.in/check.v1"
)

func scan(data []byte) (imagetar.Archive, error) {
	return imagetar.ScanArchive(bytes.NewReader(data), &memorySink{})
}

func scanOf(c *check.C, files ...file) imagetar.Archive {
	a, err := scan(tarOf(files...))
	c.Assert(err, check.IsNil)
	return a
}

// good is an archive of one gzip layer, to be changed by the cases below. Its
// members are config, layer, manifest.json.
func good() []file {
	img := randomimage.New(1, 5000)
	return []file{
		{name: "c.json", content: string(img.Config)}, {name: "l.tgz", content: layerBytes(img.Layers[0])},
		dockerManifest("c.json", nil, "l.tgz"),
	}
}

func goodBut(change func(files []file) []file) []byte { return tarOf(change(good())...) }

// with adds members to a good archive.
func with(more ...file) []byte { return tarOf(append(good(), more...)...) }

// listing lists other layers in a good archive.
func listingLayers(layers ...string) []byte {
	return goodBut(func(files []file) []file { return append(files[:2], dockerManifest("c.json", nil, layers...)) })
}

// onlyIndex is an OCI layout of these blobs, whose index lists the objects.
func onlyIndex(manifests []object, blobs ...string) []byte {
	files := []file{{name: "index.json", content: index(manifests...)}}
	for _, content := range blobs {
		files = append(files, blob(content))
	}
	return tarOf(files...)
}

func ociParts() (img imagetar.Image, entry object, layer string) {
	img = randomimage.New(1, 5000)
	return img, descriptor(ociManifest, string(img.Manifest), nil), layerBytes(img.Layers[0])
}

// badArchives is every way in which an archive is refused.
func badArchives() []struct {
	name    string
	data    []byte
	message string // without the hint
} {
	img, entry, layer := ociParts()
	other := randomimage.New(2, 5000)
	ours := tarOf(newDockerSave(img)...)
	return []struct {
		name    string
		data    []byte
		message string
	}{
		// Not an archive at all.
		{"nothing", nil, "it ends early"},
		{"empty tar", tarOf(), "it has neither manifest.json nor index.json"},
		{"garbage", bytes.Repeat([]byte("garbage "), 1000), "archive/tar: invalid tar header"},
		{"short garbage", []byte("garbage"), "it ends early"},
		{"some other tar", tarOf(file{name: "etc/passwd", content: "root"}), "it has neither manifest.json nor index.json"},
		{"bzip2", []byte("BZh91AY&SY"), "it is compressed in a way that is neither gzip nor zstd"},
		{"xz", []byte("\xfd7zXZ\x00\x00"), "it is compressed in a way that is neither gzip nor zstd"},
		// Cut or damaged on the way.
		{"cut in a header", ours[:700], ".*it ends early"},
		{"cut in a layer", goodBut(func(f []file) []file { return f })[:2000], "l.tgz: it ends early"},
		{"cut between members", tarOf(good()[:2]...)[:7168], "it ends early"},
		{"gzip cut", gzipped(ours)[:3000], ".*it ends early"},
		{"gzip checksum", append(gzipped(ours)[:len(gzipped(ours))-8], "12345678"...), ".*invalid checksum"},
		{"gzip header", []byte{0x1f, 0x8b, 8, 0xff}, "it ends early"},
		{"zstd frame", []byte("\x28\xb5\x2f\xfdxxxxxxxxxxxxxxxxxxx"), ".*"},
		{"data after the end", append(tarOf(good()...), make([]byte, 2<<20)...), "more than 1048576 bytes follow its end"},
		// Members.
		{"absolute name", with(file{name: "/etc/passwd"}), `"/etc/passwd": the name of the member leads out of the archive`},
		{"name upwards", with(file{name: "a/../../b"}), `"a/../../b": the name of the member leads out of the archive`},
		{"folder upwards", with(file{name: "../", typeflag: tar.TypeDir}), `"../": the name of the member leads out of the archive`},
		{"twice", with(file{name: "l.tgz", content: layer + "x"}), "l.tgz: the member occurs twice with different content"},
		{"config twice", with(file{name: "./c.json", content: string(other.Config)}), "c.json: the member occurs twice with different content"},
		{"link over a layer", with(file{name: "l.tgz", link: "c.json"}), "l.tgz: the member occurs twice with different content"},
		{"wrong digest of a layer", with(file{name: "blobs/sha256/" + hexA, content: layer}), "blobs/sha256/a*: the content of the member is sha256:.*"},
		{"wrong digest of zstd", with(file{name: "blobs/sha256/" + hexA, content: string(zstded([]byte(layer)))}), "blobs/sha256/a*: the content of the member is sha256:.*"},
		{"wrong digest of JSON", with(file{name: "blobs/sha256/" + hexA, content: string(img.Config)}), "blobs/sha256/a*: the content of the member is sha256:.*"},
		{"no digest", with(file{name: "blobs/sha256/x", content: layer}), "blobs/sha256/x: the content of the member is sha256:.*"},
		{"damaged zstd", with(file{name: "z", content: "\x28\xb5\x2f\xfdxxxxxxxxxxxxxxxxxxx"}), "z: .*"},
		{"too much metadata", with(tooMuchMetadata()...), "its metadata is larger than 33554432 bytes"},
		// manifest.json.
		{"malformed", goodBut(func(f []file) []file { return append(f[:2], file{name: "manifest.json", content: "[{"}) }), "manifest.json: manifest.json cannot be used: it is not the metadata of an image"},
		{"an object", goodBut(func(f []file) []file { return append(f[:2], file{name: "manifest.json", content: "{}"}) }), "manifest.json: manifest.json cannot be used: it is not the metadata of an image"},
		{"an object with layers", goodBut(func(f []file) []file {
			return append(f[:2], file{name: "manifest.json", content: `{"layers":[]}`})
		}), "manifest.json: it is malformed: .*"},
		{"text", goodBut(func(f []file) []file { return append(f[:2], file{name: "manifest.json", content: "text"}) }), "manifest.json: manifest.json cannot be used: it is neither a layer nor metadata"},
		{"a layer", goodBut(func(f []file) []file { return append(f[:2], file{name: "manifest.json", content: layer}) }), `manifest.json: "manifest.json" is not JSON`},
		{"huge", goodBut(func(f []file) []file {
			return append(f[:2], file{name: "manifest.json", content: "[" + strings.Repeat(" ", imagetar.MaxConfig) + "]"})
		}), "manifest.json: manifest.json cannot be used: its 8388610 bytes are more than the 8388608 that metadata may have"},
		{"no image", goodBut(func(f []file) []file { return append(f[:2], file{name: "manifest.json", content: "[]"}) }), "it holds 0 images"},
		{"two images", goodBut(func(f []file) []file {
			return append(f[:2], file{name: "manifest.json", content: `[{"Config":"c.json","RepoTags":["a:1"]},{"Config":"c.json","RepoTags":["b:1","b:2"]}]`})
		}), `it holds 2 images \(a:1, b:1, b:2\)`},
		{"a link to itself", goodBut(func(f []file) []file { return append(f[:2], file{name: "manifest.json", link: "manifest.json"}) }), `manifest.json: "manifest.json" is a chain of more than 16 links`},
		// What it names.
		{"config missing", goodBut(func(f []file) []file { return f[1:] }), `config: the archive has no member "c.json"`},
		{"config upwards", goodBut(func(f []file) []file { return append(f[:2], dockerManifest("../../c.json", nil, "l.tgz")) }), `config: the name "../../c.json" leads out of the archive`},
		{"config is a layer", goodBut(func(f []file) []file { return append(f[:2], dockerManifest("l.tgz", nil, "l.tgz")) }), `config: "l.tgz" is not JSON`},
		{"config has no name", goodBut(func(f []file) []file { return append(f[:2], dockerManifest("", nil, "l.tgz")) }), `config: the archive has no member "."`},
		{"config of an artifact", goodBut(func(f []file) []file {
			f[0].content = `{"layers":[]}`
			return f
		}), `sha256:.*: it describes no container image .*`},
		{"layer missing", goodBut(func(f []file) []file { return []file{f[0], f[2]} }), `layer 1: the archive has no member "l.tgz"`},
		{"layers too few", listingLayers(), `it lists 0 layers but the config names 1 \(rootfs.diff_ids\)`},
		{"layers too many", listingLayers("l.tgz", "l.tgz"), `it lists 2 layers but the config names 1 \(rootfs.diff_ids\)`},
		{"layer upwards", listingLayers("../l.tgz"), `layer 1: the name "../l.tgz" leads out of the archive`},
		{"layer absolute", listingLayers("/l.tgz"), `layer 1: the name "/l.tgz" leads out of the archive`},
		{"layer is JSON", listingLayers("c.json"), `layer 1: "c.json" is not a layer`},
		{"layer is text", goodBut(func(f []file) []file {
			f[1].content = "text"
			return f
		}), `layer 1: l.tgz cannot be used: it is neither a layer nor metadata`},
		{"layer is bzip2", goodBut(func(f []file) []file {
			f[1].content = "BZh91AY&SY"
			return f
		}), `layer 1: l.tgz cannot be used: it is compressed in a way that not every engine reads; .*`},
		{"layer is another", goodBut(func(f []file) []file {
			f[1].content = layerBytes(randomimage.Layer(5, 5120, imagetar.Plain))
			return f
		}), `layer 1: "l.tgz" holds sha256:\w* but the config says sha256:\w*`},
		{"zstd layer is another", goodBut(func(f []file) []file {
			f[1].content = layerBytes(randomimage.Layer(5, 5120, imagetar.Zstd))
			return f
		}), `layer 1: "l.tgz" holds sha256:\w* but the config says sha256:\w*`},
		{"link upwards", goodBut(func(f []file) []file {
			f[1] = file{name: "l.tgz", link: "../../etc/passwd"}
			return f
		}), `layer 1: the name "../../etc/passwd" leads out of the archive`},
		{"link absolute", goodBut(func(f []file) []file {
			f[1] = file{name: "l.tgz", link: "/etc/passwd"}
			return f
		}), `layer 1: the name "/etc/passwd" leads out of the archive`},
		{"hard link upwards", goodBut(func(f []file) []file {
			f[1] = file{name: "l.tgz", link: "../../etc/passwd", typeflag: tar.TypeLink}
			return f
		}), `layer 1: the name "../../etc/passwd" leads out of the archive`},
		{"link to nothing", goodBut(func(f []file) []file {
			f[1] = file{name: "l.tgz", link: "nothing"}
			return f
		}), `layer 1: the archive has no member "nothing"`},
		{"device", goodBut(func(f []file) []file {
			f[1] = file{name: "l.tgz", typeflag: tar.TypeChar}
			return f
		}), `layer 1: the archive has no member "l.tgz"`},
		// index.json.
		{"index malformed", tarOf(file{name: "index.json", content: `{"manifests":7}`}), "index.json: it is malformed: .*"},
		{"index empty", onlyIndex([]object{}), `manifest: the archive has no member .*`},
		{"index beside a good manifest.json", with(file{name: "index.json", content: `{"manifests":7}`}), "index.json: it is malformed: .*"},
		{"index with traversal", onlyIndex([]object{{"mediaType": ociManifest, "digest": "sha256:../../index.json"}}), `index.json: the digest "sha256:../../index.json" is malformed`},
		{"manifest missing", onlyIndex([]object{entry}, string(img.Config), layer), `manifest: the archive has no member .*`},
		{"manifest malformed", onlyIndex([]object{descriptor(ociManifest, `{"layers":7}`, nil)}, `{"layers":7}`), `sha256:.*: the manifest is malformed: .*`},
		{"manifest with traversal", onlyIndex([]object{descriptor(ociManifest, `{"layers":[{"digest":"../x"}]}`, nil)}, `{"layers":[{"digest":"../x"}]}`), `sha256:.*: the manifest has the malformed digest ""`},
		{"OCI config missing", onlyIndex([]object{entry}, string(img.Manifest), layer), `config: the archive has no member "blobs/sha256/.*"`},
		{"OCI layer missing", onlyIndex([]object{entry}, string(img.Manifest), string(img.Config)), `layer 1: the archive has no member "blobs/sha256/.*"`},
		{"OCI sizes", ociSizes(), `sha256:.*: layer 1 is .*`},
		{"two OCI images", onlyIndex([]object{
			descriptor(ociManifest, string(img.Manifest), object{"platform": object{"os": "linux", "architecture": "amd64"}}),
			descriptor(ociManifest, string(other.Manifest), object{"platform": object{"os": "linux", "architecture": "arm64"}, "annotations": object{"io.containerd.image.name": "docker.io/x:1"}}),
		}, string(img.Manifest), string(img.Config), layer, string(other.Manifest), string(other.Config), layerBytes(other.Layers[0])),
			`it holds 2 images \(linux/amd64, docker.io/x:1, linux/arm64\)`},
		{"too many manifests", tooManyManifests(), "index.json: the archive lists more than 1000 manifests"},
		{"indexes too deep", deepIndexes(6), "sha256:.*: more than 4 indexes are in each other"},
		{"foreign layer", foreignLayer(), "sha256:.*: the layer may not be redistributed .*"},
	}
}

// tooMuchMetadata is five configs of 7 MiB.
func tooMuchMetadata() (files []file) {
	for i := range 5 {
		files = append(files, file{name: fmt.Sprint(i), content: `{"rootfs":"` + strings.Repeat("x", 7<<20) + `"}`})
	}
	return files
}

func ociSizes() []byte {
	img, _, layer := ociParts()
	replaceManifest(`"size":5000`, `"size":4999`)(&img)
	return onlyIndex([]object{descriptor(ociManifest, string(img.Manifest), nil)}, string(img.Manifest), string(img.Config), layer)
}

func tooManyManifests() []byte {
	var entries []object
	for i := range 1001 {
		entries = append(entries, descriptor(ociManifest, fmt.Sprint(i), nil))
	}
	return onlyIndex(entries)
}

func deepIndexes(depth int) []byte {
	inner := index()
	blobs := []string{inner}
	for range depth {
		inner = index(descriptor(ociIndex, inner, nil))
		blobs = append(blobs, inner)
	}
	return onlyIndex([]object{descriptor(ociIndex, inner, nil)}, blobs...)
}

func foreignLayer() []byte {
	img, _, layer := ociParts()
	replaceManifest(`image.layer.v1.tar+gzip`, `image.layer.nondistributable.v1.tar+gzip`)(&img)
	return onlyIndex([]object{descriptor(ociManifest, string(img.Manifest), nil)}, string(img.Manifest), string(img.Config), layer)
}

func (s *scanSuite) TestArchivesThatAreRefused(c *check.C) {
	for _, t := range badArchives() {
		comment := check.Commentf("%s", t.name)
		a, err := scan(t.data)
		c.Check(a, check.DeepEquals, imagetar.Archive{}, comment)
		c.Check(err, check.ErrorMatches, `(?s)request: (read image (archive|config)|check image (manifest|layers)):? ?`+t.message+` \(.*\)`, comment)
		failure, ok := err.(*fault.Error)
		if c.Check(ok, check.Equals, true, comment) {
			c.Check(failure.Transient, check.Equals, false, comment)
			c.Check(len(failure.Error()) < 3000, check.Equals, true, comment)
		}
	}
}

func (s *scanSuite) TestTooManyMembers(c *check.C) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for range 170000 {
		c.Assert(w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "a/"}), check.IsNil)
	}
	_, err := scan(buf.Bytes())
	c.Check(err, check.ErrorMatches, ".*its metadata is larger than 33554432 bytes.*")
}

func (s *scanSuite) TestSameMemberTwiceIsHarmless(c *check.C) {
	img := randomimage.New(1, 5000)
	checkScan(c, append(good(), good()...), img)
}

// A sparse file would make gigabytes of nothing. tar writes them in two ways.
func (s *scanSuite) TestSparseMembers(c *check.C) {
	dir := c.MkDir()
	f, err := os.Create(filepath.Join(dir, "big"))
	c.Assert(err, check.IsNil)
	c.Assert(f.Truncate(1<<30), check.IsNil)
	c.Assert(f.Close(), check.IsNil)
	for _, format := range []string{"gnu", "posix"} {
		data, err := exec.Command("tar", "-cS", "--format="+format, "-C", dir, "big").Output()
		c.Assert(err, check.IsNil)
		_, err = scan(data)
		c.Check(err, check.ErrorMatches, "request: read image archive big: the member is a sparse file .*", check.Commentf("%s", format))
	}
}
