// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	defaultRetryDelay = 2 * time.Second
	minimumRetryDelay = time.Millisecond
)

// pauseAfter waits between two rounds over the services: at random, so that
// clients do not come back all at once, up to RetryDelay after round 0, twice
// that after the next, and ten times at most.
func (kc *KeepClient) pauseAfter(ctx context.Context, round int) error {
	longest := kc.RetryDelay
	if longest == 0 {
		longest = defaultRetryDelay
	}
	longest *= time.Duration(min(1<<min(round, 4), 10))
	delay := minimumRetryDelay + time.Duration(rand.Float64()*float64(longest-minimumRetryDelay))
	timer := time.NewTimer(max(delay, minimumRetryDelay))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
