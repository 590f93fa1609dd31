// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package buildcontext is what docker calls the build context: a tree of files
// that COPY and ADD of a Dockerfile take from. A Tree is made of the mounts of
// a container record, a collection, a folder of this machine, or a git
// repository; a .dockerignore takes files out of it; and it goes to an engine
// as a tar stream, the same bytes for the same files wherever they came from.
//
// It is for the builtin command that builds images, and for the client that
// sends a local folder. Nothing is staged on disk, and no more than a few Keep
// blocks are in memory at a time. It never talks to an engine, never follows a
// link out of a tree, and never ends a stream cleanly that lacks something:
// engines build images "successfully" from a tar that was cut off.
package buildcontext

import (
	"context"
	"errors"
	"io"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
)

// API is the API server, as one user. *arvados.Client is one.
type API interface {
	RequestAndDecodeContext(ctx context.Context, dst interface{}, method, path string, body io.Reader, params interface{}) error
}

// Permissions of what is in a tree. An engine gives them to the files that COPY
// makes.
const (
	plainMode      = 0644
	executableMode = 0755
	folderMode     = 0755
	linkMode       = 0777

	// keepMode: Keep stores no permissions. arv-mount shows every file as
	// executable, and so a script works the same in a build as in a
	// container that has the collection mounted.
	keepMode = executableMode
)

// modTime is the time of every file. The caches of engines ignore it, but COPY
// gives it to the files of an image. It is the first day that is after 1979 in
// every time zone: zip archives, Python wheels among them, can tell no earlier
// one.
var modTime = time.Date(1980, time.January, 2, 0, 0, 0, 0, time.UTC)

// refusal is the error for something that the user has to change.
func refusal(op, subject, cause, hint string) *fault.Error {
	return &fault.Error{Op: op, Side: fault.Request, Subject: subject, Err: errors.New(cause), Hint: hint}
}
