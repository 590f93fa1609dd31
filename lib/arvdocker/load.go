// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/spf13/cobra"
)

func (p *Program) loadCommand() *cobra.Command {
	var flags loadFlags
	cmd := &cobra.Command{
		Use:   "load [OPTIONS] FILE|-",
		Short: "Bring an image from a tar file into Keep",
		Long: `Bring an image from a tar file into Keep, as docker save, podman, skopeo and crane
write it, with or without compression; "-" is standard input:

  docker save alpine:3.22 | arv-docker load -

The image gets the names that the file has, and those given with --tag.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			var names []string
			for _, tag := range flags.tags {
				name, err := tagOf("--tag", tag)
				if err != nil {
					return err
				}
				names = append(names, name)
			}
			if err := checkLinks(flags.links); err != nil {
				return err
			}
			in, size := p.Stdin, int64(0)
			if args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return wrong("FILE", err, "name a tar file that you can read, or - for standard input")
				}
				defer file.Close()
				if info, err := file.Stat(); err == nil {
					size = info.Size() // 0 of a pipe
				}
				in = file
			}
			s, err := p.connect(ctx)
			if err != nil {
				return err
			}
			r, err := s.load(ctx, in, size, names, &flags)
			if err != nil {
				return err
			}
			return s.print(r, &requestFlags{json: flags.json, quiet: flags.quiet})
		},
	}
	cmd.Flags().StringArrayVarP(&flags.tags, "tag", "t", nil, "name:tag for the image, besides those in the file (several times)")
	flags.add(cmd)
	return cmd
}

// loadFlags are the flags of commands that bring an image into Keep from here.
type loadFlags struct {
	tags        []string
	project     string
	links       string
	imageID     dockerimage.ImageID
	quiet, json bool
}

func (f *loadFlags) add(cmd *cobra.Command) {
	addProjectFlag(cmd, &f.project, "the image")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "print nothing but the portable data hash of the image")
	cmd.Flags().BoolVar(&f.json, "json", false, "print the collection as JSON")
	addLinksFlag(cmd, &f.links)
	addImageIDFlag(cmd, &f.imageID)
}

// addImageIDFlag adds the flag for a cluster whose nodes call images otherwise.
func addImageIDFlag(cmd *cobra.Command, id *dockerimage.ImageID) {
	cmd.Flags().Var(id, "image-id", "what the nodes' engines call a loaded image, config or manifest, as image_id in their site file (default config)")
}

// load stores the image in an archive, and makes its collection if the owner has
// none of it. size is that of the archive, 0 if it is not known. The image gets
// names and those in the archive.
func (s *session) load(ctx context.Context, in io.Reader, size int64, names []string, f *loadFlags) (*result, error) {
	owner, err := s.checkProject(ctx, f.project)
	if err != nil {
		return nil, err
	}
	kc, err := s.keep(ctx)
	if err != nil {
		return nil, err
	}
	defer s.done()
	saver := &dockerimage.Saver{API: s.API, Keep: kc, Owner: owner, ImageID: f.imageID, Blocks: dockerimage.BlocksInFlight()}
	if !f.quiet {
		show := s.transfer("stored")
		in = &counter{r: in, count: func(n int64) { show(n, size) }}
	}
	saved, err := saver.SaveArchive(ctx, in)
	if err != nil {
		return nil, err
	}
	for _, text := range saved.RepoTags {
		name, err := tagOf("name in the file", text)
		if err != nil {
			s.say("the name %q in the file is left out: %v", text, err)
			continue
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return s.keepImage(ctx, owner, saved.ManifestText, saved.Properties(names, time.Now()), f.links)
}

// keepImage makes the collection of a stored image, or gives the names to the one
// that the owner has.
func (s *session) keepImage(ctx context.Context, owner, manifest string, properties dockerimage.Properties, links string) (*result, error) {
	coll, err := s.findImage(ctx,
		arvados.Filter{Attr: "owner_uuid", Operator: "=", Operand: owner},
		arvados.Filter{Attr: "portable_data_hash", Operator: "=", Operand: properties.PDH})
	if err != nil {
		return nil, err
	}
	if coll != nil {
		err := s.addNames(ctx, coll, properties.RepoTags, links)
		r := newResult(*coll)
		r.Existed = true
		return r, err
	}
	title := properties.Hash
	if len(properties.RepoTags) > 0 {
		title = properties.RepoTags[0] + " " + title
	}
	coll, err = s.writeImage(ctx, http.MethodPost, "collections", attrs{
		"owner_uuid":    owner,
		"name":          "Docker image " + strings.ReplaceAll(title, "/", " "), // which servers refuse
		"manifest_text": manifest,
		"properties":    properties.Map(),
	})
	if err != nil {
		return nil, err
	}
	return newResult(*coll), s.writeLinks(ctx, *coll, links)
}
