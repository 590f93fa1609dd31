// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"git.arvados.org/arvados.git/lib/imagemigrate"
	"github.com/spf13/pflag"
)

// connectAsAdmin is connect for commands that go on for long, and refuses the tokens
// of others than administrators.
func (p *Program) connectAsAdmin(ctx context.Context) (*session, error) {
	s, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	if s.user.IsAdmin {
		s.bePatient()
		return s, nil
	}
	return nil, wrong("ARVADOS_API_TOKEN", fmt.Errorf("it is that of %s, who is no administrator", cmp.Or(s.user.Username, s.user.UUID)),
		"use an administrator's token: images of all users are read and changed")
}

// changeFlags are how migrate and sync are to make changes.
type changeFlags struct {
	undo     string
	parallel int
	rate     float64
}

// add adds the flags, with the name of the rollback file that is meant without its
// flag.
func (f *changeFlags) add(flags *pflag.FlagSet, undo string) {
	flags.StringVar(&f.undo, "rollback-file", undo, "`file` that gets what migrate --rollback needs; it is added to")
	flags.IntVar(&f.parallel, "parallel", 4, "requests at a time")
	flags.Float64Var(&f.rate, "rate", 0, "changes a second at most; 0 for no limit")
}

// check refuses what the flags cannot be.
func (f changeFlags) check() error {
	switch {
	case f.parallel < 1 || f.parallel > 64:
		return wrong("--parallel", errors.New("the number is out of range"), "write a number from 1 to 64")
	case f.rate < 0:
		return wrong("--rate", errors.New("the number is out of range"), "write a number of changes a second, or 0 for no limit")
	}
	return nil
}

// migrateFlags are what migrate is to do, and how.
type migrateFlags struct {
	changeFlags
	dryRun, verify, rollback bool
	toLinks, deep            bool
	ownNamesOnly             bool
	resume, report           string
	sql                      string
}

func (f *migrateFlags) add(flags *pflag.FlagSet) {
	flags.BoolVar(&f.dryRun, "dry-run", false, "change nothing; count, and show every special case")
	flags.BoolVar(&f.verify, "verify", false, "change nothing; look each name up by links and by properties, and show where the answers differ")
	flags.BoolVar(&f.rollback, "rollback", false, "give all collections in the rollback file the properties that they had; with --to-links, delete the links that the report names, which --rollback-file is then")
	flags.BoolVar(&f.toLinks, "to-links", false, "write the links that properties imply and that are missing, and no properties")
	flags.BoolVar(&f.deep, "deep", false, "also read images in Keep, for properties that links do not tell")
	flags.StringVar(&f.resume, "resume", "", "`file` that remembers how far this has come, to go on from there")
	flags.StringVar(&f.report, "report", "", "`file` for a report, a line of JSON for each collection or difference; \"-\" is standard output")
	flags.BoolVar(&f.ownNamesOnly, "own-names-only", false, "leave out names by links that do not belong to the owner of the collection")
	flags.StringVar(&f.sql, "sql", "", "do it through the PostgreSQL database at this `address`: a URL, or \"host=… user=… dbname=…\"")
	f.changeFlags.add(flags, "arv-docker-migrate.rollback")
}

// check refuses flags that say nothing together.
func (f migrateFlags) check(given func(string) bool) error {
	if err := f.changeFlags.check(); err != nil {
		return err
	}
	for _, only := range []struct {
		flag string
		on   bool
		not  []string
	}{
		{"dry-run", f.dryRun, []string{"verify", "resume", "rate"}},
		{"dry-run", f.dryRun && !f.rollback, []string{"rollback-file"}},
		{"verify", f.verify, []string{"rollback", "rollback-file", "resume", "rate", "to-links", "deep"}},
		{"rollback", f.rollback, []string{"resume", "own-names-only", "deep"}},
		{"sql", f.sql != "", []string{"verify", "to-links", "parallel", "deep"}},
		{"to-links", f.toLinks, []string{"own-names-only", "deep"}},
		{"to-links", f.toLinks && !f.rollback, []string{"rollback-file"}},
	} {
		for _, other := range only.not {
			if only.on && given(other) {
				return wrong("--"+other, errors.New("it has no meaning with --"+only.flag), "leave one of them out")
			}
		}
	}
	switch {
	case f.rollback && f.toLinks && !given("rollback-file"):
		return wrong("--rollback-file", errors.New("it is not given"), "name the report of migrate --to-links or sync")
	case f.rollback && f.report == f.undo:
		return wrong("--report", errors.New("it is the file that is read"), "name another one")
	}
	return nil
}

// rules are those by which links are brought in.
func (f migrateFlags) rules() imagemigrate.Rules {
	return imagemigrate.Rules{OwnNamesOnly: f.ownNamesOnly}
}
