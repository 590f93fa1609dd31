// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package dockerimage

import (
	"errors"
	"fmt"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	check "gopkg.in/check.v1"
)

var _ = check.Suite(&twinsSuite{})

type twinsSuite struct{}

func (*twinsSuite) TestWithTwins(c *check.C) {
	raw := map[string]interface{}{KeyHash: "h", KeyTimestamp: "t", KeyRepoTag: "a:1", KeyMarker: "1", "mine": "m"}
	refusal := func(status int, text string) error {
		return fmt.Errorf("wrapped: %w", &arvados.TransactionError{StatusCode: status, Errors: []string{text}})
	}
	for _, trial := range []struct {
		raw  map[string]interface{}
		err  error
		want bool
	}{
		{raw, refusal(400, `tag key "docker-image-hash" is not defined in the vocabulary`), true},
		{raw, refusal(400, `tag key "docker-image-timestamp" is not defined in the vocabulary`), true},
		{raw, refusal(400, `tag key "mine" is not defined in the vocabulary`), false},
		{raw, refusal(400, `tag key "arv:docker-image-hash" is not defined`), false},
		{raw, refusal(422, `tag key "docker-image-hash" is not defined in the vocabulary`), false},
		{raw, errors.New(`tag key "docker-image-hash" is not defined in the vocabulary`), false},
		{map[string]interface{}{"mine": "m"}, refusal(400, `tag key "docker-image-hash" is not defined in the vocabulary`), false},
	} {
		got, ok := WithTwins(trial.raw, trial.err)
		c.Check(ok, check.Equals, trial.want, check.Commentf("%v", trial.err))
		c.Check(RefusesKeys(trial.err), check.Equals, trial.want || len(trial.raw) == 1, check.Commentf("%v", trial.err))
		if ok {
			c.Check(got, check.DeepEquals, map[string]interface{}{
				Twin + KeyHash: "h", Twin + KeyTimestamp: "t", KeyRepoTag: "a:1", KeyMarker: "1", "mine": "m"})
			c.Check(trial.raw, check.HasLen, 5) // it is another map
		}
	}
	c.Check(ParseProperties(map[string]interface{}{Twin + KeyHash: "h"}).Hash, check.Equals, "h")
}
