// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/imagetar"
	"gopkg.in/check.v1"
)

// described is an image in lines by what they are about: "config User",
// "history 3", `file "/etc/passwd"`. It has no times.
type described map[string]string

// describe reads an image archive, of any dialect.
func describe(r io.Reader) (described, error) {
	blobs := blobsInMemory{}
	found, err := imagetar.ScanArchive(r, blobs)
	if err != nil {
		return nil, err
	}
	d := described{}
	if err := d.config(found.Image.Config); err != nil {
		return nil, err
	}
	tree := fileTree{}
	for _, name := range found.Members {
		if err := tree.apply(blobs[name]); err != nil {
			return nil, fmt.Errorf("layer %s: %w", name, err)
		}
	}
	tree.describe(d)
	return d, nil
}

// blobsInMemory keep the layers of an archive.
type blobsInMemory map[string][]byte

func (b blobsInMemory) Blob(name string, _ int64, r io.Reader) (imagetar.BlobInfo, error) {
	content, err := io.ReadAll(r)
	b[name] = content
	return imagetar.BlobInfo{Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(content)), Size: int64(len(content))}, err
}

// config adds an image's config, but for what is null or empty there: engines
// write some fields or leave them out.
func (d described) config(text []byte) error {
	var all struct {
		Author, Architecture, OS, Variant string
		Config                            map[string]json.RawMessage
		History                           []struct {
			CreatedBy string `json:"created_by"`
			Empty     bool   `json:"empty_layer"`
		}
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	d["author"] = all.Author
	d["platform"] = path.Join(all.OS, all.Architecture, all.Variant)
	d["layers"] = fmt.Sprint(len(all.RootFS.DiffIDs))
	for key, value := range all.Config {
		switch text := string(value); text {
		case "null", `""`, "[]", "{}", "false":
		default:
			var v any
			if err := json.Unmarshal(value, &v); err != nil {
				return err
			}
			sorted, err := json.Marshal(v) // with the keys in order
			if err != nil {
				return err
			}
			d["config "+key] = string(sorted)
		}
	}
	for i, h := range all.History {
		d[fmt.Sprintf("history %d", i)] = fmt.Sprintf("%s (no layer: %v)", h.CreatedBy, h.Empty)
	}
	return nil
}

// fileTree is what layers make when they lie upon one another. Hard links are
// the same *inode.
type fileTree map[string]*inode

type inode struct {
	header *tar.Header
	size   int64
	sum    [sha256.Size]byte
}

// Names that a layer has for what it takes away (image-spec, layer.md).
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// apply lays a layer upon the tree.
func (t fileTree) apply(layer []byte) error {
	plain, err := imagetar.Decompress(bytes.NewReader(layer), imagetar.Sniff(layer))
	if err != nil {
		return err
	}
	defer plain.Close()
	added := fileTree{}
	for tr := tar.NewReader(plain); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		name := path.Join("/", h.Name)
		dir, base := path.Split(name)
		switch {
		case base == opaque:
			t.remove(path.Clean(dir), false)
		case strings.HasPrefix(base, whiteout):
			t.remove(dir+strings.TrimPrefix(base, whiteout), true)
		case h.Typeflag == tar.TypeLink:
			target := path.Join("/", h.Linkname)
			if added[name] = added[target]; added[name] == nil {
				return fmt.Errorf("%q is a hard link to %q, which the layer does not have", name, target)
			}
		default:
			sum := sha256.New()
			n, err := io.Copy(sum, tr)
			if err != nil {
				return err
			}
			added[name] = &inode{header: h, size: n, sum: [sha256.Size]byte(sum.Sum(nil))}
		}
	}
	for name, node := range added {
		if node.header.Typeflag != tar.TypeDir {
			t.remove(name, true)
		}
		t[name] = node
	}
	return nil
}

// remove removes what is below a name, and the name itself if all is true.
func (t fileTree) remove(name string, all bool) {
	below := strings.TrimSuffix(name, "/") + "/"
	maps.DeleteFunc(t, func(other string, _ *inode) bool {
		return strings.HasPrefix(other, below) && other != name || all && other == name
	})
}

// describe adds the files to d.
func (t fileTree) describe(d described) {
	first := map[*inode]string{}
	for _, name := range slices.Sorted(maps.Keys(t)) {
		node := t[name]
		key := fmt.Sprintf("file %q", name)
		if other, ok := first[node]; ok {
			d[key] = fmt.Sprintf("the same as %q", other)
			continue
		}
		first[node] = name
		h := node.header
		text := fmt.Sprintf("type %c mode %o owner %d:%d", h.Typeflag, h.Mode&07777, h.Uid, h.Gid)
		switch h.Typeflag {
		case tar.TypeReg:
			text += fmt.Sprintf(" size %d sha256 %x", node.size, node.sum)
		case tar.TypeSymlink:
			text += fmt.Sprintf(" to %q", h.Linkname)
		case tar.TypeChar, tar.TypeBlock:
			text += fmt.Sprintf(" device %d:%d", h.Devmajor, h.Devminor)
		}
		for _, record := range slices.Sorted(maps.Keys(h.PAXRecords)) {
			if strings.HasPrefix(record, "SCHILY.xattr.") {
				text += fmt.Sprintf(" %s %x", record, h.PAXRecords[record])
			}
		}
		d[key] = text
	}
}

// differences are lines about what two images do not have in common.
func differences(ours, dockers described) (lines []string) {
	both := maps.Clone(ours)
	maps.Copy(both, dockers)
	for _, key := range slices.Sorted(maps.Keys(both)) {
		if ours[key] != dockers[key] {
			lines = append(lines, fmt.Sprintf("%s: ours is %q, docker's is %q", key, ours[key], dockers[key]))
		}
	}
	return lines
}

var _ = check.Suite(&fileTreeSuite{})

type fileTreeSuite struct{}

// What takes away and what adds in one layer do not meet, whatever comes first.
func (*fileTreeSuite) TestLayersUponOneAnother(c *check.C) {
	tree := fileTree{}
	for _, lines := range []string{
		"dir 0755 0 0 d\nfile 0644 0 0 d/old x\nfile 0644 0 0 gone x\nfile 0644 0 0 a x\nfile 0644 0 0 deep/er/file x\ndir 0755 0 0 becomes\nfile 0644 0 0 becomes/x x",
		"file 0644 0 0 d/new y\nfile 0644 0 0 d/.wh..wh..opq\nfile 0644 0 0 .wh.gone\nhard 0644 0 0 d/hard d/new\nfile 0644 0 0 deep/.wh.er\nsym 0777 0 0 becomes a",
		"file 4755 1 2 a z",
	} {
		layer, err := archive(lines)
		c.Assert(err, check.IsNil)
		c.Assert(tree.apply([]byte(layer)), check.IsNil)
	}
	got := described{}
	tree.describe(got)
	sum := func(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }
	c.Check(got, check.DeepEquals, described{
		`file "/a"`:       "type 0 mode 4755 owner 1:2 size 1 sha256 " + sum("z"),
		`file "/becomes"`: `type 2 mode 777 owner 0:0 to "a"`,
		`file "/d"`:       "type 5 mode 755 owner 0:0",
		`file "/d/hard"`:  "type 0 mode 644 owner 0:0 size 1 sha256 " + sum("y"),
		`file "/d/new"`:   `the same as "/d/hard"`,
	})
	other := maps.Clone(got)
	other[`file "/a"`] = "else"
	delete(other, `file "/d"`)
	c.Check(differences(got, other), check.HasLen, 2)
}
