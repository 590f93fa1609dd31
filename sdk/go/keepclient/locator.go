// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"regexp"
	"strconv"
	"strings"
)

// The data of no length needs no service to store it.
const emptyHash = "d41d8cd98f00b204e9800998ecf8427e"

// Locator names a block: HASH[+SIZE][+HINT...]. Hints begin with a capital
// letter: A for a signature, R for another cluster's, K for a service.
type Locator struct {
	Hash  string   // 32 hex digits of the MD5
	Size  int      // bytes, -1 if the locator does not say
	Hints []string // what stands between the "+" signs, the size too
}

// Nothing else may follow the hash, for a locator becomes part of a URL.
var locatorHint = regexp.MustCompile(`^[A-Z][-A-Za-z0-9@_]*$`)

// MakeLocator reads a locator. The error is InvalidLocatorError.
func MakeLocator(path string) (*Locator, error) {
	parts := strings.Split(path, "+")
	loc := &Locator{Hash: parts[0], Size: -1, Hints: parts[1:]}
	if !isHash(loc.Hash) {
		return nil, InvalidLocatorError
	}
	for i, hint := range loc.Hints {
		size, err := strconv.ParseUint(hint, 10, 31)
		switch {
		case err == nil && i == 0:
			loc.Size = int(size)
		case !locatorHint.MatchString(hint):
			return nil, InvalidLocatorError
		}
	}
	return loc, nil
}

// String is the locator as it was read.
func (loc *Locator) String() string {
	return strings.Join(append([]string{loc.Hash}, loc.Hints...), "+")
}

// bare is the locator without signatures, for messages.
func (loc *Locator) bare() string {
	if loc.Size < 0 {
		return loc.Hash
	}
	return loc.Hash + "+" + strconv.Itoa(loc.Size)
}

func isHash(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}
