// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtin

import (
	"fmt"
	"regexp"

	"git.arvados.org/arvados.git/lib/fault"
)

// Wrong is the error for a field or flag of the request that cannot be taken as it
// is. hint says what to write instead.
func Wrong(field string, err error, hint string) error {
	return &fault.Error{Op: "check", Side: fault.Request, Subject: field, Err: err, Hint: hint}
}

var platformPattern = regexp.MustCompile(`^[a-z0-9_.-]+/[a-z0-9_.-]+(/[a-z0-9_.-]+)?$`)

// CheckPlatform refuses what --platform cannot mean: it takes one platform, as
// engines and registries write it.
func CheckPlatform(text string) error {
	if platformPattern.MatchString(text) {
		return nil
	}
	return Wrong("--platform", fmt.Errorf("%q is no platform", text), "write one as os/arch or os/arch/variant, as in linux/arm64")
}
