// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

import (
	"context"
	"sync"
	"time"
)

// pace spreads writes over time.
type pace struct {
	interval time.Duration
	mtx      sync.Mutex
	next     time.Time // when the next write may begin
}

func newPace(rate float64) *pace {
	if rate <= 0 {
		return &pace{}
	}
	return &pace{interval: time.Duration(float64(time.Second) / rate)}
}

// chunk is how many collections are read before they are written: those of about a
// second, if there is a limit. What somebody else changes meanwhile has to be planned
// anew.
func (p *pace) chunk() int {
	if p.interval == 0 {
		return collectionPage
	}
	return max(1, min(collectionPage, int(time.Second/p.interval)))
}

// wait returns when it is time for a write.
func (p *pace) wait(ctx context.Context) error {
	p.mtx.Lock()
	start := p.next
	if now := time.Now(); start.Before(now) {
		start = now
	}
	p.next = start.Add(p.interval)
	p.mtx.Unlock()
	return sleep(ctx, time.Until(start))
}

// sleep waits, or ends with an error when ctx does.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
