// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package keepfile is one file in Keep: it cuts data into blocks and stores
// them in parallel within a fixed number of buffers, reads files back, and
// writes and parses manifests, which say what blocks a file is made of.
//
// It is for programs that write much to Keep with little memory and that must
// decide themselves where a block ends. It never talks to the API server: what
// it makes is blocks and the text of a manifest, and nothing refers to them
// until somebody creates a collection.
package keepfile

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// BlockSize is the most bytes that Keep takes in one block.
const BlockSize = 64 << 20

// emptyLocator is the block of no bytes, which every Keep has.
const emptyLocator = "d41d8cd98f00b204e9800998ecf8427e+0"

// BlockWriter stores blocks. It is called by several goroutines at a time,
// tries again by itself where that may help, and computes the MD5. It does not
// touch Data after it has returned.
type BlockWriter interface {
	BlockWrite(ctx context.Context, opts arvados.BlockWriteOptions) (arvados.BlockWriteResponse, error)
}

// BlockReader reads whole blocks, in order and each byte once, and verifies
// their MD5 at the latest when it returns. It is called by several goroutines
// at a time. An error of opts.WriteTo ends the reading at once.
type BlockReader interface {
	BlockRead(ctx context.Context, opts arvados.BlockReadOptions) (int, error)
}

// Block is a stored block.
type Block struct {
	Locator string // hash+size+hints, signed for the token that wrote it
	Size    int64  // bytes
}

// keepFault makes err an error of Keep. Keep's trouble is taken to pass (a
// service is down, a disk is full) unless err itself says otherwise: some
// errors of the SDK have a status or know whether they are temporary.
func keepFault(op, subject string, err error) error {
	var already *fault.Error
	if errors.As(err, &already) {
		return err
	}
	e := &fault.Error{Op: op, Side: fault.Keep, Subject: subject, Err: err, Transient: true}
	var withStatus interface{ HTTPStatus() int }
	var withTemporary interface{ Temporary() bool }
	if errors.As(err, &withTemporary) {
		e.Transient = withTemporary.Temporary()
	} else if errors.As(err, &withStatus) {
		switch status := withStatus.HTTPStatus(); status {
		case http.StatusRequestTimeout, http.StatusTooManyRequests:
		default:
			e.Transient = status < 400 || status >= 500
		}
	}
	return e
}

// blockName is a locator without its hints, for messages: a signature is as
// good as the token it was made for.
func blockName(locator string) string {
	hash, size, err := splitLocator(locator)
	if err != nil {
		return "block"
	}
	return fmt.Sprintf("%s+%d", hash, size)
}
