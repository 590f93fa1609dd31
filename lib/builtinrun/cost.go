// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"time"
)

// price is what the node costs in an hour from StartTime on, in the dispatcher's
// currency. Dispatchers keep a list of them for instances whose price changes.
type price struct {
	StartTime time.Time
	Price     float64
}

// meter knows what a container has cost.
type meter struct {
	instanceType string // JSON with a Price per hour, "" outside a cloud
	pricesFile   string // JSON list of prices, written by crunch-run -list
	start        time.Time
}

// until is what the node has cost since the start: by the list of prices, the
// earliest of which holds for what was before it too, or by the instance type where
// there are none.
func (m meter) until(now time.Time) float64 {
	var usual struct{ Price float64 }
	// What cannot be read costs nothing, as outside a cloud.
	_ = json.Unmarshal([]byte(m.instanceType), &usual)
	var prices []price
	if text, err := readTrusted(m.pricesFile); err != nil || json.Unmarshal(text, &prices) != nil {
		prices = nil
	}
	slices.SortStableFunc(prices, func(a, b price) int { return a.StartTime.Compare(b.StartTime) })
	var sum float64
	since, hourly := m.start, usual.Price
	if len(prices) > 0 {
		hourly = prices[0].Price
	}
	for _, p := range prices {
		if p.StartTime.After(now) {
			break
		}
		if p.StartTime.After(since) {
			sum += p.StartTime.Sub(since).Hours() * hourly
			since = p.StartTime
		}
		hourly = p.Price
	}
	return sum + now.Sub(since).Hours()*hourly
}

// tellCost writes what the container has cost so far whenever somebody asks, until
// ctx ends. Trouble is left to the next time: the final update has it too.
func (s *Session) tellCost(ctx context.Context, m meter, ask <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ask:
			_ = s.update(ctx, map[string]interface{}{"cost": m.until(time.Now())})
		}
	}
}
