// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// isFailure reports whether the API server has failed at what it was asked for, each
// time it was asked. That may be because of what it was asked for.
func isFailure(err error) bool {
	var failed *arvados.TransactionError
	if !errors.As(err, &failed) {
		return false
	}
	return failed.StatusCode >= 500 || failed.StatusCode == http.StatusUnprocessableEntity && dbTrouble.MatchString(strings.Join(failed.Errors, "\n"))
}

// longestStreak is how many writes in a row may fail before that is the server's
// trouble, and not that of what was to be written.
const longestStreak = 10

// streak counts writes in a row at which the server has failed.
type streak int

// add takes note of what has become of a write to a collection, and ends with an
// error if there is no point in going on.
func (s *streak) add(collection string, err error) error {
	if !isFailure(err) {
		*s = 0
		return nil
	}
	if *s++; *s < longestStreak {
		return nil
	}
	return apiFault(fmt.Sprintf("write for the %dth time in a row, now to collection", *s), collection, err)
}
