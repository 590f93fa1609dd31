// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagetar

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
)

// ContentError says that a blob is not what its digest and size say. It names
// no side: who wraps it knows where the bytes came from.
type ContentError struct {
	Digest  string // what was expected
	Problem string
}

// Error names the digest.
func (e *ContentError) Error() string { return "content of " + e.Digest + ": " + e.Problem }

// Verify reads r, whose bytes should be size bytes with the given digest, and
// hashes them on the way. Bytes that complete a wrong blob are not passed on:
// the Read that would end it returns a *ContentError instead. So does the Read
// after the last byte, in place of io.EOF, if r goes on. Closing closes r.
func Verify(r io.ReadCloser, digest string, size int64) io.ReadCloser {
	v := &verifier{ReadCloser: r, digest: digest, left: size, hash: sha256.New()}
	if !wellFormed.MatchString(digest) {
		v.err = v.problem("the digest is malformed")
	}
	return v
}

type verifier struct {
	io.ReadCloser
	digest  string
	left    int64
	hash    hash.Hash
	checked bool
	err     error // sticky
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.ReadCloser.Read(p)
	v.hash.Write(p[:n])
	v.left -= int64(n)
	switch {
	case v.left < 0:
		v.err = v.problem("it is longer than expected")
	case v.left == 0 && !v.checked:
		v.checked = true
		if got := fmt.Sprintf("sha256:%x", v.hash.Sum(nil)); got != v.digest {
			v.err = v.problem("it is " + got)
		}
	case v.left > 0 && err == io.EOF:
		v.err = v.problem(fmt.Sprintf("it ends %d bytes early", v.left))
		return n, v.err
	}
	if v.err != nil {
		return 0, v.err
	}
	v.err = err
	return n, err
}

func (v *verifier) problem(text string) error {
	return &ContentError{Digest: fmt.Sprintf("%.100s", v.digest), Problem: text}
}
