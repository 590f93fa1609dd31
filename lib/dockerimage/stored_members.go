// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"

	"git.arvados.org/arvados.git/lib/imagetar"
	"git.arvados.org/arvados.git/lib/keepfile"
)

// maxHeld bounds what is held of one archive, in bytes: its small layers, by
// smallInMemory, its metadata, which imagetar bounds, and headers.
const maxHeld = 3 * smallInMemory

// storedMember is a member of an archive in Keep.
type storedMember struct {
	name   string // clean
	file   bool   // neither folder nor link
	header []byte // all blocks of it, padding included
	offset int64  // of the content in the file
	size   int64  // of the content; 0 for links and folders
	start  []byte // of the content: all of it, or what tells of what kind it is
	digest string // what the content should be if it is a layer; "" if nothing says it
}

func (m *storedMember) held() bool { return int64(len(m.start)) == m.size }

func (m *storedMember) is(name string) bool { return m.file && m.name == name }

// storedMembers are the members of an archive, in order.
type storedMembers struct {
	size    int64 // of the file
	ended   bool  // the archive has come to an end as it should
	members []*storedMember
	held    int64 // bytes in memory
	next    int   // the first member that may be the next blob
}

// skimArchive reads the headers of an archive, its small members and the
// beginnings of the others. It ends where it meets something that is for
// imagetar to refuse.
func skimArchive(ctx context.Context, keep keepfile.BlockReader, file keepfile.File) (*storedMembers, error) {
	s := &storedMembers{size: file.Size()}
	in := newSkimmer(ctx, keep, file)
	defer in.close()
	for at := int64(0); at < s.size; {
		m, err := s.read(in, at)
		if m == nil || err != nil {
			return s, err
		}
		s.members = append(s.members, m)
		next := m.offset + m.size + padding(m.size)
		in.skip(next - m.offset - int64(len(m.start)))
		at = next
	}
	return s, nil
}

func padding(size int64) int64 { return -size & (tarHeader - 1) }

// read reads the member that begins at the given place, nil if none does.
func (s *storedMembers) read(in *skimmer, at int64) (*storedMember, error) {
	var header bytes.Buffer
	source := &errKeeper{ReadCloser: io.NopCloser(io.TeeReader(in, &header))}
	hdr, err := tar.NewReader(source).Next()
	switch {
	case source.err != nil:
		return nil, source.err
	case at == 0 && imagetar.Sniff(header.Bytes()) != imagetar.Plain:
		return nil, errors.New("its archive is compressed as a whole, so that nothing can be found in it")
	case err == io.EOF:
		s.ended = true
		return nil, nil
	case err != nil || hdr.Typeflag == tar.TypeGNUSparse || hdr.PAXRecords["GNU.sparse.major"] != "" || hdr.PAXRecords["GNU.sparse.map"] != "":
		return nil, nil
	}
	in.skip(padding(int64(header.Len())))
	header.Write(make([]byte, padding(int64(header.Len()))))
	m := &storedMember{name: path.Clean(hdr.Name), file: hdr.Typeflag == tar.TypeReg, header: header.Bytes(), offset: at + int64(header.Len())}
	switch hdr.Typeflag {
	case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo, tar.TypeXGlobalHeader:
	default:
		m.size = hdr.Size
	}
	if m.size < 0 || m.size > s.size-m.offset {
		return nil, fmt.Errorf("its archive ends early, within %.200q", m.name)
	}
	if m.start, err = readMore(in, nil, min(m.size, tarHeader)); err != nil {
		return nil, err
	}
	room := smallInMemory - s.held
	if isObject(m.start) && m.size <= imagetar.MaxConfig {
		room = maxHeld - s.held
	} else if m.size >= imagetar.BigMember {
		room = 0
	}
	if m.size <= room {
		if m.start, err = readMore(in, m.start, m.size); err != nil {
			return nil, err
		}
	}
	s.held += int64(len(m.header) + len(m.start))
	if s.held > maxHeld {
		return nil, fmt.Errorf("the metadata of its archive is larger than %d bytes", maxHeld)
	}
	return m, nil
}

// readMore appends to buf until it has size bytes.
func readMore(in io.Reader, buf []byte, size int64) ([]byte, error) {
	whole := make([]byte, size)
	n := copy(whole, buf)
	_, err := io.ReadFull(in, whole[n:])
	return whole, err
}

// isObject reports whether content may be JSON metadata.
func isObject(start []byte) bool {
	trimmed := bytes.TrimLeft(start, " \t\r\n")
	return len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[')
}

// find is the member of that name, or an empty one.
func (s *storedMembers) find(name string) *storedMember {
	for _, m := range s.members {
		if m.is(name) {
			return m
		}
	}
	return &storedMember{}
}

// namedByDigest are the names that blobs have in OCI layouts and by crane.
var namedByDigest = regexp.MustCompile(`^(?:blobs/sha256/([0-9a-f]{64})|([0-9a-f]{64})\.tar\.gz)$`)

// parts are what the archive consists of, the layers that need not be read
// among them. It tells the digests of these.
func (s *storedMembers) parts() []part {
	diffIDs := s.diffIDs()
	var parts []part
	end := int64(0)
	for _, m := range s.members {
		compression := imagetar.Sniff(m.start)
		if name := namedByDigest.FindStringSubmatch(m.name); name != nil {
			m.digest = "sha256:" + name[1] + name[2]
		} else if compression == imagetar.Plain {
			m.digest = diffIDs[m.name]
		}
		if isObject(m.start) || compression == imagetar.Zstd {
			m.digest = ""
		}
		rest := m.size - int64(len(m.start))
		end = m.offset + m.size + padding(m.size)
		parts = append(parts, part{data: m.header}, part{data: m.start},
			part{size: rest, void: m.digest != "" || compression == imagetar.Other},
			part{size: padding(m.size), void: true})
	}
	return append(parts, part{size: s.size - end, void: s.ended})
}

// diffIDs are those of the layers by the names of their members, as
// manifest.json and the config tell; none where something is wrong with these.
func (s *storedMembers) diffIDs() map[string]string {
	var images []struct {
		Config string
		Layers []string
	}
	var config struct {
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	ids := map[string]string{}
	if json.Unmarshal(s.find("manifest.json").start, &images) != nil || len(images) != 1 ||
		json.Unmarshal(s.find(path.Clean(images[0].Config)).start, &config) != nil || len(config.RootFS.DiffIDs) != len(images[0].Layers) {
		return ids
	}
	for i, name := range images[0].Layers {
		ids[path.Clean(name)] = config.RootFS.DiffIDs[i]
	}
	return ids
}

// blob tells imagetar what a layer is: what it should be, if its content is not
// here; that is checked when the layer is read.
func (s *storedMembers) blob(name string, _ int64, r io.Reader) (imagetar.BlobInfo, error) {
	for !s.members[s.next].is(name) {
		s.next++
	}
	m := s.members[s.next]
	s.next++
	if m.digest != "" && !m.held() {
		n, err := io.Copy(io.Discard, r)
		return imagetar.BlobInfo{Digest: m.digest, Size: n}, err
	}
	hash := sha256.New()
	n, err := io.Copy(hash, r)
	return imagetar.BlobInfo{Digest: fmt.Sprintf("sha256:%x", hash.Sum(nil)), Size: n}, err
}
