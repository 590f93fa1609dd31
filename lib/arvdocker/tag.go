// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"fmt"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/spf13/cobra"
)

func (p *Program) tagCommand() *cobra.Command {
	var links string
	var json bool
	cmd := &cobra.Command{
		Use:   "tag [OPTIONS] IMAGE NAME[:TAG]",
		Short: "Give an image in Keep one more name",
		Long: `Give an image in Keep one more name.

IMAGE is a name, a hash or a portable data hash. All other properties of its
collection stay as they are.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			name, err := tagOf("NAME", args[1])
			if err != nil {
				return err
			}
			if err := checkLinks(links); err != nil {
				return err
			}
			s, err := p.connect(ctx)
			if err != nil {
				return err
			}
			r, err := s.tag(ctx, args[0], name, links)
			if err != nil || !json {
				return err
			}
			return printJSON(s.Stdout, r)
		},
	}
	cmd.Flags().BoolVar(&json, "json", false, "print the collection as JSON")
	addLinksFlag(cmd, &links)
	return cmd
}

// tagOf is a name to be given to an image, as docker shows it.
func tagOf(field, text string) (string, error) {
	ref, err := imageref.Parse(text)
	if err != nil {
		return "", err
	}
	if ref.Digest != "" {
		return "", wrong(field, fmt.Errorf("%q has a digest, which is no name", text), "write name:tag")
	}
	return ref.RepoTag(), nil
}

// tag adds the name, and warns if it still means another image.
func (s *session) tag(ctx context.Context, image, name, links string) (*result, error) {
	coll, err := s.ownOrResolved(ctx, image)
	if err != nil {
		return nil, err
	}
	if err := s.addNames(ctx, coll, []string{name}, links); err != nil {
		return nil, err
	}
	s.checkMeaning(ctx, name, coll.PortableDataHash)
	return newResult(*coll), nil
}

// checkMeaning warns if a name means another image than the one with the portable
// data hash: of several images of one name, the one made last is meant.
func (s *session) checkMeaning(ctx context.Context, name, pdh string) {
	meant, err := dockerimage.Resolve(ctx, s.API, name, dockerimage.Policy{Links: true})
	if err == nil && meant.PDH != pdh {
		s.say("warning: %s means collection %s, which has the name too and holds a newer image", name, meant.UUID)
	}
}

// ownOrResolved is the collection to be changed. Several may have one content;
// the user's own is the one that the user can write to.
func (s *session) ownOrResolved(ctx context.Context, image string) (*arvados.Collection, error) {
	if arvados.PDHMatch(image) {
		own, err := s.findImage(ctx,
			arvados.Filter{Attr: "owner_uuid", Operator: "=", Operand: s.user.UUID},
			arvados.Filter{Attr: "portable_data_hash", Operator: "=", Operand: image})
		if own != nil || err != nil {
			return own, err
		}
	}
	found, err := s.resolve(ctx, image)
	if err != nil {
		return nil, err
	}
	return s.collection(ctx, found.UUID)
}
