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
	if flags.report != "-" { // which is for programs
		verb := "taken back"
		if flags.dryRun {
			verb = "to be taken back"
		}
		fmt.Fprintf(s.Stdout, "changes %s: %d, undone before: %d, left: %d, failed: %d\n",
			verb, summary.Written, summary.Unchanged, summary.Left, summary.Failed)
		printCounts(s.Stdout, summary.Cases)
	}
	if kept > 0 {
		s.say("properties that somebody has changed since stay as they are, in collections: %d", kept)
	}
	return failures(summary)
}
