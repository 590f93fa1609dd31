// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/imageref"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

func (p *Program) imagesCommand() *cobra.Command {
	var asJSON *bool
	cmd := &cobra.Command{
		Use:     "images [OPTIONS] [NAME[:TAG]]",
		Aliases: []string{"ls"},
		Short:   "List the images in Keep that you can read",
		Long: `List the images in Keep that you can read, those first that were stored or named
last. NAME without a tag lists all tags of it. With --json, each line is an
object.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var want wanted
			if len(args) == 1 {
				var err error
				if want, err = parseWanted(args[0]); err != nil {
					return err
				}
			}
			ctx := cmd.Context()
			s, err := p.connect(ctx)
			if err != nil {
				return err
			}
			return s.images(ctx, want, *asJSON)
		},
	}
	asJSON = jsonFlag(cmd)
	return cmd
}

// wanted is what images are listed; the zero value is all.
type wanted struct {
	repository string // as docker shows it
	repoTag    string // with the tag, "" for every tag
}

func parseWanted(text string) (wanted, error) {
	ref, err := imageref.Parse(text)
	if err != nil {
		return wanted{}, err
	}
	if ref.Digest != "" {
		return wanted{}, wrong("NAME", fmt.Errorf("%q has a digest", text), "write name or name:tag; inspect takes digests")
	}
	w := wanted{repository: strings.TrimSuffix(ref.RepoTag(), ":"+ref.Tag)}
	if strings.HasSuffix(text, ":"+ref.Tag) {
		w.repoTag = ref.RepoTag()
	}
	return w, nil
}

// fits reports whether a name is to be listed.
func (w wanted) fits(name string) bool {
	repository, _ := splitName(name)
	return w.repository == "" || w.repoTag == name || w.repoTag == "" && w.repository == repository
}

// splitName takes the name of an image apart at the colon of its tag.
func splitName(name string) (repository, tag string) {
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i], name[i+1:]
	}
	return name, ""
}

// listed is a line of the list as JSON, with docker's names for what docker has.
type listed struct {
	Repository       string
	Tag              string
	ID               string
	CreatedAt        string
	Size             int64 // of all layers unpacked if known, else of the file, in bytes
	Collection       string
	PortableDataHash string
	Owner            string
}

// lineFormat has fixed widths: lines are printed before the next ones are known.
const lineFormat = "%-30s %-16s %-12s %-15s %9s  %-27s %s\n"

// none stands for a name that is not there, as with docker.
const none = "<none>"

// images prints the list while it comes.
func (s *session) images(ctx context.Context, want wanted, asJSON bool) error {
	if !asJSON {
		fmt.Fprintf(s.Stdout, lineFormat, "REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "COLLECTION", "OWNER")
	}
	for image, err := range s.list(ctx, want) {
		if err != nil {
			return err
		}
		names := slices.DeleteFunc(image.names, func(name string) bool { return !want.fits(name) })
		if len(names) == 0 && want.repository == "" {
			names = []string{none + ":" + none}
		}
		for _, name := range names {
			if err := s.printImage(image, name, asJSON); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *session) printImage(image listedImage, name string, asJSON bool) error {
	line := listed{
		ID:               image.hash,
		CreatedAt:        image.made.UTC().Format(time.RFC3339),
		Size:             image.size,
		Collection:       image.UUID,
		PortableDataHash: image.PortableDataHash,
		Owner:            image.OwnerUUID,
	}
	line.Repository, line.Tag = splitName(name)
	if asJSON {
		return printJSONLine(s.Stdout, line)
	}
	id := none
	if line.ID != "" {
		id = builtin.Short(line.ID)
	}
	_, err := fmt.Fprintf(s.Stdout, lineFormat, line.Repository, line.Tag, id, humanize.Time(image.made), builtin.Size(line.Size), line.Collection, line.Owner)
	return err
}
