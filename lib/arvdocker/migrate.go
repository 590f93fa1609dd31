// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagemigrate"
	"github.com/spf13/cobra"
)

// migrateFlags are what migrate is to do, and how.
type migrateFlags struct {
	dryRun, verify, rollback bool
	toLinks, deep            bool
	ownNamesOnly             bool
	resume, undo, report     string
	sql                      string
	parallel                 int
	rate                     float64
}

func (p *Program) migrateCommand() *cobra.Command {
	var flags migrateFlags
	cmd := &cobra.Command{
		Use:   "migrate [OPTIONS]",
		Short: "Copy what links say of images into the properties of their collections",
		Long: `Copy what links of the classes docker_image_hash and docker_image_repo+tag say of
images into the properties of their collections, by which they are found then. It
takes an administrator's token. Links stay as they are.

First see by --dry-run what it would do. It can be stopped and started again at
any time: what is written is not written again. --verify compares what names mean
by links and by properties. --rollback takes back what the rollback file tells.
--to-links is the way back: it writes the links that properties imply. --sql reads
and writes the cluster's database itself, which is much faster.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(cmd.Flags().Changed); err != nil {
				return err
			}
			ctx := cmd.Context()
			s, err := p.connect(ctx)
			if err == nil {
				err = s.mustBeAdmin()
			}
			if err != nil {
				return err
			}
			return s.migrate(ctx, flags)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&flags.dryRun, "dry-run", false, "change nothing; count, and show every special case")
	f.BoolVar(&flags.verify, "verify", false, "change nothing; look each name up by links and by properties, and show where the answers differ")
	f.BoolVar(&flags.rollback, "rollback", false, "give all collections in the rollback file the properties that they had")
	f.BoolVar(&flags.toLinks, "to-links", false, "write the links that properties imply and that are missing, and no properties")
	f.BoolVar(&flags.deep, "deep", false, "also read images in Keep, for properties that links do not tell")
	f.StringVar(&flags.undo, "rollback-file", "arv-docker-migrate.rollback", "`file` that gets what --rollback needs; it is added to")
	f.StringVar(&flags.resume, "resume", "", "`file` that remembers how far this has come, to go on from there")
	f.StringVar(&flags.report, "report", "", "`file` for a report, a line of JSON for each collection or difference; \"-\" is standard output")
	f.BoolVar(&flags.ownNamesOnly, "own-names-only", false, "leave out names by links that do not belong to the owner of the collection")
	f.StringVar(&flags.sql, "sql", "", "do it through the PostgreSQL database at this `address`: a URL, or \"host=… user=… dbname=…\"")
	f.IntVar(&flags.parallel, "parallel", 4, "requests at a time")
	f.Float64Var(&flags.rate, "rate", 0, "changes a second at most; 0 for no limit")
	return cmd
}

// mustBeAdmin refuses the tokens of others.
func (s *session) mustBeAdmin() error {
	if s.user.IsAdmin {
		return nil
	}
	return wrong("ARVADOS_API_TOKEN", fmt.Errorf("it is that of %s, who is no administrator", cmp.Or(s.user.Username, s.user.UUID)),
		"use an administrator's token: images of all users are read and changed")
}

// checkPace refuses what --parallel and --rate cannot be.
func checkPace(parallel int, rate float64) error {
	for _, limit := range []struct {
		flag string
		bad  bool
		hint string
	}{
		{"--parallel", parallel < 1 || parallel > 64, "write a number from 1 to 64"},
		{"--rate", rate < 0, "write a number of changes a second, or 0 for no limit"},
	} {
		if limit.bad {
			return wrong(limit.flag, errors.New("the number is out of range"), limit.hint)
		}
	}
	return nil
}

// check refuses flags that say nothing together.
func (f migrateFlags) check(given func(string) bool) error {
	if err := checkPace(f.parallel, f.rate); err != nil {
		return err
	}
	for _, only := range []struct {
		flag string
		on   bool
		not  []string
	}{
		{"dry-run", f.dryRun, []string{"verify", "rollback", "rollback-file", "resume", "rate"}},
		{"verify", f.verify, []string{"rollback", "rollback-file", "resume", "rate", "own-names-only", "to-links", "deep"}},
		{"rollback", f.rollback, []string{"resume", "own-names-only", "to-links", "deep"}},
		{"sql", f.sql != "", []string{"verify", "rollback", "to-links", "parallel", "deep"}},
		{"to-links", f.toLinks, []string{"rollback-file", "own-names-only", "deep"}},
	} {
		for _, other := range only.not {
			if only.on && given(other) {
				return wrong("--"+other, errors.New("it has no meaning with --"+only.flag), "leave one of them out")
			}
		}
	}
	return nil
}

// migrate does what the flags say, with a report.
func (s *session) migrate(ctx context.Context, flags migrateFlags) error {
	report, err := openReport(s.Stdout, flags.report, flags.resume != "")
	if err != nil {
		return err
	}
	switch {
	case flags.verify:
		err = s.compareNames(ctx, flags, report)
	case flags.rollback:
		err = s.rollBack(ctx, flags, report)
	case flags.toLinks:
		err = s.writeImpliedLinks(ctx, flags, report)
	default:
		err = s.copyLinks(ctx, flags, report)
	}
	if closing := report.Close(); err == nil {
		err = closing
	}
	return err
}

// openReport opens the file for the report, to add to it if it is gone on with.
func openReport(stdout io.Writer, path string, add bool) (io.WriteCloser, error) {
	switch path {
	case "":
		return nopCloser{io.Discard}, nil
	case "-":
		return nopCloser{stdout}, nil
	}
	how := os.O_TRUNC
	if add {
		how = os.O_APPEND
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|how, 0666)
	if err != nil {
		return nil, wrong("--report", err, "name a file that can be written")
	}
	return file, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// copyLinks goes through all links.
func (s *session) copyLinks(ctx context.Context, flags migrateFlags, report io.Writer) error {
	m := &imagemigrate.Migration{
		API:      s.API,
		Rules:    imagemigrate.Rules{OwnNamesOnly: flags.ownNamesOnly},
		DryRun:   flags.dryRun,
		Parallel: flags.parallel,
		Rate:     flags.rate,
		Report:   s.reportTo(report, flags),
		Passed: func(at imagemigrate.Position) error {
			s.now(fmt.Sprintf("links %d, images written %d", at.Summary.Links, at.Summary.Written))
			return s.remember(at, flags)
		},
	}
	var err error
	if m.Start, err = s.begin(flags, ""); err != nil {
		return err
	}
	if flags.deep {
		if m.Deep, err = s.keep(ctx); err != nil {
			return err
		}
	}
	if flags.sql != "" {
		store, err := s.openDatabase(ctx, flags)
		if err != nil {
			return err
		}
		defer store.Close(context.WithoutCancel(ctx))
		m.Store = store
		m.Strict = (&doctor{session: s}).checkVocabulary(ctx).State == warning
	}
	if !flags.dryRun {
		if m.Rollback, err = imagemigrate.OpenRollback(flags.undo); err != nil {
			return err
		}
		defer m.Rollback.Close()
	}
	summary, err := m.Run(ctx)
	s.done()
	if err != nil {
		return err
	}
	if err := forget(flags); err != nil {
		return err
	}
	s.sum(flags, summary)
	if d := (&doctor{session: s}).checkVocabulary(ctx); flags.dryRun && d.State == warning {
		s.say("the vocabulary is strict: keys that it lacks are written with the prefix arv: instead, unless the administrator adds to \"tags\" in the vocabulary file (API.VocabularyPath)")
		for _, line := range d.Lines {
			s.say("  %s", line)
		}
	}
	return failures(summary)
}

// sum prints what has been seen and done.
func (s *session) sum(flags migrateFlags, summary imagemigrate.Summary) {
	if flags.report == "-" { // which is for programs
		return
	}
	verb := "written"
	if flags.dryRun {
		verb = "to be written"
	}
	if flags.toLinks {
		fmt.Fprintf(s.Stdout, "images: %d, links that they have: %d, links %s: %d\n", summary.Heads, summary.Links, verb, summary.NewLinks)
	} else {
		fmt.Fprintf(s.Stdout, "links: %d, what they point to: %d\n", summary.Links, summary.Heads)
	}
	fmt.Fprintf(s.Stdout, "collections %s: %d, unchanged: %d, left: %d, failed: %d\n", verb, summary.Written, summary.Unchanged, summary.Left, summary.Failed)
	for _, kind := range slices.Sorted(maps.Keys(summary.Cases)) {
		fmt.Fprintf(s.Stdout, "  %-20s %d\n", kind, summary.Cases[kind])
	}
}

// failures is an error if the server has refused something.
func failures(summary imagemigrate.Summary) error {
	if summary.Failed == 0 {
		return nil
	}
	return &fault.Error{Op: "change collections", Side: fault.API,
		Err:  fmt.Errorf("%d could not be changed, the last one %s", summary.Failed, summary.LastFailure),
		Hint: "see the report, have the cause removed and start again; what is done is not done again"}
}

// rollBack takes changes back.
func (s *session) rollBack(ctx context.Context, flags migrateFlags, report io.Writer) error {
	if _, err := os.Stat(flags.undo); err != nil {
		return wrong("--rollback-file", err, "name the file that migrate has written")
	}
	file, err := imagemigrate.OpenRollback(flags.undo)
	if err != nil {
		return err
	}
	defer file.Close()
	kept := 0
	summary, err := (&imagemigrate.Rollback{API: s.API, File: file, Parallel: flags.parallel, Rate: flags.rate, Report: func(row imagemigrate.Undone) error {
		if len(row.Kept) > 0 {
			kept++
		}
		return printJSONLine(report, row)
	}}).Run(ctx)
	if err != nil {
		return err
	}
	if flags.report != "-" {
		fmt.Fprintf(s.Stdout, "changes taken back: %d, undone before: %d, collections gone: %d, failed: %d\n",
			summary.Written, summary.Unchanged, summary.Left, summary.Failed)
	}
	if kept > 0 {
		s.say("properties that somebody has changed since have been left as they are, in collections: %d", kept)
	}
	return failures(summary)
}

// compareNames compares what names mean by links and by properties.
func (s *session) compareNames(ctx context.Context, flags migrateFlags, report io.Writer) error {
	counts, err := (&imagemigrate.Verification{API: s.API, Parallel: flags.parallel, Report: func(d imagemigrate.Difference) error {
		if flags.report != "-" {
			fmt.Fprintf(s.Stdout, "%q: %s, by links %s, by properties %s\n", d.Name, d.Reason,
				cmp.Or(d.ByLinks.Collection, "none"), cmp.Or(d.ByProperties.Collection, "none"))
		}
		return printJSONLine(report, d)
	}}).Run(ctx)
	if err != nil {
		return err
	}
	if flags.report != "-" {
		for _, reason := range slices.Sorted(maps.Keys(counts)) {
			fmt.Fprintf(s.Stdout, "  %-20s %d\n", reason, counts[reason])
		}
	}
	if n := counts[imagemigrate.Unexplained]; n > 0 {
		return &fault.Error{Op: "compare names", Side: fault.API, Err: fmt.Errorf("%d names mean something else by properties, or nothing", n),
			Hint: "run migrate; if it has been run, see its report for the collections that they mean by links"}
	}
	return nil
}
