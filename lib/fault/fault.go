// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package fault says which side failed. Every error that crosses a package
// boundary on the way of an image into Keep is an *Error, so that the host of
// a builtin command can tell a wrong request (the user mends it) from trouble
// of a registry, the engine, Keep or the API (Arvados tries again). It never
// logs, retries or decides anything itself.
package fault

import (
	"errors"
	"strings"
)

// Side is the party that an operation failed at.
type Side string

const (
	Request  Side = "request"  // what the user asked for
	Registry Side = "registry" // a container registry
	Engine   Side = "engine"   // the Docker Engine of the node
	Keep     Side = "keep"     // block storage
	API      Side = "api"      // the Arvados API server
	Build    Side = "build"    // a step of the recipe of a build: it ran, or began to, and failed
)

// Error is a failed operation. The zero value of every field but Side is
// allowed; Error leaves out what is empty.
type Error struct {
	Op      string // what was tried, in the infinitive: "read layer"
	Side    Side   // who failed
	Subject string // on what: a reference, digest, locator or field
	Err     error  // cause
	Hint    string // what the user should change, a full sentence without its stop

	// Transient: the same request may succeed later or on another node
	// (connection lost, 429, 5xx, node trouble). A container that ends so
	// is Cancelled, which Arvados retries; any other failure is final.
	Transient bool
}

// Error is one line: "registry: read layer sha256:…: cause (hint)".
func (e *Error) Error() string {
	var parts []string
	if e.Side != "" {
		parts = append(parts, string(e.Side))
	}
	if what := strings.TrimSpace(e.Op + " " + e.Subject); what != "" {
		parts = append(parts, what)
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	text := strings.Join(parts, ": ")
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return text
}

// Unwrap gives the cause to errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Err }

// SideOf is the side of the outermost *Error in err's chain, "" if there is
// none.
func SideOf(err error) Side {
	var e *Error
	if errors.As(err, &e) {
		return e.Side
	}
	return ""
}

// Transient reports whether any *Error in err's chain is transient.
func Transient(err error) bool {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return false
		}
		if e.Transient {
			return true
		}
		err = e.Err
	}
	return false
}
