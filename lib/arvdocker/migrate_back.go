// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"

	"git.arvados.org/arvados.git/lib/imagemigrate"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// writeImpliedLinks goes through all images, and gives them the links that they
// lack.
func (s *session) writeImpliedLinks(ctx context.Context, flags migrateFlags, report io.Writer) error {
	l := &imagemigrate.ToLinks{
		API:      s.API,
		DryRun:   flags.dryRun,
		Parallel: flags.parallel,
		Rate:     flags.rate,
		Report:   s.reportTo(report, flags),
		Passed: func(at imagemigrate.Position) error {
			s.now(fmt.Sprintf("images %d, links written %d", at.Summary.Heads, at.Summary.NewLinks))
			return s.remember(at, flags)
		},
	}
	var err error
	if l.Start, err = s.begin(flags, imagemigrate.WayToLinks); err != nil {
		return err
	}
	summary, err := l.Run(ctx)
	s.done()
	if err != nil {
		return err
	}
	if err := forget(flags); err != nil {
		return err
	}
	s.sum(flags, summary)
	return failures(summary)
}

// deleteLinks deletes those links that a report of writeImpliedLinks or sync names.
func (s *session) deleteLinks(ctx context.Context, flags migrateFlags, report io.Writer) error {
	u := &imagemigrate.Unlink{
		API:      s.API,
		Path:     flags.undo,
		DryRun:   flags.dryRun,
		Parallel: flags.parallel,
		Rate:     flags.rate,
		Report:   func(row imagemigrate.Unlinked) error { return printJSONLine(report, row) },
	}
	summary, err := u.Run(ctx)
	if err != nil {
		return err
	}
	s.sumUndone(flags, summary, "links deleted", "links to be deleted", "gone before")
	return failures(summary)
}

// reportTo is what a way does with each line of its report.
func (s *session) reportTo(report io.Writer, flags migrateFlags) func(imagemigrate.Row) error {
	return func(row imagemigrate.Row) error {
		if flags.dryRun && flags.report != "-" {
			for _, special := range row.Cases {
				fmt.Fprintln(s.Stdout, strings.TrimSpace(fmt.Sprintf("%s: %s %s", head(row.Collection), special.Kind, harmless(special.Detail))))
			}
		}
		return printJSONLine(report, row)
	}
}

// head is what links point to, for a terminal: anybody can make one that points to
// any text.
func head(uuid string) string {
	if arvados.UUIDMatch(uuid) || arvados.PDHMatch(uuid) {
		return uuid
	}
	return strconv.Quote(uuid)
}

// harmless is a text in which somebody else's words may be, for a terminal: with nothing
// that it would obey.
func harmless(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// begin is where a way that was stopped goes on.
func (s *session) begin(flags migrateFlags, way string) (imagemigrate.Position, error) {
	if flags.resume == "" {
		return imagemigrate.Position{}, nil
	}
	at, err := imagemigrate.LoadPosition(flags.resume)
	switch {
	case err != nil:
	case at.Server != "" && at.Server != s.API.APIHost:
		err = wrong("--resume", fmt.Errorf("%s is about %s, not about %s", flags.resume, at.Server, s.API.APIHost), "name another file")
	case at.Server != "" && at.Way != way:
		err = wrong("--resume", fmt.Errorf("%s is that of a run in the other direction", flags.resume), "name another file, or give --to-links as that run had it")
	}
	return at, err
}

// remember keeps how far a way has come.
func (s *session) remember(at imagemigrate.Position, flags migrateFlags) error {
	if flags.resume == "" {
		return nil
	}
	at.Server = s.API.APIHost
	return at.Save(flags.resume)
}

// forget removes what begin would read, once all is done.
func forget(flags migrateFlags) error {
	if flags.resume == "" {
		return nil
	}
	if err := os.Remove(flags.resume); err != nil && !errors.Is(err, os.ErrNotExist) {
		return wrong("--resume", err, "remove it: all is done")
	}
	return nil
}
