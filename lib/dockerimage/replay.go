// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import "io"

// part is a part of an archive in Keep.
type part struct {
	data []byte // in memory; if there is none:
	size int64
	void bool // nobody cares for the content
}

// replay reads an archive of which some parts are in memory, and others need
// not be read. These come as zeros, so that what reads the archive sees all
// places and sizes as they are.
type replay struct {
	skimmer *skimmer
	parts   []part
}

func (r *replay) Read(p []byte) (int, error) {
	for len(r.parts) > 0 && len(r.parts[0].data) == 0 && r.parts[0].size == 0 {
		r.parts = r.parts[1:]
	}
	if len(r.parts) == 0 {
		return 0, io.EOF
	}
	now := &r.parts[0]
	if len(now.data) > 0 {
		n := copy(p, now.data)
		now.data = now.data[n:]
		r.skimmer.skip(int64(n))
		return n, nil
	}
	p = p[:min(int64(len(p)), now.size)]
	n := len(p)
	var err error
	if now.void {
		clear(p)
		r.skimmer.skip(int64(n))
	} else {
		n, err = r.skimmer.Read(p)
	}
	now.size -= int64(n)
	return n, err
}
