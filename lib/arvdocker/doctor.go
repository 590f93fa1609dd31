// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"github.com/spf13/cobra"
)

func (p *Program) doctorCommand() *cobra.Command {
	var asJSON *bool
	cmd := &cobra.Command{
		Use:   "doctor [OPTIONS]",
		Short: "Find out whether this machine, your token and the cluster are fit for the other commands",
		Long: `Find out whether this machine, your token and the cluster are fit for the other
commands. Each line says "ok", "warning" or "problem", and what to do. One block
of a few bytes is written to Keep and read back. The exit code is 1 if there is a
problem.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			d := &doctor{session: p.newSession()}
			return d.examine(cmd.Context(), *asJSON)
		},
	}
	asJSON = jsonFlag(cmd)
	return cmd
}

// States of a finding.
const (
	fine    = "ok"
	warning = "warning"
	problem = "problem"
)

// finding is what came of one check.
type finding struct {
	Check  string   `json:"check"`
	State  string   `json:"state"`
	Text   string   `json:"text"`
	Advice string   `json:"advice,omitempty"`
	Lines  []string `json:"lines,omitempty"` // that the advice speaks of
}

// found is a finding without advice.
func found(format string, args ...any) finding {
	return finding{State: fine, Text: fmt.Sprintf(format, args...)}
}

// failed is the finding that something does not work.
func failed(err error) finding {
	f := finding{State: problem, Text: err.Error()}
	if known := (*fault.Error)(nil); errors.As(err, &known) && known.Hint != "" {
		f.Advice = known.Hint
		f.Text = strings.TrimSuffix(f.Text, " ("+known.Hint+")")
	}
	return f
}

// with is the finding in another state, and what to do about it.
func (f finding) with(state, advice string) finding {
	f.State, f.Advice = state, advice
	return f
}

// print prints the finding as text.
func (f finding) print(w io.Writer) error {
	line := fmt.Sprintf("%-8s %-12s %s", f.State, f.Check, f.Text)
	if f.Advice != "" {
		line += ": " + f.Advice
	}
	_, err := fmt.Fprintln(w, strings.Join(append([]string{line}, f.Lines...), "\n             "))
	return err
}

// doctor examines one thing after the other.
type doctor struct {
	*session
	server discovered
	config exportedConfig
}

// examine prints all findings. Without settings, server or token there is no
// point in going on.
func (d *doctor) examine(ctx context.Context, asJSON bool) error {
	findings := []finding{}
	problems := 0
	for _, check := range []struct {
		name  string
		run   func(context.Context) finding
		vital bool
	}{
		{"settings", d.checkUp, true},
		{"server", d.checkServer, true},
		{"clock", d.checkClock, false},
		{"token", d.checkToken, true},
		{"config", d.checkConfig, false},
		{"keep", d.checkKeep, false},
		{"replication", d.checkReplication, false},
		{"names", d.checkNames, false},
		{"builtin", d.checkBuiltin, false},
		{"vocabulary", d.checkVocabulary, false},
		{"nodes", d.checkNodes, false},
	} {
		f := check.run(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		f.Check = check.name
		findings = append(findings, f)
		if !asJSON {
			if err := f.print(d.Stdout); err != nil {
				return err
			}
		}
		if f.State == problem {
			problems++
			if check.vital {
				break
			}
		}
	}
	if asJSON {
		if err := printJSON(d.Stdout, findings); err != nil {
			return err
		}
	}
	if problems > 0 {
		return fmt.Errorf("problems found: %d", problems)
	}
	return nil
}
