// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtin

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gopkg.in/check.v1"
)

var _ = check.Suite(&statusSuite{})

type statusSuite struct{}

func (*statusSuite) TestFinalHasNoActivity(c *check.C) {
	s := &Status{}
	c.Check(s.Final(), check.HasLen, 0)
	s.Activity("downloading")
	s.Error("no such image")
	c.Check(s.Final(), check.DeepEquals, map[string]string{"error": "no such image"})
}

// TestFollow: updates are whole, not more frequent than the interval, not sent
// without news, and sent again when they failed.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Status{}
		var sent []map[string]string
		var fail atomic.Bool // which also orders this goroutine's reads before follow's writes
		ctx, cancel := context.WithCancel(t.Context())
		go s.Follow(ctx, func(fields map[string]string) error {
			if fail.Load() {
				return errors.New("API down")
			}
			sent = append(sent, fields)
			return nil
		})
		wait := func(n int) map[string]string {
			t.Helper()
			time.Sleep(statusInterval)
			synctest.Wait()
			if len(sent) != n {
				t.Fatalf("%d updates, want %d: %v", len(sent), n, sent)
			}
			if n == 0 {
				return nil
			}
			return sent[n-1]
		}
		time.Sleep(statusInterval / 2)
		wait(0)
		s.Activity("one")
		s.Activity("two")
		if last := wait(1); last["activity"] != "two" {
			t.Errorf("sent %v", last)
		}
		wait(1)
		s.Activity("two")
		wait(1)
		s.Error("slow")
		if last := wait(2); last["activity"] != "two" || last["error"] != "slow" {
			t.Errorf("sent %v", last)
		}
		fail.Store(true)
		s.Activity("three")
		wait(2)
		fail.Store(false)
		if last := wait(3); last["activity"] != "three" {
			t.Errorf("sent %v", last)
		}
		cancel()
		synctest.Wait()
	})
}
