// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"

	"git.arvados.org/arvados.git/lib/imagetar"
)

var (
	// errElsewhere: what is being read does not begin with the member.
	errElsewhere = errors.New("the blocks begin with something else")
	// errEnough ends a read of which the beginning was wanted.
	errEnough = errors.New("enough was read")
)

// memberCheck reads what should be a member of an image archive: header,
// content with the digest that its name says, padding. It refuses the first
// write that does not fit.
type memberCheck struct {
	header  []byte // not yet read
	content int64  // bytes not yet read
	padding int    // bytes not yet read
	digest  string
	hash    hash.Hash
	tail    tail
	read    int64               // bytes of content
	moved   func(content int64) // called with read
}

func newMemberCheck(m imagetar.Member, digest string, moved func(int64)) *memberCheck {
	return &memberCheck{
		header:  m.Header(),
		content: m.Size,
		padding: len(m.Padding()),
		digest:  digest,
		hash:    sha256.New(),
		moved:   moved,
	}
}

func (c *memberCheck) Write(p []byte) (int, error) {
	rest := p
	n := min(len(rest), len(c.header))
	if !bytes.Equal(rest[:n], c.header[:n]) {
		return 0, errElsewhere
	}
	c.header, rest = c.header[n:], rest[n:]

	n = int(min(int64(len(rest)), c.content))
	c.hash.Write(rest[:n])
	c.tail.add(rest[:n])
	c.read += int64(n)
	c.content -= int64(n)
	c.moved(c.read)
	rest = rest[n:]
	if c.content == 0 {
		if got := fmt.Sprintf("sha256:%x", c.hash.Sum(nil)); got != c.digest {
			return 0, fmt.Errorf("under the name of this layer it has %s", got)
		}
	}

	if len(rest) > c.padding || !isZero(rest) {
		return 0, errors.New("what follows the layer is not padding")
	}
	c.padding -= len(rest)
	return len(p), nil
}

// complete is an error unless the whole member has been read.
func (c *memberCheck) complete() error {
	if len(c.header) > 0 || c.content > 0 || c.padding > 0 {
		return errors.New("the blocks end before the layer does")
	}
	return nil
}

// headerOnly keeps the first bytes written to it and then refuses more.
type headerOnly struct{ buf []byte }

func (h *headerOnly) Write(p []byte) (int, error) {
	n := copy(h.buf[len(h.buf):cap(h.buf)], p)
	h.buf = h.buf[:len(h.buf)+n]
	if n < len(p) || len(h.buf) == cap(h.buf) {
		return n, errEnough
	}
	return n, nil
}

// tail remembers the last four bytes of what it is given: gzip ends with the
// size of what it holds.
type tail [4]byte

func (t *tail) add(p []byte) {
	if n := len(p); n >= len(t) {
		copy(t[:], p[n-len(t):])
	} else {
		copy(t[:], t[n:])
		copy(t[len(t)-n:], p)
	}
}
