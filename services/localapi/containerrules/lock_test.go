// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package containerrules

import (
	"maps"

	"gopkg.in/check.v1"
)

var _ = check.Suite(&lockSuite{})

type lockSuite struct{}

func (*lockSuite) TestLocking(c *check.C) {
	is, refusal := changeContainer(c, containerIn(c, Queued), `{"state":"Locked"}`, dispatcher)
	c.Assert(refusal, check.IsNil)
	c.Check(is["locked_by_uuid"], check.Equals, lockToken)
	c.Check(is["lock_count"], check.Equals, int64(1))

	waiting := containerIn(c, Queued)
	waiting["priority"] = int64(0)
	_, refusal = changeContainer(c, waiting, `{"state":"Locked"}`, dispatcher)
	c.Check(lines(refusal), check.Equals, "#<ArvadosModel::LockFailedError: cannot lock when priority<=0>")
	c.Check(refusal.Status, check.Equals, 422)
}

func (*lockSuite) TestUnlocking(c *check.C) {
	locked := containerIn(c, Locked)
	locked["runtime_status"] = map[string]any{"activity": "loading"}
	is, refusal := changeContainer(c, locked, `{"state":"Queued"}`, dispatcher)
	c.Assert(refusal, check.IsNil)
	c.Check(is["locked_by_uuid"], check.IsNil)
	c.Check(is["lock_count"], check.Equals, int64(1))
	c.Check(is["runtime_status"], check.DeepEquals, map[string]any{}) // nothing of the attempt stays

	_, refusal = changeContainer(c, locked, `{"state":"Queued"}`, otherAdmin)
	c.Check(lines(refusal), check.Equals, "#<ArvadosModel::PermissionDeniedError: locked by a different token>")
	c.Check(refusal.Status, check.Equals, 403)

	_, refusal = changeContainer(c, locked, `{"state":"Queued","cost":1.5,"exit_code":null}`, dispatcher)
	c.Check(lines(refusal), check.Equals, "Cost cannot be modified in state 'Queued' (0.0, 1.5)")
}

func (*lockSuite) TestTheLastAttemptCancels(c *check.C) {
	for count, state := range map[int64]string{9: Queued, 10: Cancelled, 11: Cancelled} {
		locked := containerIn(c, Locked)
		locked["lock_count"] = count
		is, refusal := changeContainer(c, locked, `{"state":"Queued"}`, dispatcher)
		c.Assert(refusal, check.IsNil)
		c.Check(is["state"], check.Equals, state)
	}
	locked := containerIn(c, Locked)
	locked["lock_count"] = int64(10)
	is, _ := changeContainer(c, locked, `{"state":"Queued"}`, dispatcher)
	c.Check(asHash(is["runtime_status"])["error"], check.Equals,
		"Failed to start container.  Cancelled after exceeding 'Containers.MaxDispatchAttempts' (lock_count=10)")
	c.Check(is["finished_at"], check.Equals, now)
	c.Check(is["locked_by_uuid"], check.IsNil)
}

func (*lockSuite) TestStarting(c *check.C) {
	is, refusal := changeContainer(c, containerIn(c, Locked), `{"state":"Running","log":"l","gateway_address":""}`, dispatcher)
	c.Assert(refusal, check.IsNil)
	c.Check(is["started_at"], check.Equals, now)
	c.Check(is["locked_by_uuid"], check.Equals, lockToken)

	_, refusal = changeContainer(c, containerIn(c, Locked), `{"state":"Running"}`, otherAdmin)
	c.Check(refusal, check.IsNil)
	_, refusal = changeContainer(c, containerIn(c, Locked), `{"state":"Running","log":"l"}`, otherAdmin)
	c.Check(lines(refusal), check.Equals, `Log cannot be modified in state 'Running' (nil, "l")`)
}

func (*lockSuite) TestSecretsEndWithTheContainer(c *check.C) {
	for state, stays := range map[string]bool{"Running": true, "Complete": false, "Cancelled": false} {
		running := containerIn(c, Running)
		running["secret_mounts"] = map[string]any{"/s": map[string]any{"kind": "text"}}
		running["secret_mounts_md5"] = secretsHash(running["secret_mounts"])
		running["runtime_token"] = "v2/x/y"
		is, refusal := changeContainer(c, running, `{"state":"`+state+`"}`, dispatcher)
		c.Assert(refusal, check.IsNil)
		c.Check(len(asHash(is["secret_mounts"])) == 1, check.Equals, stays)
		c.Check(is["runtime_token"] == "v2/x/y", check.Equals, stays)
		c.Check(is["secret_mounts_md5"], check.Equals, running["secret_mounts_md5"]) // to compare with
		reply := ContainerReply(is)
		for _, secret := range []string{"secret_mounts", "secret_mounts_md5", "runtime_token"} {
			_, shown := reply[secret]
			c.Check(shown, check.Equals, false)
		}
	}
}

func (*lockSuite) TestChangesLeaveTheOldRecordAlone(c *check.C) {
	was := containerIn(c, Queued)
	before := maps.Clone(was)
	_, refusal := changeContainer(c, was, `{"state":"Locked"}`, dispatcher)
	c.Assert(refusal, check.IsNil)
	c.Check(was, check.DeepEquals, before)
}
