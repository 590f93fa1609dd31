// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"errors"
	"fmt"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"github.com/spf13/cobra"
)

func (p *Program) verifyCommand() *cobra.Command {
	var asJSON *bool
	cmd := &cobra.Command{
		Use:   "verify [OPTIONS] IMAGE",
		Short: "Read all of an image in Keep and say what is wrong with it",
		Long: `Read all of an image in Keep and say what is wrong with it: every block, layer,
digest and property is checked. IMAGE is a name, a hash or a portable data hash.
The exit code is 1 if anything is wrong.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			s, err := p.connect(ctx)
			if err != nil {
				return err
			}
			return s.verify(ctx, args[0], *asJSON)
		},
	}
	asJSON = jsonFlag(cmd)
	return cmd
}

// verified is what verify found, as JSON.
type verified struct {
	OK               bool     `json:"ok"`
	Problems         []string `json:"problems"`
	Canonical        bool     `json:"canonical"`
	Collection       string   `json:"collection"`
	PortableDataHash string   `json:"portable_data_hash"`
	Image            string   `json:"image"`
	Platform         string   `json:"platform"`
	Layers           int      `json:"layers"`
	Size             int64    `json:"size"` // of all layers unpacked, in bytes
}

// verify checks one image.
func (s *session) verify(ctx context.Context, name string, asJSON bool) error {
	found, err := s.resolveAnyhow(ctx, name)
	if err != nil {
		return err
	}
	kc, err := s.keep(ctx)
	if err != nil {
		return err
	}
	s.now("reading collection " + found.UUID)
	report, err := dockerimage.Validate(ctx, kc, found.ManifestText, found.Properties)
	s.done()
	if err != nil {
		return err
	}
	if found.Properties.PDH == "" {
		s.say("collection %s does not say what it was when it was made, so that a change cannot be seen", found.UUID)
	}
	if asJSON {
		err = printJSON(s.Stdout, verified{report.OK(), append([]string{}, report.Problems...), report.Canonical,
			found.UUID, report.PDH, report.ConfigDigest, report.Platform, report.Layers, report.Size})
	} else if report.OK() {
		_, err = fmt.Fprintf(s.Stdout, "%s: OK, %s for %s, %d layers, %s unpacked\n",
			found.UUID, hashOf(found), report.Platform, report.Layers, builtin.Size(report.Size))
	} else {
		for _, problem := range report.Problems {
			fmt.Fprintf(s.Stdout, "%s: %s\n", found.UUID, problem)
		}
	}
	if err != nil || report.OK() {
		return err
	}
	return &fault.Error{Op: "verify", Side: fault.Request, Subject: name,
		Err: errors.New("it is not in order"), Hint: "do not run it; store the image again"}
}

// resolveAnyhow is resolve, but takes a collection that cannot pass as the
// image, if there is no other one: this is what is to be looked at.
func (s *session) resolveAnyhow(ctx context.Context, name string) (dockerimage.Found, error) {
	found, err := s.resolve(ctx, name)
	if err != nil && len(found.PassedOver) > 0 {
		return found.PassedOver[0].Found, nil
	}
	return found.Found, err
}
