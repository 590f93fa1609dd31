// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"slices"
	"strings"

	"gopkg.in/check.v1"
)

// What a genuine cluster was recorded to answer, this server answers too: in
// testdata/recorded are requests to Arvados main of November 2026 with their
// replies, in the order in which they were made. UUIDs, times, etags,
// signatures and request ids differ; whatever else does is listed with its
// reason.
var _ = check.Suite(&replaySuite{})

type replaySuite struct{ apiSuite }

func (s *replaySuite) replayer(c *check.C) *replayer {
	return &replayer{c: c, server: s.server, ids: map[string]string{}, tokens: map[string]string{
		"root": rootSecret, "admin": admin, "alice": alice, "bob": bob,
	}}
}

func (s *replaySuite) TestCollections(c *check.C) {
	r := s.replayer(c)
	r.after = func(e exchange, reply answer) {
		if e.Label == "filter name + any" {
			// They come by UUID, which is by chance; the recorded ones
			// come by name as well.
			slices.SortFunc(reply.body["items"].([]any), func(a, b any) int {
				return strings.Compare(textOf(a.(map[string]any)["name"]), textOf(b.(map[string]any)["name"]))
			})
		}
	}
	r.check("collections.jsonl", map[string]string{
		"14 filter properties.project != alpha": "lists collections that the genuine cluster had from before",
	})
}
