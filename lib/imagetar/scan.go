// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
)

// Limits on an archive. Those of real images have a few hundred members and
// less than 1 MiB of metadata. Together they allow some 160,000 members.
const (
	maxMetadata = 32 << 20 // bytes of names and JSON held in memory
	entryCost   = 200      // bytes that a member costs beside its name
	maxTrailing = 1 << 20  // bytes after the end; tar pads to 10 KiB by default
)

const opScan = "read image archive"

// ScanArchive reads an image archive as any of the usual programs write it:
// docker save (the old layout, with links between layers, and the OCI one),
// podman, skopeo, crane; as it is or compressed by gzip or zstd. The members
// may be in any order. r is read once to its end, and the sink gets the layers.
//
// The archive must hold one image with all its layers, and every blob whose
// name is a digest must have it. Errors of the archive are *fault.Error of side
// Request; errors of r and sink come back as they are, r's with a prefix, for
// the caller to add the side.
func ScanArchive(r io.Reader, sink BlobSink) (Archive, error) {
	source := &memberReader{Reader: r}
	s := &scanner{sink: sink, entries: map[string]*entry{}, body: bufio.NewReaderSize(nil, 64<<10)}
	err := s.scan(source)
	if source.err != nil {
		// Whatever came of it, this was the cause.
		return Archive{}, fmt.Errorf("%s: %w", opScan, source.err)
	}
	if err != nil {
		return Archive{}, err
	}
	return s.entries.resolve()
}

// scanner is the state of the one pass.
type scanner struct {
	sink    BlobSink
	entries entries
	body    *bufio.Reader // of the current member
	memory  int           // what entries cost
}

func (s *scanner) scan(source io.Reader) error {
	buffered := bufio.NewReaderSize(source, 64<<10)
	prefix, err := buffered.Peek(SniffLen)
	if err != nil && err != io.EOF {
		return err
	}
	plain, err := Decompress(buffered, Sniff(prefix))
	if err != nil {
		return damaged("", err)
	}
	defer plain.Close()
	end := &memberReader{Reader: plain}
	archive := tar.NewReader(end)
	for {
		hdr, err := archive.Next()
		if err == io.EOF && end.starved {
			// Cut between two members. Go's reader does without the
			// blocks of zeros that end an archive.
			err = io.ErrUnexpectedEOF
		}
		if err == io.EOF {
			break
		}
		// What Go may one day call insecure, cleanName refuses.
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return damaged("", err)
		}
		if err := s.member(hdr, archive); err != nil {
			return err
		}
	}
	// The rest proves that the stream ended well, e.g. by gzip's checksum.
	switch n, err := io.CopyN(io.Discard, plain, maxTrailing+1); {
	case err == nil:
		return invalid(opScan, "", "more than %d bytes follow its end", n-1)
	case err != io.EOF:
		return damaged("", err)
	}
	return nil
}

func (s *scanner) member(hdr *tar.Header, content io.Reader) error {
	name, ok := cleanName(hdr.Name)
	if !ok {
		return invalid(opScan, fmt.Sprintf("%.200q", hdr.Name), "the name of the member leads out of the archive")
	}
	if err := s.charge(len(name) + len(hdr.Linkname) + entryCost); err != nil {
		return err
	}
	switch hdr.Typeflag {
	case tar.TypeSymlink:
		return s.entries.add(name, &entry{link: symlinkTarget(name, hdr.Linkname)})
	case tar.TypeLink:
		return s.entries.add(name, &entry{link: hdr.Linkname})
	case tar.TypeReg:
		// A sparse file may claim terabytes at no cost.
		for key := range hdr.PAXRecords {
			if strings.HasPrefix(key, "GNU.sparse.") {
				return invalid(opScan, name, "the member is a sparse file")
			}
		}
		body := &memberReader{Reader: content}
		err := s.regular(name, hdr.Size, body)
		if body.err != nil {
			return damaged(name, body.err)
		}
		return err
	case tar.TypeGNUSparse:
		return invalid(opScan, name, "the member is a sparse file")
	}
	return nil // folders and the like
}

// charge counts n bytes of memory.
func (s *scanner) charge(n int) error {
	s.memory += n
	if s.memory > maxMetadata {
		return invalid(opScan, "", "its metadata is larger than %d bytes", maxMetadata)
	}
	return nil
}

// regular decides by the first bytes what the member is: JSON to be held, what
// may be a layer, or nothing of interest.
func (s *scanner) regular(name string, size int64, content io.Reader) error {
	s.body.Reset(content)
	prefix, err := s.body.Peek(tarBlock)
	if err == io.EOF {
		err = nil // a short member
	}
	if err != nil {
		return err
	}
	e := &entry{size: size}
	switch compression := Sniff(prefix); {
	case compression == Other:
		e.useless = "it is compressed in a way that not every engine reads; make the image with gzip or zstd"
	case compression != Plain || size == 0 || isTar(prefix):
		err = s.blob(name, e, compression)
	case isJSON(prefix) && size > MaxConfig:
		e.useless = fmt.Sprintf("its %d bytes are more than the %d that metadata may have", size, MaxConfig)
	case isJSON(prefix):
		if e.json, err = io.ReadAll(s.body); err != nil {
			return err
		}
		e.digest = digestOf(e.json)
		if !isMetadata(e.json) {
			// Attestations can be large, and nothing asks for them.
			e.json, e.useless = nil, "it is not the metadata of an image"
		}
		err = s.charge(len(e.json))
	default:
		e.useless = "it is neither a layer nor metadata"
	}
	if err != nil {
		return err
	}
	return s.entries.add(name, e)
}

// blob passes the member to the sink, decompressed if engines may not read it.
func (s *scanner) blob(name string, e *entry, compression Compression) error {
	if compression != Zstd {
		e.kept = compression
		if err := s.keep(name, e, e.size, s.body); err != nil {
			return err
		}
		e.digest = e.blob.Digest
		return nil
	}
	e.kept, e.converted = Plain, true
	hash := sha256.New()
	raw := io.TeeReader(s.body, hash)
	plain, err := Decompress(raw, compression)
	if err != nil {
		return damaged(name, err)
	}
	defer plain.Close()
	if err := s.keep(name, e, -1, plain); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return err
	}
	e.digest = fmt.Sprintf("sha256:%x", hash.Sum(nil))
	return nil
}

func (s *scanner) keep(name string, e *entry, size int64, content io.Reader) error {
	body := &memberReader{Reader: content}
	var err error
	e.blob, err = s.sink.Blob(name, size, body)
	switch {
	case body.err != nil:
		return damaged(name, body.err)
	case err != nil:
		return err
	case e.blob.Size != body.n || size != body.n && !body.ended:
		return fmt.Errorf("%s: the sink took %d bytes of %s and left some", opScan, e.blob.Size, name)
	}
	return nil
}

// memberReader remembers how reading a member went, whatever its reader makes
// of it.
type memberReader struct {
	io.Reader
	n       int64
	ended   bool  // returned io.EOF
	starved bool  // returned io.EOF and nothing else
	err     error // other than io.EOF
}

func (m *memberReader) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.n += int64(n)
	if err == io.EOF {
		m.ended, m.starved = true, n == 0
	} else if err != nil {
		m.err = err
	}
	return n, err
}

// damaged is the error for an archive, or a member of it, that cannot be read.
func damaged(name string, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends early")
	}
	return &fault.Error{Op: opScan, Side: fault.Request, Subject: name, Err: err,
		Hint: "the archive is damaged or no tar: make it again with docker save"}
}
