// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/spf13/cobra"
)

// Values of --links.
var linksChoices = []string{"auto", "always", "never"}

func addLinksFlag(cmd *cobra.Command, value *string) {
	cmd.Flags().StringVar(value, "links", linksChoices[0],
		"write the links by which older API servers find images: auto (unless this one finds them by properties), always or never")
	_ = cmd.RegisterFlagCompletionFunc("links", cobra.FixedCompletions(linksChoices, cobra.ShellCompDirectiveNoFileComp)) // fails if there is no such flag
}

// checkLinks refuses what --links cannot be.
func checkLinks(value string) error {
	if !slices.Contains(linksChoices, value) {
		return wrong("--links", fmt.Errorf("%q is not allowed", value), "write auto, always or never")
	}
	return nil
}

// writeLinks makes the links of an image collection that are not there yet, with
// the user's token. They belong to whoever the collection belongs to.
func (s *session) writeLinks(ctx context.Context, coll arvados.Collection, when string) error {
	if when == "never" || when == "auto" && s.resolvesByProperties(ctx) {
		return nil
	}
	links := dockerimage.ParseProperties(coll.Properties).Links()
	var classes []string
	for _, link := range links {
		if !slices.Contains(classes, link.LinkClass) {
			classes = append(classes, link.LinkClass)
		}
	}
	var there arvados.LinkList
	limit := 1000
	err := s.call(ctx, &there, http.MethodGet, "links", arvados.ResourceListParams{
		Filters: []arvados.Filter{
			{Attr: "head_uuid", Operator: "=", Operand: coll.UUID},
			{Attr: "link_class", Operator: "in", Operand: classes},
		},
		Select: []string{"link_class", "name"},
		Limit:  &limit,
		Count:  "none",
	})
	if err != nil {
		return err
	}
	for _, link := range links {
		if slices.ContainsFunc(there.Items, func(l arvados.Link) bool { return l.LinkClass == link.LinkClass && l.Name == link.Name }) {
			continue
		}
		err := s.call(ctx, nil, http.MethodPost, "links", attrs{"link": attrs{
			"owner_uuid": coll.OwnerUUID,
			"link_class": link.LinkClass,
			"name":       link.Name,
			"head_uuid":  coll.UUID,
			"properties": link.Properties,
		}})
		if err != nil {
			return fmt.Errorf("image %s is in collection %s, but its link %q cannot be written: %w", coll.PortableDataHash, coll.UUID, link.Name, err)
		}
	}
	return nil
}

// resolvesByProperties reports whether the API server says that it finds images
// by the properties of their collections. One that does not answer has not said
// so.
func (s *session) resolvesByProperties(ctx context.Context) bool {
	var config struct {
		Containers struct{ ResolveImagesByProperties bool }
	}
	return s.call(ctx, &config, http.MethodGet, "config", nil) == nil && config.Containers.ResolveImagesByProperties
}
