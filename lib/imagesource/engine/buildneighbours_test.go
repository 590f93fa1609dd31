// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	check "gopkg.in/check.v1"
)

// Many build from the same files at the same time, and each removes what it has
// made. Nobody fails for that, and nothing is left.
func (s *building) TestConcurrentBuilds(c *check.C) {
	const builders, rounds = 4, 5
	files := map[string]string{"data": newLabel()}
	group, ctx := errgroup.WithContext(context.Background())
	for builder := range builders {
		group.Go(func() error {
			for round := range rounds {
				req := s.request(c, "FROM BASE\nCOPY data /data\nRUN cat /data > /copy\n", files)
				result, err := s.build(ctx, req)
				if err == nil && result.files["copy"] != files["data"] {
					err = fmt.Errorf("/copy is %q", result.files["copy"])
				}
				if err != nil {
					return fmt.Errorf("build %d of builder %d: %w", round, builder, err)
				}
			}
			return nil
		})
	}
	c.Check(group.Wait(), check.IsNil, check.Commentf("%s", s.log()))
}
