// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import "gopkg.in/check.v1"

var _ = check.Suite(&frozenSuite{})

type frozenSuite struct{ workSuite }

func groupPath(rec Record) string { return "groups/" + textOf(rec["uuid"]) }

func project(name string, owner any) Record {
	attrs := Record{"group_class": "project", "name": name}
	if owner != nil {
		attrs["owner_uuid"] = owner
	}
	return attrs
}

// In a frozen project and below it nothing changes, whoever asks; it can be read
// and unfrozen.
func (suite *frozenSuite) TestNothingChanges(c *check.C) {
	s := suite.workplace(c)
	top := s.post(s.alice, "groups", project("top", nil))
	below := s.post(s.alice, "groups", project("below", top["uuid"]))
	coll := s.collection(s.alice, outputText, Record{"owner_uuid": below["uuid"]})
	path := "collections/" + textOf(coll["uuid"])
	request := s.submit(s.alice, Record{"owner_uuid": below["uuid"], "state": "Uncommitted"})
	s.patch(s.alice, groupPath(top), Record{"frozen_by_uuid": s.aliceUUID})

	for _, who := range []client{s.alice, s.admin} {
		s.refused(403, "PermissionDeniedError", who, "PATCH", path, Record{"name": "new"})
		s.refused(403, "PermissionDeniedError", who, "PATCH", path, Record{"owner_uuid": s.aliceUUID})
		s.refused(403, "PermissionDeniedError", who, "DELETE", path, nil)
		s.refused(403, "PermissionDeniedError", who, "POST", "collections", Record{"owner_uuid": below["uuid"]})
		s.refused(403, "PermissionDeniedError", who, "POST", "groups", project("more", top["uuid"]))
		s.refused(403, "PermissionDeniedError", who, "PATCH", groupPath(top), Record{"name": "new"})
		s.refused(403, "PermissionDeniedError", who, "DELETE", groupPath(top), nil)
		s.refused(403, "PermissionDeniedError", who, "POST", "links", Record{"link_class": "tag", "name": "x", "owner_uuid": top["uuid"]})
		s.refused(403, "PermissionDeniedError", who, "POST", "container_requests", s.request(Record{"owner_uuid": top["uuid"]}))
		s.refused(403, "PermissionDeniedError", who, "PATCH", "container_requests/"+textOf(request["uuid"]), Record{"state": "Committed"})
		s.get(who, path)
		c.Check(s.get(who, groupPath(below))["can_write"], check.Equals, false)
		c.Check(s.get(who, groupPath(below))["can_manage"], check.Equals, true)
	}
	// It lies in a frozen one, which is what to unfreeze.
	s.refused(403, "PermissionDeniedError", s.alice, "PATCH", groupPath(below), Record{"frozen_by_uuid": s.aliceUUID})

	s.patch(s.alice, groupPath(top), Record{"frozen_by_uuid": nil})
	s.patch(s.alice, path, Record{"name": "new"})
	c.Check(s.get(s.alice, groupPath(below))["can_write"], check.Equals, true)
}

func (suite *frozenSuite) TestWhoMayFreezeWhat(c *check.C) {
	s := suite.workplace(c)
	mine := s.post(s.alice, "groups", project("mine", nil))
	role := s.post(s.admin, "groups", Record{"group_class": "role", "name": "role"})
	s.refused(422, "can only be set to the current user's UUID", s.alice, "PATCH", groupPath(mine), Record{"frozen_by_uuid": s.bobUUID})
	s.refused(422, "non-project group", s.admin, "PATCH", groupPath(role), Record{"frozen_by_uuid": s.get(s.admin, "users/current")["uuid"]})
	s.post(s.alice, "links", Record{"link_class": "permission", "name": "can_write", "tail_uuid": s.bobUUID, "head_uuid": mine["uuid"]})
	s.refused(403, "PermissionDeniedError", s.bob, "PATCH", groupPath(mine), Record{"frozen_by_uuid": s.bobUUID})
	s.patch(s.alice, groupPath(mine), Record{"frozen_by_uuid": s.aliceUUID})
	s.refused(403, "PermissionDeniedError", s.bob, "PATCH", groupPath(mine), Record{"frozen_by_uuid": nil})
	// Empty means nobody.
	c.Check(s.patch(s.alice, groupPath(mine), Record{"frozen_by_uuid": ""})["frozen_by_uuid"], check.IsNil)
	s.refused(422, "trashed project", s.alice, "PATCH", groupPath(mine), Record{"is_trashed": true, "frozen_by_uuid": s.aliceUUID})
}

// A request whose project is frozen meanwhile ends without results.
func (suite *frozenSuite) TestRequestUnderWay(c *check.C) {
	s := suite.workplace(c)
	top := s.post(s.alice, "groups", project("top", nil))
	request := s.submit(s.alice, Record{"owner_uuid": top["uuid"]})
	container := s.containerOf(request)
	s.start(container)
	s.patch(s.alice, groupPath(top), Record{"frozen_by_uuid": s.aliceUUID})
	s.collection(s.root, logText, nil)
	s.set(container, Record{"log": logHash})
	final := s.finish(request, nil)
	c.Check(final["state"], check.Equals, "Final")
	c.Check(final["output_uuid"], check.IsNil)
	c.Check(final["log_uuid"], check.IsNil)
	c.Check(s.list(s.root, "collections", []any{"owner_uuid", "=", top["uuid"]}), check.HasLen, 0)
}
