// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"git.arvados.org/arvados.git/lib/version"
	"github.com/spf13/cobra"
)

// Exit codes, which are docker's: any failure is 1, and a flag that is not known
// or cannot be read 125. What Ctrl-C ended has the shell's 128 + SIGINT.
const (
	exitFailed      = 1
	exitUsage       = 125
	exitInterrupted = 130
)

// usageError is a command line that cannot be read.
type usageError struct {
	error
	command string
}

// Run runs the command that args (without the program's name) ask for, and
// returns the exit code. When ctx ends, a request that it follows is cancelled.
func (p *Program) Run(ctx context.Context, args []string) int {
	root := p.command()
	root.SetArgs(args)
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	err := root.ExecuteContext(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(p.Stderr, "arv-docker: %v\nSee '%s --help'.\n", err, usage.command)
		return exitUsage
	case ctx.Err() != nil:
		fmt.Fprintln(p.Stderr, "arv-docker: interrupted")
		return exitInterrupted
	}
	fmt.Fprintf(p.Stderr, "arv-docker: %v\n", err)
	return exitFailed
}

func (p *Program) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "arv-docker",
		Short: "Container images in Arvados, in docker's words and without docker",
		Long: `Container images in Arvados, in docker's words and without docker.

Images are pulled and built by container requests, and kept in Keep. The cluster
and the token are those of ARVADOS_API_HOST, ARVADOS_API_TOKEN and
ARVADOS_API_HOST_INSECURE, or of ~/.config/arvados/settings.conf.`,
		Version:       version.Text(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{err, cmd.CommandPath()} })
	root.AddCommand(p.pullCommand(), p.buildCommand(), p.imagesCommand(), p.inspectCommand(),
		p.tagCommand(), p.loadCommand(), p.pushCommand(), p.saveCommand(), p.verifyCommand(),
		p.historyCommand(), p.migrateCommand(), p.syncCommand(), p.setupCommand(), p.doctorCommand())
	for _, cmd := range root.Commands() {
		cmd.DisableFlagsInUseLine = true // they say [OPTIONS], as docker's do
		if most, ok := imageArguments[cmd.Name()]; ok {
			p.completeImages(cmd, most)
		}
	}
	return root
}

// addProjectFlag adds the flag of commands that make something, with what they make.
func addProjectFlag(cmd *cobra.Command, project *string, what string) {
	cmd.Flags().StringVar(project, "project", "", "UUID of the project for "+what+" (default: "+projectVariable+", else that of the container that this runs in, else your home)")
}

// jsonFlag adds --json.
func jsonFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print JSON")
}

// printJSON prints a value as a user would like to read it.
func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// printJSONLine prints a value in one line.
func printJSONLine(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}
