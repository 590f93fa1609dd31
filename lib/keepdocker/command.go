// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package keepdocker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/version"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Exit codes: those of the Python tool, and what a shell says of a program that
// Ctrl-C has ended.
const (
	exitFailed      = 1
	exitUsage       = 2 // arguments that cannot be read
	exitInterrupted = 130
)

// flags are the options of a call.
type flags struct {
	force       bool
	forceFormat bool
	pull        bool
	retries     int
	project     string
	name        string
	silent      bool
	progress    bool // for people, even if nobody watches
	noProgress  bool
	machine     bool // progress for programs
	tar         string
	tagExisting string
	imageID     dockerimage.ImageID
}

// Run runs arv-keepdocker with args (without the program's name), and returns the
// exit code.
func (p *Program) Run(ctx context.Context, args []string) int {
	begun := false
	cmd := p.command(&begun)
	cmd.SetArgs(append([]string{}, args...)) // nil would mean this process's
	cmd.SetIn(p.Stdin)
	cmd.SetOut(p.Stdout)
	cmd.SetErr(p.Stderr)
	err := cmd.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case !begun:
		fmt.Fprintf(p.Stderr, "arv-keepdocker: %v\nSee 'arv-keepdocker --help'.\n", err)
		return exitUsage
	case ctx.Err() != nil:
		fmt.Fprintln(p.Stderr, "arv-keepdocker: interrupted")
		return exitInterrupted
	}
	fmt.Fprintf(p.Stderr, "arv-keepdocker: %v\n", err)
	return exitFailed
}

// command sets begun once the arguments have been read.
func (p *Program) command(begun *bool) *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "arv-keepdocker [OPTIONS] [IMAGE [TAG]]",
		Short: "Bring images of the local Docker Engine into Arvados, or list those that are there",
		Long: `Bring images of the local Docker Engine into Arvados, or list those that are there.

  arv-keepdocker                            list the images in Arvados
  arv-keepdocker IMAGE [TAG]                an image of the engine: repo, repo:tag or hash
  arv-keepdocker FILE.tar [NAME[:TAG]]      an image in a file
  arv-keepdocker --tar FILE|- [NAME[:TAG]]  the same, whatever the file is called
  arv-keepdocker --tag-existing IMAGE NAME[:TAG]
                                            one more name for an image in Arvados

It prints the UUID of the collection. An image that is in Arvados already is not
stored again. The engine is that of DOCKER_HOST, or of this machine; without one,
an image that is in Arvados can still be copied into a project.`,
		Version: version.Text(),
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 2:
				return fmt.Errorf("there are too many arguments: %q", args[2:])
			case cmd.Flags().Changed("tar") && f.tar == "":
				return errors.New("--tar needs the name of a file, or - for standard input")
			case cmd.Flags().Changed("tag-existing") && (f.tagExisting == "" || len(args) == 0):
				return errors.New("--tag-existing needs an image, and then the name to give it: NAME[:TAG]")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			*begun = true
			return p.run(cmd.Context(), f, args)
		},
		SilenceErrors:         true,
		SilenceUsage:          true,
		DisableFlagsInUseLine: true,
	}
	cmd.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	f.add(cmd)
	return cmd
}

// add adds the options: those of the Python tool, and then ours.
func (f *flags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolP("help", "h", false, "print this help")
	flags.Bool("version", false, "print the version")
	flags.BoolVarP(&f.force, "force", "f", false, "store the image again even if it is in Arvados already")
	flags.BoolVar(&f.forceFormat, "force-image-format", false, "store the image even if the API server does not list its format")
	flags.BoolVar(&f.pull, "pull", false, "have the engine pull the image first, even if it has one of this name")
	flags.Bool("no-pull", false, "use the image as the engine has it (default)")
	flags.StringVar(&f.project, "project-uuid", "", "project for the collection (default: your home)")
	flags.StringVar(&f.name, "name", "", "name of the collection")
	flags.BoolVar(&f.progress, "progress", false, "show progress (default if standard error is a terminal)")
	flags.BoolVar(&f.noProgress, "no-progress", false, "show no progress")
	flags.BoolVar(&f.machine, "batch-progress", false, "show progress in lines for programs")
	flags.BoolVar(&f.silent, "silent", false, "print nothing but the UUID, and errors")
	flags.IntVar(&f.retries, "retries", 10, "how often to try again what fails and may pass")
	for _, name := range []string{"batch", "resume", "no-resume", "cache", "no-cache"} {
		flags.Bool(name, false, "no longer means anything: nothing is kept on disk")
	}
	flags.StringVar(&f.tar, "tar", "", "store the image in this `file`, - is standard input; no engine is needed")
	flags.StringVar(&f.tagExisting, "tag-existing", "", "give the `image` in Arvados, by portable data hash, UUID of its collection, hash or name, one more name")
	flags.Var(&f.imageID, "image-id", "what the engines of the cluster's nodes call a loaded image: config, or manifest if they have containerd's image store (default config)")
	for _, group := range [][]string{
		{"pull", "no-pull"},
		{"progress", "no-progress", "batch-progress"},
		{"resume", "no-resume"},
		{"cache", "no-cache"},
		{"tar", "tag-existing", "pull"},
		{"tar", "tag-existing", "force"},
	} {
		cmd.MarkFlagsMutuallyExclusive(group...)
	}
	abbreviate(flags)
}

// abbreviate has flags take every start of a name that only one flag has, as
// Python does.
func abbreviate(flags *pflag.FlagSet) {
	var names []string
	flags.VisitAll(func(flag *pflag.Flag) { names = append(names, flag.Name) })
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		var fit []string
		for _, full := range names {
			if strings.HasPrefix(full, name) {
				fit = append(fit, full)
			}
		}
		if len(fit) == 1 && !slices.Contains(names, name) {
			name = fit[0]
		}
		return pflag.NormalizedName(name)
	})
}

// run does what the arguments ask for.
func (p *Program) run(ctx context.Context, f flags, args []string) error {
	s, err := p.connect(ctx, f)
	if err != nil {
		return err
	}
	if f.tar == "" && f.tagExisting == "" && (len(args) == 0 || args[0] == "images") {
		return s.list(ctx)
	}
	if err := s.checkProject(ctx); err != nil {
		return err
	}
	var uuid string
	switch {
	case f.tagExisting != "":
		uuid, err = s.tagExistingImage(ctx, args)
	case f.tar != "":
		uuid, err = s.storeFile(ctx, f.tar, args)
	case isTar(args[0]):
		uuid, err = s.storeFile(ctx, args[0], args[1:])
	default:
		uuid, err = s.storeImage(ctx, args)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.Stdout, uuid)
	return err
}
