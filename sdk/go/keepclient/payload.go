// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"sync"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// payload is the data of a block that is being written. Several requests read
// it at once. The HTTP transport may go on reading a request's body after the
// answer has come, but the data is the caller's again as soon as BlockWrite
// returns; so it is taken away from the readers then.
type payload struct {
	hash string
	size int

	mutex sync.RWMutex
	data  []byte // nil once it is taken away
}

// newPayload is the block of req, checked. It refers to req.Data, or holds
// what it has read from req.Reader.
func newPayload(req arvados.BlockWriteOptions) (*payload, error) {
	data := req.Data
	switch {
	case req.DataSize < 0:
		return nil, errors.New("cannot write a block: DataSize is negative")
	case req.DataSize > BLOCKSIZE || len(data) > BLOCKSIZE:
		return nil, ErrOversizeBlock
	case data == nil && req.Reader == nil:
		return nil, errors.New("cannot write a block: neither Data nor Reader is set")
	case data == nil:
		var err error
		if data, err = readBlock(req.Reader, req.DataSize); err != nil {
			return nil, err
		}
	case req.DataSize > len(data):
		return nil, errors.New("cannot write a block: DataSize is more than there is in Data")
	case req.DataSize > 0:
		data = data[:req.DataSize]
	}
	// Data that comes with its hash is not hashed again: the service does,
	// and refuses what does not fit. What came through a reader is, for a
	// block with the wrong bytes in it may be the reader's fault.
	hash := req.Hash
	if hash == "" || req.Data == nil {
		hash = fmt.Sprintf("%x", md5.Sum(data))
	}
	if req.Hash != "" && req.Hash != hash {
		return nil, BadChecksum
	}
	if !isHash(hash) {
		return nil, InvalidLocatorError
	}
	return &payload{hash: hash, size: len(data), data: data}, nil
}

// readBlock reads size bytes, and makes sure that there are no more.
func readBlock(r io.Reader, size int) ([]byte, error) {
	data := make([]byte, size)
	if n, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("cannot write a block: %d of %d bytes read: %w", n, size, err)
	}
	if n, err := io.ReadFull(r, make([]byte, 1)); n > 0 {
		return nil, fmt.Errorf("cannot write a block: more than %d bytes to read", size)
	} else if err != io.EOF {
		return nil, err
	}
	return data, nil
}

// takeAway waits for reads that are under way, and lets no other begin.
func (p *payload) takeAway() {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.data = nil
}

// reader is a request body. moved is called with each read.
func (p *payload) reader(moved func()) io.ReadCloser {
	return &payloadReader{payload: p, moved: moved}
}

type payloadReader struct {
	payload *payload
	offset  int
	moved   func()
}

func (r *payloadReader) Read(dst []byte) (int, error) {
	r.moved()
	r.payload.mutex.RLock()
	defer r.payload.mutex.RUnlock()
	if r.payload.data == nil {
		return 0, errors.New("the block is no longer wanted")
	}
	if r.offset == r.payload.size {
		return 0, io.EOF
	}
	n := copy(dst, r.payload.data[r.offset:])
	r.offset += n
	return n, nil
}

func (r *payloadReader) Close() error { return nil }
