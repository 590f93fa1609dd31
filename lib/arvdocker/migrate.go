// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagemigrate"
	"git.arvados.org/arvados.git/lib/imagemigrate/sqlstore"
	"github.com/spf13/cobra"
)

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
by links and by properties. --rollback takes back what the rollback file tells;
with --dry-run it counts that. --to-links is the way back: it writes the links that
properties imply; with --rollback it deletes those that a report tells of. --sql
reads and writes the cluster's database itself, which is much faster.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(cmd.Flags().Changed); err != nil {
				return err
			}
			ctx := cmd.Context()
			s, err := p.connectAsAdmin(ctx)
			if err != nil {
				return err
			}
			return s.migrate(ctx, flags)
		},
	}
	flags.add(cmd.Flags())
	return cmd
}

// migrate does what the flags say, with a report.
func (s *session) migrate(ctx context.Context, flags migrateFlags) error {
	if flags.resume != "" {
		lock, err := imagemigrate.LockPosition(flags.resume)
		if err != nil {
			return err
		}
		defer lock.Close()
	}
	report, err := openReport(s.Stdout, flags.report, flags.resume != "")
	if err != nil {
		return err
	}
	switch {
	case flags.verify:
		err = s.compareNames(ctx, flags, report)
	case flags.rollback && flags.toLinks:
		err = s.deleteLinks(ctx, flags, report)
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
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|how, 0666)
	if err == nil {
		err = endLine(file)
	}
	if err != nil {
		return nil, wrong("--report", err, "name a file that can be written")
	}
	return file, nil
}

// endLine ends a line that was not written to its end before power has failed.
func endLine(file *os.File) error {
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return err
	}
	var last [1]byte
	if _, err = file.ReadAt(last[:], info.Size()-1); err == nil && last[0] != '\n' {
		_, err = file.Write([]byte{'\n'})
	}
	return err
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// openStore opens what is to be changed: the cluster's database, in which changes are
// by the user of the token, or else the API server.
func (s *session) openStore(ctx context.Context, flags migrateFlags) (store imagemigrate.Store, end func(), err error) {
	if flags.sql == "" {
		return imagemigrate.ByAPI(s.API, flags.parallel), func() {}, nil
	}
	var config struct{ ClusterID string }
	if err := s.call(ctx, &config, http.MethodGet, "config", nil); err != nil {
		return nil, nil, err
	}
	database, err := sqlstore.Open(ctx, flags.sql, config.ClusterID, s.user.UUID)
	if err != nil {
		return nil, nil, err
	}
	s.say("the schema of the database is of version %s", database.Version)
	return database, func() { database.Close(context.WithoutCancel(ctx)) }, nil
}

// copyLinks goes through all links.
func (s *session) copyLinks(ctx context.Context, flags migrateFlags, report io.Writer) error {
	m := &imagemigrate.Migration{
		Rules:    flags.rules(),
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
	// A database refuses nothing, so that this has to be known.
	var missing []string
	if flags.sql != "" || flags.dryRun {
		v, err := s.vocabulary(ctx)
		switch {
		case err != nil && flags.sql != "":
			return err
		case err != nil:
			s.say("the server shows no vocabulary: it may turn out strict when properties are written")
		}
		missing = v.missingKeys()
		m.Strict = flags.sql != "" && len(missing) > 0
	}
	store, end, err := s.openStore(ctx, flags)
	if err != nil {
		return err
	}
	defer end()
	m.Store = store
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
	if flags.dryRun && len(missing) > 0 {
		s.say("the vocabulary is strict: keys that it lacks are written with the prefix arv: instead, unless the administrator adds to \"tags\" in the vocabulary file (API.VocabularyPath)")
		for _, line := range missing {
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
	printCounts(s.Stdout, summary.Cases)
}

// failures is an error if the server has refused something.
func failures(summary imagemigrate.Summary) error {
	if summary.Failed == 0 {
		return nil
	}
	return &fault.Error{Op: "change collections", Side: fault.API,
		Err:  fmt.Errorf("%d could not be changed, the last one %s", summary.Failed, harmless(summary.LastFailure)),
		Hint: "see the report, have the cause removed and start again; what is done is not done again"}
}

// compareNames compares what names mean by links and by properties.
func (s *session) compareNames(ctx context.Context, flags migrateFlags, report io.Writer) error {
	v := &imagemigrate.Verification{
		API:      s.API,
		Rules:    flags.rules(),
		Parallel: flags.parallel,
		Report: func(d imagemigrate.Difference) error {
			if flags.report != "-" {
				fmt.Fprintf(s.Stdout, "%q: %s, by links %s, by properties %s\n", d.Name, d.Reason,
					cmp.Or(d.ByLinks.Collection, "none"), cmp.Or(d.ByProperties.Collection, "none"))
			}
			return printJSONLine(report, d)
		},
	}
	counts, err := v.Run(ctx)
	if err != nil {
		return err
	}
	if flags.report != "-" {
		printCounts(s.Stdout, counts)
	}
	if n := counts[imagemigrate.Unexplained]; n > 0 {
		return &fault.Error{Op: "compare names", Side: fault.API, Err: fmt.Errorf("%d names mean something else by properties, or nothing", n),
			Hint: "run migrate; if it has been run, see its report for the collections that they mean by links"}
	}
	return nil
}

// printCounts prints how often there was what.
func printCounts[K ~string](w io.Writer, counts map[K]int) {
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(w, "  %-20s %d\n", what, counts[what])
	}
}
