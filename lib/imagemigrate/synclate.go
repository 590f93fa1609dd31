// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// longestRetrial is the time between two attempts at images at which the server
// fails. Each may take minutes, in which nothing else is done.
const longestRetrial = time.Hour

// retrial is when these are tried again: sooner at first.
type retrial struct {
	wait time.Duration
	at   time.Time // zero if there are none
}

// brought notes which of the images that were dealt with are to be tried again.
func (y *syncing) brought(images []string) error {
	y.Late = slices.DeleteFunc(y.Late, func(late string) bool { return slices.Contains(images, late) })
	y.Late = append(y.Late, y.failed...)
	slices.Sort(y.Late)
	y.Late = slices.Compact(y.Late)
	if len(y.Late) > mostLate {
		return apiFault("bring into step", "images", fmt.Errorf("the server has failed at %d, which is too many to go on", len(y.Late)))
	}
	return nil
}

// tryAgain tries those images again at which the server has failed, if it is time.
func (y *syncing) tryAgain(ctx context.Context, now time.Time) error {
	switch {
	case len(y.Late) == 0:
		y.again = retrial{}
		return nil
	case y.again.at.IsZero():
		y.again = retrial{wait: y.Every, at: now.Add(y.Every)}
		return nil
	case now.Before(y.again.at):
		return nil
	}
	for some := range slices.Chunk(slices.Clone(y.Late), y.links.pace.chunk()) {
		if err := y.bring(ctx, some); err != nil {
			return err
		}
	}
	y.again.wait = min(2*y.again.wait, longestRetrial)
	y.again.at = time.Now().Add(y.again.wait)
	return y.pass()
}
