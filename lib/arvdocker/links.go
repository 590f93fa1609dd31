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
const (
	linksAuto   = "auto"
	linksAlways = "always"
	linksNever  = "never"
)

var linksChoices = []string{linksAuto, linksAlways, linksNever}

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
	if !s.needsLinks(ctx, when) {
		return nil
	}
	return dockerimage.WriteLinks(ctx, s.API, coll)
}

// needsLinks reports whether links are to be written, by the value of --links.
func (s *session) needsLinks(ctx context.Context, when string) bool {
	return when == linksAlways || when == linksAuto && !s.resolvesByProperties(ctx)
}

// resolvesByProperties reports whether the API server says that it finds images
// by the properties of their collections. One that does not answer has not said
// so.
func (s *session) resolvesByProperties(ctx context.Context) bool {
	if s.byProperties == nil {
		var config struct {
			Containers struct{ ResolveImagesByProperties bool }
		}
		yes := s.call(ctx, &config, http.MethodGet, "config", nil) == nil && config.Containers.ResolveImagesByProperties
		s.byProperties = &yes
	}
	return *s.byProperties
}
