// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package keeptest is Keep for tests: blocks in memory, locators signed for a
// token, failures and delays by script, and counts of what happened. It also
// has the tests that every implementation of keepfile's interfaces must pass.
//
// It opens no port, and is imported by tests only.
package keeptest

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

const (
	maxBlock = 64 << 20
	// zeroHash is the MD5 of maxBlock zero bytes, so that sparse files of
	// many gigabytes can be written in a test.
	zeroHash = "7f614da9329cd3aebf59b91aadc30bf0"

	signatureTTL = 14 * 24 * time.Hour
)

// Keep is the store. Use New.
type Keep struct {
	// Script, if not nil, is called in the course of every operation, by
	// several goroutines at a time. It may wait, and may return an error
	// for the operation to fail with. Set it before the first operation.
	Script func(ctx context.Context, op *Op) error
	// Discard keeps no content, only what is needed to answer writes.
	Discard bool

	secret []byte
	mtx    sync.Mutex
	blocks map[string][]byte // by hash+size
	stats  Stats
	busy   int
}

// Op is what a Script sees.
type Op struct {
	Write bool   // else it is a read
	Block string // hash+size
	// Data is the block's content. A Script may replace it in a read, as a
	// corrupt disk would, but never write to it.
	Data []byte
}

// Stats count finished operations.
type Stats struct {
	Writes, Reads           int
	BytesWritten, BytesRead int64
	PeakWrites              int // most writes at the same time
}

// New is an empty Keep.
func New() *Keep {
	return &Keep{secret: []byte("only for tests"), blocks: map[string][]byte{}}
}

// Stats is what happened so far.
func (k *Keep) Stats() Stats {
	k.mtx.Lock()
	defer k.mtx.Unlock()
	return k.stats
}

// Has reports whether a block is stored, by its locator with or without hints.
func (k *Keep) Has(locator string) bool {
	k.mtx.Lock()
	defer k.mtx.Unlock()
	_, ok := k.blocks[name(locator)]
	return ok
}

// Stored is the size of all different blocks together, in bytes.
func (k *Keep) Stored() int64 {
	k.mtx.Lock()
	defer k.mtx.Unlock()
	var n int64
	for block := range k.blocks {
		var size int64
		fmt.Sscanf(block[33:], "%d", &size)
		n += size
	}
	return n
}

// Sign is a manifest with its locators signed for token, as the API server
// would hand it out.
func (k *Keep) Sign(manifest, token string) string {
	return arvados.SignManifest(manifest, token, time.Now().Add(signatureTTL), signatureTTL, k.secret)
}

// Verify is nil if token may read the block of a signed locator.
func (k *Keep) Verify(locator, token string) error {
	return arvados.VerifySignature(locator, token, signatureTTL, k.secret)
}

// As is Keep for the bearer of token.
func (k *Keep) As(token string) *Client { return &Client{keep: k, token: token} }

// Client reads and writes with one token.
type Client struct {
	keep  *Keep
	token string
}

// BlockWrite stores opts.Data.
func (c *Client) BlockWrite(ctx context.Context, opts arvados.BlockWriteOptions) (arvados.BlockWriteResponse, error) {
	var resp arvados.BlockWriteResponse
	k := c.keep
	if opts.Data == nil || len(opts.Data) > maxBlock {
		return resp, Error{400, fmt.Sprintf("a block of %d bytes", len(opts.Data))}
	}
	k.mtx.Lock()
	k.busy++
	k.stats.PeakWrites = max(k.stats.PeakWrites, k.busy)
	k.mtx.Unlock()
	block := fmt.Sprintf("%s+%d", hash(opts.Data), len(opts.Data))
	err := k.script(ctx, &Op{Write: true, Block: block, Data: opts.Data})
	k.mtx.Lock()
	defer k.mtx.Unlock()
	k.busy--
	if err != nil {
		return resp, err
	}
	k.stats.Writes++
	k.stats.BytesWritten += int64(len(opts.Data))
	if _, ok := k.blocks[block]; !ok {
		k.blocks[block] = nil
		if !k.Discard {
			k.blocks[block] = bytes.Clone(opts.Data)
		}
	}
	resp.Locator = arvados.SignLocator(block, c.token, time.Now().Add(signatureTTL), signatureTTL, k.secret)
	resp.Replicas = max(opts.Replicas, 1)
	return resp, nil
}

// BlockRead writes a block to opts.WriteTo in small pieces, and checks its MD5
// at the end, as a client of a real Keep does.
func (c *Client) BlockRead(ctx context.Context, opts arvados.BlockReadOptions) (int, error) {
	k := c.keep
	if err := k.Verify(opts.Locator, c.token); err != nil {
		return 0, Error{403, err.Error()}
	}
	block := name(opts.Locator)
	k.mtx.Lock()
	data, ok := k.blocks[block]
	k.mtx.Unlock()
	if !ok || k.Discard {
		return 0, Error{404, "not found"}
	}
	op := &Op{Block: block, Data: data}
	if err := k.script(ctx, op); err != nil {
		return 0, err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{opts.WriteTo}, struct{ io.Reader }{bytes.NewReader(op.Data)}, make([]byte, 32<<10))
	k.mtx.Lock()
	k.stats.Reads++
	k.stats.BytesRead += n
	k.mtx.Unlock()
	if err == nil && hash(op.Data) != block[:32] {
		err = errors.New("checksum mismatch")
	}
	return int(n), err
}

func (k *Keep) script(ctx context.Context, op *Op) error {
	if k.Script != nil {
		if err := k.Script(ctx, op); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Error is an answer of Keep with an HTTP status.
type Error struct {
	Status  int
	Message string
}

// Error is the status and the message.
func (e Error) Error() string { return fmt.Sprintf("%d %s", e.Status, e.Message) }

// HTTPStatus is the status, as the SDK's errors have it.
func (e Error) HTTPStatus() int { return e.Status }

// name is a locator without hints.
func name(locator string) string {
	parts := strings.SplitN(locator, "+", 3)
	return strings.Join(parts[:min(2, len(parts))], "+")
}

func hash(data []byte) string {
	if len(data) == maxBlock && isZero(data) {
		return zeroHash
	}
	return fmt.Sprintf("%x", md5.Sum(data))
}

var zeros [64 << 10]byte

func isZero(data []byte) bool {
	for len(data) > 0 {
		n := min(len(data), len(zeros))
		if !bytes.Equal(data[:n], zeros[:n]) {
			return false
		}
		data = data[n:]
	}
	return true
}
