// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun

import (
	"os"
	"path/filepath"
	"time"

	"gopkg.in/check.v1"
)

var _ = check.Suite(&costSuite{})

type costSuite struct{}

func (*costSuite) TestCost(c *check.C) {
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for _, trial := range []struct {
		title, instanceType, prices string
		want                        float64 // after two hours
	}{
		{"outside a cloud", "", "", 0},
		{"an instance type", `{"Name":"m4","Price":0.5}`, "", 1},
		{"one without a price", `{"Name":"m4"}`, "", 0},
		{"one that cannot be read", `{`, "", 0},
		{"a price from before the start", `{"Price":0.5}`, `[{"StartTime":"2026-11-24T09:00:00Z","Price":0.25}]`, 0.5},
		{"it changes after an hour", `{"Price":0.5}`,
			`[{"StartTime":"2026-11-24T09:00:00Z","Price":0.25},{"StartTime":"2026-11-24T13:00:00Z","Price":1}]`, 1.25},
		{"newest first, as clouds list them", `{"Price":0.5}`,
			`[{"StartTime":"2026-11-24T13:00:00Z","Price":1},{"StartTime":"2026-11-24T09:00:00Z","Price":0.25}]`, 1.25},
		{"the list begins after the start", `{"Price":0.5}`, `[{"StartTime":"2026-11-24T13:00:00Z","Price":1}]`, 2},
		{"another zone", `{"Price":0.5}`, `[{"StartTime":"2026-11-24T14:00:00+01:00","Price":1},{"StartTime":"2026-11-24T12:00:00+01:00","Price":0.25}]`, 1.25},
		{"a price of the future", `{"Price":0.5}`, `[{"StartTime":"2026-11-25T00:00:00Z","Price":9}]`, 18},
		{"a list that cannot be read", `{"Price":0.5}`, `[{"StartTime":"yesterday"}]`, 1},
		{"an empty list", `{"Price":0.5}`, `[]`, 1},
	} {
		file := filepath.Join(c.MkDir(), "crunch-run-prices.json")
		if trial.prices != "" {
			c.Assert(os.WriteFile(file, []byte(trial.prices), 0600), check.IsNil)
		}
		m := meter{instanceType: trial.instanceType, pricesFile: file, start: start}
		c.Check(m.until(start.Add(2*time.Hour)), check.Equals, trial.want, check.Commentf(trial.title))
	}
}

// Every user of the node may put something in the place of the list. It is not waited
// for, and makes nothing dearer or cheaper.
func (s *costSuite) TestPricesOfOthers(c *check.C) {
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	files := &nodeFileSuite{dir: c.MkDir()}
	odd := files.odd(c)
	const dear = `[{"StartTime":"2026-11-24T09:00:00Z","Price":99}]`
	odd["another user's"] = files.put(c, "prices", dear, 65534)
	delete(odd, "a link to a FIFO")
	go os.WriteFile(odd["a FIFO"], []byte(dear), 0) // who waits for it reads that
	for what, file := range odd {
		m := meter{instanceType: `{"Price":0.5}`, pricesFile: file, start: start}
		c.Check(m.until(start.Add(2*time.Hour)), check.Equals, 1.0, check.Commentf(what))
	}
}
