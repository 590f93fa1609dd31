// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

// createdByWidth is how much docker history shows of a step.
const createdByWidth = 45

func (p *Program) historyCommand() *cobra.Command {
	var asJSON *bool
	var whole bool
	cmd := &cobra.Command{
		Use:   "history [OPTIONS] IMAGE",
		Short: "Show where an image in Keep came from",
		Long: `Show where an image in Keep came from: the container request that made it, with
its command and log; the same of the images that it was built upon, as far as
they are in Keep; and the steps that its configuration tells of, the last one
first. What cannot be read any more is named. IMAGE is a name, a hash or a
portable data hash.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			s, err := p.connect(ctx)
			if err != nil {
				return err
			}
			return s.history(ctx, args[0], whole, *asJSON)
		},
	}
	asJSON = jsonFlag(cmd)
	cmd.Flags().BoolVar(&whole, "no-trunc", false, "show all of each step")
	return cmd
}

// step is one entry in the history of an image.
type step struct {
	Created    time.Time `json:"created"`
	CreatedBy  string    `json:"created_by"`
	Comment    string    `json:"comment"`
	EmptyLayer bool      `json:"empty_layer"`
	Size       int64     `json:"size"` // of its layer as stored, in bytes; -1 if it is not clear which it is
}

// steps are those of an image, the last one first.
func steps(image imagetar.Image) ([]step, error) {
	var config struct{ History []step }
	if err := json.Unmarshal(image.Config, &config); err != nil {
		return nil, err
	}
	layers := 0
	for _, st := range config.History {
		if !st.EmptyLayer {
			layers++
		}
	}
	known := layers == len(image.Layers) // programs may write any history, or none
	all := make([]step, len(config.History))
	layers = 0
	for i, st := range config.History {
		if st.Size = -1; st.EmptyLayer {
			st.Size = 0
		} else if known {
			st.Size = image.Layers[layers].Size
			layers++
		}
		all[len(all)-1-i] = st
	}
	return all, nil
}

// history prints what is on record of an image, then its steps.
func (s *session) history(ctx context.Context, name string, whole, asJSON bool) error {
	found, err := s.resolve(ctx, name)
	if err != nil {
		return err
	}
	record, err := (&tracer{session: s, seen: map[string]bool{}}).trace(ctx, name, found.Found)
	if err != nil {
		return err
	}
	var shown []step
	image, failure := s.open(ctx, found)
	if failure == nil {
		if shown, err = steps(image); err != nil {
			failure = &fault.Error{Op: "read the history of", Side: fault.Request, Subject: name, Err: err}
		}
	}
	// The record is worth having though the image cannot be read.
	if asJSON {
		err = printJSON(s.Stdout, struct {
			Record  *origin `json:"record"`
			History []step  `json:"history"`
		}{record, shown})
	} else if err = record.print(s.Stdout, ""); err == nil && failure == nil {
		err = printSteps(s.Stdout, shown, whole)
	}
	if err != nil {
		return err
	}
	return failure
}

func printSteps(w io.Writer, all []step, whole bool) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "\nCREATED\tCREATED BY\tSIZE\tCOMMENT\n")
	for _, st := range all {
		created, size := "N/A", none
		if st.Created.Year() > 1 {
			created = humanize.Time(st.Created)
		}
		if st.Size >= 0 {
			size = builtin.Size(st.Size)
		}
		by := strings.Join(strings.Fields(st.CreatedBy), " ")
		if utf8.RuneCountInString(by) > createdByWidth && !whole {
			by = string([]rune(by)[:createdByWidth-1]) + "…"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", created, by, size, st.Comment)
	}
	return table.Flush()
}
