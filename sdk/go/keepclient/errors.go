// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"errors"
	"fmt"
	"net/http"
)

// Error is an error that may pass by itself (Temporary) or not.
type Error interface {
	error
	Temporary() bool
}

// ErrNotFound is a block that no service has given. It is BlockNotFound if
// all of them answered that they do not have it.
type ErrNotFound struct {
	reason    error
	temporary bool
}

var _ Error = (*ErrNotFound)(nil)

func (e *ErrNotFound) Error() string { return e.reason.Error() }

// Unwrap gives the reasons to errors.Is and errors.As.
func (e *ErrNotFound) Unwrap() error { return e.reason }

// Temporary tells whether a service failed in a way that may pass.
func (e *ErrNotFound) Temporary() bool { return e.temporary }

// HTTPStatus is that of a missing block.
func (*ErrNotFound) HTTPStatus() int { return http.StatusNotFound }

// InsufficientReplicasError is a block of which fewer replicas could be
// written than wanted, or none.
type InsufficientReplicasError struct{ error }

// OversizeBlockError is a block of more than BLOCKSIZE bytes.
type OversizeBlockError struct{ error }

var (
	// BlockNotFound means that every service says it has no such block.
	BlockNotFound = &ErrNotFound{reason: errors.New("block not found")}
	// ErrOversizeBlock is the error of writing too large a block.
	ErrOversizeBlock = OversizeBlockError{fmt.Errorf("block is larger than %d bytes", BLOCKSIZE)}
	// BadChecksum means that a service sent data of another MD5 than asked
	// for. It may be wrapped.
	//lint:ignore ST1012 the SDK's name
	BadChecksum = errors.New("data does not have the MD5 of its locator")
	// InvalidLocatorError is the error of what is no locator.
	//lint:ignore ST1012 the SDK's name
	InvalidLocatorError = errors.New("invalid locator")
)
