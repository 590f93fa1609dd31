// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/spf13/cobra"
)

// usualRunner is the image that Workbench and arvados-cwl-runner run workflows in.
const usualRunner = "arvados/jobs"

func (p *Program) setupCommand() *cobra.Command {
	var flags setupFlags
	cmd := &cobra.Command{
		Use:   "setup [OPTIONS]",
		Short: "Publish what a cluster needs for docker pull and docker build",
		Long: `Publish what a cluster needs for docker pull and docker build: the image
` + builtin.Image + `, an image for workflow runners with arv-docker in it, and two
workflows, "docker pull" and "docker build". No Docker Engine is needed.

Everything goes into one project. Nothing is shared with anybody; the command that
shares the project with all users is printed. A second run changes only what differs.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if err := checkLinks(flags.links); err != nil {
				return err
			}
			runner, err := tagOf("--runner-image", flags.runner)
			if flags.runner != "" && err != nil {
				return err
			}
			program, err := openProgram(flags.program)
			if err != nil {
				return err
			}
			s, err := p.connect(ctx)
			if err != nil {
				return err
			}
			owner, err := s.checkProject(ctx, flags.project)
			if err != nil {
				return err
			}
			defer s.done()
			u := &setup{session: s, flags: &flags, owner: owner, program: program}
			return u.run(ctx, runner)
		},
	}
	addProjectFlag(cmd, &flags.project, "images and workflows")
	cmd.Flags().StringVar(&flags.program, "program", "", "arv-docker to put into the images, for the nodes' platform (default: this program itself)")
	cmd.Flags().StringVar(&flags.base, "runner-base", usualRunner, "image in Keep that the one for workflow runners is made of")
	cmd.Flags().StringVar(&flags.runner, "runner-image", "", "name:tag of the image for workflow runners (default: "+usualRunner+"-builtin with the tag of its base)")
	cmd.Flags().BoolVar(&flags.dryRun, "dry-run", false, "say what would be published, and store nothing")
	cmd.Flags().BoolVar(&flags.json, "json", false, "print what is there afterwards as JSON")
	addLinksFlag(cmd, &flags.links)
	addImageIDFlag(cmd, &flags.imageID)
	return cmd
}

type setupFlags struct {
	project string
	program string
	base    string
	runner  string
	links   string
	imageID dockerimage.ImageID
	dryRun  bool
	json    bool
}

// setup is one run of the command.
type setup struct {
	*session
	flags   *setupFlags
	owner   string
	program *programFile
	things  []published
}

// published is something that the cluster needs.
type published struct {
	Kind             string `json:"kind"` // image, collection or workflow
	Name             string `json:"name"`
	UUID             string `json:"uuid,omitempty"`
	PortableDataHash string `json:"portable_data_hash,omitempty"`
	// State is new, changed, unchanged or missing, before a dry run and after
	// any other.
	State string `json:"state"`
}

const (
	stateNew       = "new"
	stateChanged   = "changed"
	stateUnchanged = "unchanged"
	stateMissing   = "missing" // a dry run would make it, or change it
)

func (u *setup) run(ctx context.Context, runnerName string) error {
	image, err := u.publishBuiltin(ctx)
	if err != nil {
		return err
	}
	runner, err := u.publishRunner(ctx, runnerName)
	if err != nil {
		return err
	}
	if err := u.publishTools(ctx, image, runner); err != nil {
		return err
	}
	shared := u.shared(ctx)
	if u.flags.json {
		return printJSON(u.Stdout, attrs{"project": u.owner, "published": u.things, "shared": shared})
	}
	return u.print(shared)
}

func (u *setup) add(thing published) {
	u.things = append(u.things, thing)
	u.now(thing.Kind + " " + thing.Name + ": " + thing.State)
}

// shared reports whether all users can read the project.
func (u *setup) shared(ctx context.Context) bool {
	var list arvados.LinkList
	err := u.call(ctx, &list, http.MethodGet, "links", arvados.ResourceListParams{Filters: []arvados.Filter{
		{Attr: "link_class", Operator: "=", Operand: "permission"},
		{Attr: "tail_uuid", Operator: "=", Operand: u.everybody()},
		{Attr: "head_uuid", Operator: "=", Operand: u.owner},
	}})
	return err == nil && len(list.Items) > 0 // whoever cannot see it is shown how to make it
}

// everybody is the group of all users (Arvados, architecture of permissions).
func (u *setup) everybody() string { return u.owner[:5] + "-j7d0g-fffffffffffffff" }

func (u *setup) print(shared bool) error {
	var text strings.Builder
	changed := false
	for _, thing := range u.things {
		changed = changed || thing.State != stateUnchanged
		fmt.Fprintf(&text, "%-10s %-9s %s %s\n", thing.Kind, thing.State, thing.Name, strings.TrimSpace(thing.UUID+" "+thing.PortableDataHash))
	}
	if !changed {
		text.WriteString("Everything was there already: nothing has changed.\n")
	}
	switch {
	case shared:
	case strings.Contains(u.owner, "-tpzed-"):
		text.WriteString("\nThis is your home, which cannot be shared. For other users, make a project and name it by --project.\n")
	default:
		fmt.Fprintf(&text, `
Only those can use this who can read project %s. For all users:
  arv link create --link '{"link_class":"permission","name":"can_read","tail_uuid":"%s","head_uuid":"%s"}'
`, u.owner, u.everybody(), u.owner)
	}
	_, err := fmt.Fprint(u.Stdout, text.String())
	return err
}
