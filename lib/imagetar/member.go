// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar

import (
	"archive/tar"
	"bytes"
	"time"
)

const (
	// BigMember is the size of a member's content, in bytes, from which it
	// gets Keep blocks of its own. Below it, blocks of their own would cost
	// more in small blocks than sharing them saves.
	BigMember = 4 << 20

	// tarBlock is the unit of a tar archive (POSIX ustar, pax(1)).
	tarBlock = 512
	// trailerSize: two blocks of zeros end an archive.
	trailerSize = 2 * tarBlock
	// maxUstarSize is what the 11 octal digits of a ustar size field hold.
	maxUstarSize = 1<<33 - 1
)

// Member is one file of a Layout.
type Member struct {
	Name    string
	Size    int64  // of the content in bytes, without header and padding
	Content []byte // nil for layers
	Layer   int    // index of the first of Image.Layers with this digest; -1 for metadata
}

// Header is the member's 512-byte tar header. Its fields are constant except
// for name and size: mode 0644, owner 0, time 0.
func (m Member) Header() []byte {
	hdr := tar.Header{
		Typeflag: tar.TypeReg,
		Name:     m.Name,
		Size:     m.Size,
		Mode:     0644,
		ModTime:  time.Unix(0, 0),
		Format:   tar.FormatUSTAR,
	}
	if m.Size > maxUstarSize {
		// GNU's base-256 size field. PAX would need a member before
		// this one.
		hdr.Format = tar.FormatGNU
	}
	var buf bytes.Buffer
	if err := tar.NewWriter(&buf).WriteHeader(&hdr); err != nil {
		// Blob names fit ustar, and NewLayout admits no negative size.
		panic(err)
	}
	return buf.Bytes()
}

// Padding is the zeros between the content and the next header.
func (m Member) Padding() []byte {
	return make([]byte, -m.Size&(tarBlock-1))
}

// Span is the number of bytes of header, content and padding.
func (m Member) Span() int64 {
	return tarBlock + m.Size + -m.Size&(tarBlock-1)
}
