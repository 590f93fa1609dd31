// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Command bench measures what users and administrators feel, as ratios to a
// ceiling or a peer in the same run, since machines differ:
//
//	bench          every family
//	bench pull     one family
//
// It prints a table and, last, one JSON line a figure. It needs bin/crunch-run
// beside itself, docker-registry, and a Docker Engine.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
)

// figure is one measured number.
type figure struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Target string  `json:"target"` // "<= 400" or ">= 0.8"
	OK     bool    `json:"ok"`
	how    string  // for the table: what was compared
}

// families measure; each cleans up after itself.
var families = map[string]func(context.Context) ([]figure, error){
	"build":   buildFamily,
	"find":    findFamily,
	"front":   frontFamily,
	"migrate": migrateFamily,
	"pull":    pullFamily,
}

// steps are the peers and ceilings, run as processes of their own so that they
// share nothing with what they are compared to.
var steps = map[string]func(context.Context, []string) error{
	"step-blocks":  blocksStep,
	"step-ceiling": ceilingStep,
	"step-context": contextStep,
	"step-crane":   craneStep,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && steps[args[0]] != nil {
		return steps[args[0]](ctx, args[1:])
	}
	var figures []figure
	for name, family := range families {
		if len(args) > 0 && args[0] != name {
			continue
		}
		measured, err := family(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		figures = append(figures, measured...)
	}
	if figures == nil {
		return fmt.Errorf("no family %q", args)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "figure\tvalue\tunit\ttarget\tmet\twhat")
	for _, f := range figures {
		fmt.Fprintf(table, "%s\t%.3g\t%s\t%s\t%v\t%s\n", f.Name, f.Value, f.Unit, f.Target, f.OK, f.how)
	}
	table.Flush()
	for _, f := range figures {
		line, err := json.Marshal(f)
		if err != nil {
			return err
		}
		fmt.Println(string(line))
	}
	return nil
}

// newFigure compares value with a target of the form "<= 400" or ">= 0.8".
func newFigure(name string, value float64, unit, target, how string, args ...interface{}) figure {
	var bound float64
	relation, number, _ := strings.Cut(target, " ")
	fmt.Sscan(number, &bound)
	ok := value <= bound
	if relation == ">=" {
		ok = value >= bound
	}
	return figure{Name: name, Value: value, Unit: unit, Target: target, OK: ok, how: fmt.Sprintf(how, args...)}
}
