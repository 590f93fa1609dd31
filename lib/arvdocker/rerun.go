// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"strings"

	"git.arvados.org/arvados.git/lib/imageref"
)

// describePull is the description of a request for a pull: what somebody who has
// Workbench copy and run it again must know, and cannot see there. "" if there is
// nothing.
func describePull(ref imageref.Ref, credentials bool) string {
	var notes []string
	name := ref.Familiar()
	if tag := ref.RepoTag(); tag != "" && ref.Digest != "" {
		name = tag
		notes = append(notes, "The command has a digest, so a copy of this request brings the same image again, even if "+
			tag+" means another one by then. To have that one, run: arv-docker pull "+tag)
	}
	if credentials {
		notes = append(notes, "This request came with registry credentials, which a copy does not have. Instead of copying it, run: arv-docker pull --credentials FILE "+name)
	}
	return strings.Join(notes, "\n")
}

// describeBuild is the same for a build, where a copy follows whatever has moved.
func describeBuild(secrets bool) string {
	if !secrets {
		return ""
	}
	return "This request came with secrets, which a copy does not have. Instead of copying it, run arv-docker build again."
}
