// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerbuild

import (
	"encoding/json"
	"strings"
)

// platformOf is "os/arch" or "os/arch/variant" as an image's config has it.
func platformOf(config []byte) string {
	var has struct{ OS, Architecture, Variant string }
	_ = json.Unmarshal(config, &has) // what is missing fits everything
	return strings.TrimRight(has.OS+"/"+has.Architecture+"/"+has.Variant, "/")
}

// fits reports whether an image for platform has can serve as wanted. Only what
// both say can differ: configs often lack the variant.
func fits(wanted, has string) bool {
	w, h := strings.Split(wanted, "/"), strings.Split(has, "/")
	for i := range min(len(w), len(h)) {
		if w[i] != h[i] && h[i] != "" {
			return false
		}
	}
	return true
}
