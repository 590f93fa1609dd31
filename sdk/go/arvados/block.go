// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import (
	"context"
	"io"
)

// KeepGateway reads and writes blocks of at most 64 MiB.
type KeepGateway interface {
	// ReadAt fills dst from a block, starting offset bytes into it.
	ReadAt(locator string, dst []byte, offset int) (int, error)
	// BlockRead copies a whole block to opts.WriteTo. It returns the
	// number of bytes written.
	BlockRead(ctx context.Context, opts BlockReadOptions) (int, error)
	// BlockWrite stores a block.
	BlockWrite(ctx context.Context, opts BlockWriteOptions) (BlockWriteResponse, error)
	// LocalLocator turns the signed locator of another cluster's block
	// into one of this cluster, copying the block if need be.
	LocalLocator(locator string) (string, error)
}

// BlockReadOptions say which block goes where.
type BlockReadOptions struct {
	Locator string
	WriteTo io.Writer
	// LocalLocator is called, if not nil, with a locator signed by this
	// cluster, if the read has brought one to light.
	LocalLocator func(string)
}

// BlockWriteOptions are a block, in Data or else in Reader, and how to store
// it. Zero values of the rest mean the client's defaults.
type BlockWriteOptions struct {
	Hash           string    // 32 hex digits of the MD5; computed when empty
	Data           []byte    // not changed, and not read after the call
	Reader         io.Reader // when Data is nil
	DataSize       int       // bytes; needed when Data is nil
	RequestID      string
	StorageClasses []string
	Replicas       int // in each storage class
	Attempts       int // rounds over the services, 1 for no second try
}

// BlockWriteResponse tells what has been stored, also after an error.
type BlockWriteResponse struct {
	Locator        string         // signed
	Replicas       int            // in all
	StorageClasses map[string]int // replicas confirmed by class
}
