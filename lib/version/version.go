// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package version is what programs here say to --version, for people and bug
// reports. It decides nothing.
package version

import "runtime/debug"

// Text is the version of the module that the program was built from, as far as the
// builder knew it: "v1.2.3", a pseudo-version with time and commit, or "(devel)".
func Text() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
