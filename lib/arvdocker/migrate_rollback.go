// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"fmt"
	"io"

	"git.arvados.org/arvados.git/lib/imagemigrate"
)

// rollBack takes changes back.
func (s *session) rollBack(ctx context.Context, flags migrateFlags, report io.Writer) error {
	store, end, err := s.openStore(ctx, flags)
	if err != nil {
		return err
	}
	defer end()
	kept := 0
	r := &imagemigrate.Rollback{
		Store:  store,
		Path:   flags.undo,
		DryRun: flags.dryRun,
		Rate:   flags.rate,
		Passed: func(done, all int) error {
			s.now(fmt.Sprintf("changes looked at %d of %d", done, all))
			return nil
		},
		Report: func(row imagemigrate.Undone) error {
			if len(row.Kept) > 0 {
				kept++
			}
			return printJSONLine(report, row)
		},
	}
	summary, err := r.Run(ctx)
	s.done()
	if err != nil {
		return err
	}
	s.sumUndone(flags, summary, "changes taken back", "changes to be taken back", "undone before")
	if kept > 0 {
		s.say("properties that somebody has changed since stay as they are, in collections: %d", kept)
	}
	return failures(summary)
}

// sumUndone says how many changes have been undone, or would be.
func (s *session) sumUndone(flags migrateFlags, summary imagemigrate.Summary, undone, would, before string) {
	if flags.report == "-" { // which is for programs
		return
	}
	if flags.dryRun {
		undone = would
	}
	fmt.Fprintf(s.Stdout, "%s: %d, %s: %d, left: %d, failed: %d\n", undone, summary.Written, before, summary.Unchanged, summary.Left, summary.Failed)
	printCounts(s.Stdout, summary.Cases)
}
