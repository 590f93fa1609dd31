// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imagetar"
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
			in := p.Stdin
			if args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return wrong("FILE", err, "name a tar file that you can read, or - for standard input")
				}
				defer file.Close()
				in = file
			}
			s, err := p.connect(ctx)
			if err != nil {
				return err
			}
			r, err := s.load(ctx, in, names, &flags)
			if err != nil {
				return err
			}
			return s.print(r, &requestFlags{json: flags.json, quiet: flags.quiet})
		},
	}
	cmd.Flags().StringArrayVarP(&flags.tags, "tag", "t", nil, "name:tag for the image, besides those in the file (several times)")
	cmd.Flags().StringVar(&flags.project, "project", "", "UUID of the project for the image (default: your home)")
	cmd.Flags().BoolVarP(&flags.quiet, "quiet", "q", false, "print nothing but the portable data hash of the image")
	cmd.Flags().BoolVar(&flags.json, "json", false, "print the collection as JSON")
	addLinksFlag(cmd, &flags.links)
	return cmd
}

type loadFlags struct {
	tags        []string
	project     string
	links       string
	quiet, json bool
}

// load stores the image in an archive, and makes its collection if the owner has
// none of it.
func (s *session) load(ctx context.Context, in io.Reader, names []string, f *loadFlags) (*result, error) {
	owner, err := s.checkProject(ctx, f.project)
	if err != nil {
		return nil, err
	}
	kc, err := s.keep(ctx)
	if err != nil {
		return nil, err
	}
	defer s.done()
	saver := &dockerimage.Saver{API: s.API, Keep: kc, Owner: owner, Blocks: dockerimage.BlocksInFlight()}
	if !f.quiet {
		saver.Progress = func(p dockerimage.Progress) { s.now("stored " + builtin.Size(p.Done)) }
	}
	saved, inside, err := saveArchive(ctx, saver, in)
	if err != nil {
		return nil, err
	}
	for _, text := range inside {
		name, err := tagOf("name in the file", text)
		if err != nil {
			s.say("the name %q in the file is left out: %v", text, err)
			continue
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	coll, err := s.findImage(ctx,
		arvados.Filter{Attr: "owner_uuid", Operator: "=", Operand: owner},
		arvados.Filter{Attr: "portable_data_hash", Operator: "=", Operand: saved.PDH})
	if err != nil {
		return nil, err
	}
	if coll != nil {
		err := s.addNames(ctx, coll, names, f.links)
		r := newResult(*coll)
		r.Existed = true
		return r, err
	}
	coll = &arvados.Collection{}
	title := saved.ConfigDigest
	if len(names) > 0 {
		title = names[0] + " " + title
	}
	err = s.call(ctx, coll, http.MethodPost, "collections", attrs{
		"collection": attrs{
			"owner_uuid":    owner,
			"name":          "Docker image " + title,
			"manifest_text": saved.ManifestText,
			"properties":    saved.Properties(names, time.Now()).Map(),
		},
		"ensure_unique_name": true,
	})
	if err != nil {
		return nil, err
	}
	return newResult(*coll), s.writeLinks(ctx, *coll, f.links)
}

// saveArchive stores an archive, and finds the names in it, which a Saver takes
// no notice of.
func saveArchive(ctx context.Context, saver *dockerimage.Saver, in io.Reader) (saved *dockerimage.Saved, names []string, err error) {
	r, w := io.Pipe()
	scanned := make(chan []string, 1)
	go func() {
		// What is wrong with the archive, the Saver says.
		archive, err := imagetar.ScanArchive(r, hashSink{})
		if err != nil {
			archive.RepoTags = nil
			_, _ = io.Copy(io.Discard, r) // the Saver must not wait for us
		}
		scanned <- archive.RepoTags
	}()
	saved, err = saver.SaveArchive(ctx, io.TeeReader(in, w))
	w.CloseWithError(err) // nil ends it well
	return saved, <-scanned, err
}

// hashSink looks at layers without keeping them.
type hashSink struct{}

// Blob implements imagetar.BlobSink.
func (hashSink) Blob(_ string, _ int64, r io.Reader) (imagetar.BlobInfo, error) {
	hash := sha256.New()
	n, err := io.Copy(hash, r)
	return imagetar.BlobInfo{Digest: fmt.Sprintf("sha256:%x", hash.Sum(nil)), Size: n}, err
}
