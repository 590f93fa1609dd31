// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"

	"git.arvados.org/arvados.git/lib/imagetar"
)

// tarHeader is the size of a tar header, and the unit of an archive.
const tarHeader = 512

// tarWalk is given an archive and takes note of its members, so that it can be
// compared with a Layout.
type tarWalk struct {
	members []walked
	size    int64
	broken  bool // it cannot be the archive of a Layout
	trailer bool // the members are over
	dirty   bool // and what follows is not all zero

	header  []byte // of the member to come, as far as read
	content int64  // bytes of the current member still to come
	padding int    // likewise
	hash    hash.Hash
}

type walked struct {
	name   string
	header []byte
	digest string
	dirty  bool // its padding is not all zero
}

func (t *tarWalk) Write(p []byte) (int, error) {
	t.size += int64(len(p))
	for rest := p; len(rest) > 0 && !t.broken; {
		n := 0
		switch {
		case t.trailer:
			n = len(rest)
			t.dirty = t.dirty || !isZero(rest)
		case t.content > 0:
			n = int(min(int64(len(rest)), t.content))
			t.hash.Write(rest[:n])
			if t.content -= int64(n); t.content == 0 {
				t.endContent()
			}
		case t.padding > 0:
			n = min(len(rest), t.padding)
			last := &t.members[len(t.members)-1]
			last.dirty = last.dirty || !isZero(rest[:n])
			t.padding -= n
		default:
			n = min(len(rest), tarHeader-len(t.header))
			if t.header = append(t.header, rest[:n]...); len(t.header) == tarHeader {
				t.startMember()
			}
		}
		rest = rest[n:]
	}
	return len(p), nil
}

func (t *tarWalk) startMember() {
	header := t.header
	t.header = nil
	if isZero(header) {
		t.trailer = true
		return
	}
	hdr, err := tar.NewReader(bytes.NewReader(header)).Next()
	if err != nil || hdr.Typeflag != tar.TypeReg {
		t.broken = true
		return
	}
	t.members = append(t.members, walked{name: hdr.Name, header: header})
	t.content, t.padding, t.hash = hdr.Size, int(-hdr.Size&(tarHeader-1)), sha256.New()
	if t.content == 0 {
		t.endContent()
	}
}

func (t *tarWalk) endContent() {
	t.members[len(t.members)-1].digest = fmt.Sprintf("sha256:%x", t.hash.Sum(nil))
}

// differences are in what the archive is not that of the layout, whose layers
// have the digests in layers; none: it is the same, byte by byte.
func (t *tarWalk) differences(layout imagetar.Layout, layers []imagetar.Layer) (list []string) {
	for i, m := range layout.Members {
		if i >= len(t.members) {
			list = append(list, fmt.Sprintf("the member %s is missing", m.Name))
			continue
		}
		digest := fmt.Sprintf("sha256:%x", sha256.Sum256(m.Content))
		if m.Layer >= 0 {
			digest = layers[m.Layer].Digest
		}
		if !bytes.Equal(t.members[i].header, m.Header()) {
			list = append(list, fmt.Sprintf("the tar header of %s is another one", m.Name))
		}
		if t.members[i].digest != digest {
			list = append(list, fmt.Sprintf("the content of %s is another one", m.Name))
		}
		if t.members[i].dirty {
			list = append(list, fmt.Sprintf("the padding after %s is not empty", m.Name))
		}
	}
	for _, m := range t.members[min(len(t.members), len(layout.Members)):] {
		list = append(list, fmt.Sprintf("there is one more member, %.200q", m.name))
	}
	if t.broken || !t.trailer || t.dirty || len(list) == 0 && t.size != layout.Size {
		list = append(list, "what follows the last member is not as it should be")
	}
	return list
}

// resembles reports whether the archive was made as that of the layout, though
// parts of it may have been changed: no other program writes such headers.
func (t *tarWalk) resembles(layout imagetar.Layout) bool {
	same := 0
	for i, m := range layout.Members {
		if i < len(t.members) && bytes.Equal(t.members[i].header, m.Header()) {
			same++
		}
	}
	return 2*same >= len(layout.Members)
}

func isZero(p []byte) bool { return bytes.Count(p, []byte{0}) == len(p) }
