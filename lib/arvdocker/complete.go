// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	// completionTime is how long a shell waits for names of images.
	completionTime = 2 * time.Second
	// maxCompletions is how many are offered: nobody looks through more.
	maxCompletions = 100
)

// imageArguments is how many of a command's arguments are images in Keep. Of other
// commands, those that are not here take files.
var imageArguments = map[string]int{
	"images": 1, "inspect": math.MaxInt, "tag": 1, "save": 1, "verify": 1, "history": 1,
	"pull": 0, "push": 0, "migrate": 0, "sync": 0, "doctor": 0,
}

// completeImages lets the shell complete names of images in Keep for the first
// arguments of a command, as many as most says; it asks the cluster. It is
// silent when it cannot, since what it says would be on the command line.
func (p *Program) completeImages(cmd *cobra.Command, most int) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		quiet := *p
		quiet.Stderr = io.Discard
		s, err := quiet.connect(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return s.namesFrom(ctx, start, args), cobra.ShellCompDirectiveNoFileComp
	}
}

// namesFrom are names that start so, but for those given already: as many as are
// found before ctx ends.
func (s *session) namesFrom(ctx context.Context, start string, given []string) []string {
	var names []string
	for image, err := range s.list(ctx, wanted{}) {
		if err != nil {
			break
		}
		for _, name := range image.names {
			if strings.HasPrefix(name, start) && !slices.Contains(given, name) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		if len(names) >= maxCompletions {
			break
		}
	}
	return names
}
