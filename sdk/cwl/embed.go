// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

// Package cwl has the Python adapter for arvados-cwl-runner inside, for programs
// that install it, as into the image of workflow runners. It runs none of it.
package cwl

import (
	"embed"
	"io/fs"
)

// Folder is where the files belong in an image of workflow runners. Its folder
// bin has to come first in PATH, so that the command arvados-cwl-runner means
// the adapter, which looks for the genuine one in the rest of PATH.
const Folder = "/opt/arvados-builtin"

// Programs is the folder, within Folder, of those files that are executable.
const Programs = "bin"

//go:embed bin arvados_builtin_cwl/*.py
var files embed.FS

// Files are the adapter's files, by their paths in Folder. They work in any other
// folder, too, as long as they stay together.
func Files() fs.FS { return files }
