// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

//go:build !linux

package engine

import (
	"context"
	"errors"
)

// daemonPIDs fails: private builders need Linux.
func daemonPIDs(context.Context, string) ([]string, error) {
	return nil, errors.New("not on this operating system")
}
