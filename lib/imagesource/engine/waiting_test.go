// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"strings"
	"time"

	"go.uber.org/goleak"
	check "gopkg.in/check.v1"
)

const (
	// patience is how long what a test has used may take to go away when the
	// machine has much else to do.
	patience = 30 * time.Second
	// tooLong is when a test gives up to wait for something to happen.
	tooLong = 3 * time.Minute
)

// checkGone looks for what is left until that is nothing. The test fails with what
// is left in the end.
func checkGone(c *check.C, left func() []string) {
	found := left()
	for end := time.Now().Add(patience); len(found) > 0 && time.Now().Before(end); found = left() {
		time.Sleep(pollTime)
	}
	c.Check(found, check.HasLen, 0, check.Commentf("still there after %v: %s", patience, strings.Join(found, "\n")))
}

// checkNoLeaks is checkGone for goroutines.
func checkNoLeaks(c *check.C, options ...goleak.Option) {
	checkGone(c, func() []string {
		if err := goleak.Find(options...); err != nil {
			return []string{err.Error()}
		}
		return nil
	})
}

// await waits until it is so. The test fails when that which is to bring it about
// has ended, with what it says, or takes too long.
func await[T any](c *check.C, what string, ended <-chan T, so func() bool) {
	limit := time.After(tooLong)
	for !so() {
		select {
		case result := <-ended:
			c.Fatalf("%s: not before the end: %v", what, result)
		case <-limit:
			c.Fatalf("%s: not within %v", what, tooLong)
		case <-time.After(pollTime):
		}
	}
}
