// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"strings"

	"gopkg.in/check.v1"
)

var _ = check.Suite(&reuseSuite{})

type reuseSuite struct{ workSuite }

func (suite *reuseSuite) TestTheSameAgainRunsNothing(c *check.C) {
	s := suite.workplace(c)
	again := Record{"use_existing": true, "output_properties": Record{"own": "1"}}
	first := s.finish(s.submit(s.alice, again), Record{"cost": 5, "output_properties": Record{"made": "1"}})

	second := s.submit(s.alice, Record{"use_existing": true, "output_properties": Record{"own": "2"}, "output_name": "again"})
	c.Check(second["state"], check.Equals, "Final") // at once
	c.Check(second["container_uuid"], check.Equals, first["container_uuid"])
	c.Check(second["cumulative_cost"], check.Equals, int64(0)) // somebody else has paid
	c.Check(second["output_uuid"], check.Not(check.Equals), first["output_uuid"])
	output := s.get(s.alice, "collections/"+textOf(second["output_uuid"]))
	c.Check(output["name"], check.Equals, "again")
	c.Check(output["properties"], check.DeepEquals, map[string]any{
		"container_request": second["uuid"], "type": "output", "made": "1", "own": "2"})

	c.Check(s.submit(s.alice, nil)["container_uuid"], check.Not(check.Equals), first["container_uuid"]) // use_existing is false
}

// experiments.md 1: whoever asks for the same gets the same, log and all.
func (suite *reuseSuite) TestOthersAreGivenTheSame(c *check.C) {
	s := suite.workplace(c)
	first := s.finish(s.submit(s.alice, nil), nil)
	s.refused(404, "Path not found", s.bob, "GET", "collections/"+textOf(first["output_uuid"]), nil)
	second := s.submit(s.bob, Record{"use_existing": true})
	c.Check(second["container_uuid"], check.Equals, first["container_uuid"])
	c.Check(s.get(s.bob, "collections/"+textOf(second["output_uuid"]))["portable_data_hash"], check.Equals, outputHash)
	c.Check(s.get(s.bob, "collections/"+textOf(second["log_uuid"]))["owner_uuid"], check.Equals, s.bobUUID)
}

func (suite *reuseSuite) TestWhatIsNotSharedAgain(c *check.C) {
	s := suite.workplace(c)
	shares := func(attrs Record) bool {
		attrs["use_existing"] = true
		request := s.submit(s.alice, attrs)
		defer s.alice.must("DELETE", "container_requests/"+textOf(request["uuid"]), nil)
		return request["state"] == "Final"
	}
	first := s.finish(s.submit(s.alice, nil), nil)
	c.Check(shares(Record{}), check.Equals, true)
	c.Check(shares(Record{"command": []string{"other"}}), check.Equals, false)
	c.Check(shares(Record{"environment": Record{"A": "b"}}), check.Equals, false)
	c.Check(shares(Record{"secret_mounts": Record{"/s": Record{"kind": "text", "content": "x"}}}), check.Equals, false)

	failed := Record{"command": []string{"false"}}
	s.finish(s.submit(s.alice, failed), Record{"exit_code": 1})
	c.Check(shares(failed), check.Equals, false)

	// Results that all are in the trash are gone.
	for _, collection := range s.list(s.root, "collections", []any{"portable_data_hash", "=", outputHash}) {
		s.root.must("DELETE", "collections/"+textOf(collection["uuid"]), nil)
	}
	c.Check(s.reload(first)["state"], check.Equals, "Final")
	c.Check(shares(Record{}), check.Equals, false)
}

func (suite *reuseSuite) TestWaitingForAContainerOfOthers(c *check.C) {
	s := suite.workplace(c)
	first := s.submit(s.alice, Record{"priority": 1})
	container := s.containerOf(first)
	low := container["priority"].(int64)
	second := s.submit(s.bob, Record{"use_existing": true, "priority": 2})
	c.Check(second["container_uuid"], check.Equals, first["container_uuid"])
	c.Check(s.reload(container)["priority"].(int64) > low, check.Equals, true) // the highest counts
	s.alice.must("PATCH", "container_requests/"+textOf(first["uuid"]), Record{"priority": 0})
	c.Check(s.reload(container)["priority"].(int64) > low, check.Equals, true) // he still waits
	s.get(s.bob, "containers/"+textOf(container["uuid"]))

	s.finish(first, Record{"cost": 2})
	for _, request := range []Record{first, second} {
		request = s.reload(request)
		c.Check(request["state"], check.Equals, "Final")
		c.Check(request["cumulative_cost"], check.Equals, int64(2))
		c.Check(request["output_uuid"], check.NotNil)
	}
}

func (suite *reuseSuite) TestTryingAgain(c *check.C) {
	s := suite.workplace(c)
	request := s.submit(s.alice, Record{"environment": Record{"A": "b"}})
	var tried []string
	for attempt, log := range []string{logText, moreLog, logText} {
		container := s.containerOf(request)
		tried = append(tried, textOf(container["uuid"]))
		c.Check(container["state"], check.Equals, "Queued")
		c.Check(container["environment"], check.DeepEquals, map[string]any{"A": "b"})
		c.Check(container["priority"].(int64) > 0, check.Equals, true)
		c.Check(s.reload(request)["container_count"], check.Equals, int64(attempt+1))
		s.start(container)
		s.collection(s.root, outputText, nil)
		hash := s.collection(s.root, log, nil)["portable_data_hash"]
		s.set(container, Record{"log": hash, "cost": 1, "output": outputHash})
		s.set(container, Record{"state": "Cancelled"})
	}
	request = s.reload(request)
	c.Check(request["state"], check.Equals, "Final")
	c.Check(request["container_count"], check.Equals, int64(3))
	c.Check(request["cumulative_cost"], check.Equals, int64(3))
	c.Check(request["output_uuid"], check.NotNil)
	c.Check(s.list(s.root, "containers"), check.HasLen, 3)

	log := textOf(s.get(s.alice, "collections/"+textOf(request["log_uuid"]))["manifest_text"])
	for _, uuid := range tried {
		c.Check(strings.Count(log, `./log\040for\040container\040`+uuid+" "), check.Equals, 1)
	}
	c.Check(strings.HasPrefix(log, ". "), check.Equals, true) // the last one's on top
}

func (suite *reuseSuite) TestNotTryingAgain(c *check.C) {
	s := suite.workplace(c)
	once := s.submit(s.alice, Record{"container_count_max": 1})
	s.set(s.containerOf(once), Record{"state": "Cancelled"})
	c.Check(s.reload(once)["state"], check.Equals, "Final")

	// Of two who wait for one container, one wants it tried again.
	first := s.submit(s.alice, Record{"command": []string{"x"}, "container_count_max": 1})
	second := s.submit(s.bob, Record{"command": []string{"x"}, "use_existing": true})
	s.set(s.containerOf(first), Record{"state": "Cancelled"})
	c.Check(s.reload(first)["state"], check.Equals, "Final")
	second = s.reload(second)
	c.Check(second["state"], check.Equals, "Committed")
	c.Check(second["container_uuid"], check.Not(check.Equals), first["container_uuid"])
	c.Check(s.containerOf(second)["state"], check.Equals, "Queued")
}

func (suite *reuseSuite) TestRequestsByContainers(c *check.C) {
	s := suite.workplace(c)
	parent := s.submit(s.alice, Record{"priority": 7})
	container := s.containerOf(parent)
	itself := s.start(container)
	child := s.submit(itself, Record{"command": []string{"child"}, "priority": 3, "output_name": "part"})
	c.Check(child["requesting_container_uuid"], check.Equals, container["uuid"])
	c.Check(child["priority"], check.Equals, int64(7)) // the parent's
	c.Check(s.containerOf(child)["priority"], check.Equals, s.reload(container)["priority"])

	child = s.finish(child, Record{"cost": 2})
	c.Check(s.reload(container)["subrequests_cost"], check.Equals, int64(2))
	properties := s.get(s.alice, "collections/"+textOf(child["output_uuid"]))["properties"].(map[string]any)
	c.Check(properties["type"], check.Equals, "intermediate")
	parent = s.finish(parent, Record{"cost": 1})
	c.Check(parent["cumulative_cost"], check.Equals, int64(3))
}

func (suite *reuseSuite) TestPriorityIsInherited(c *check.C) {
	s := suite.workplace(c)
	parent := s.submit(s.alice, nil)
	itself := s.start(s.containerOf(parent))
	child := s.submit(itself, Record{"command": []string{"child"}})
	grandchild := s.submit(s.start(s.containerOf(child)), Record{"command": []string{"grandchild"}})
	path := "container_requests/" + textOf(parent["uuid"])
	for _, priority := range []int64{900, 0, 1} {
		s.patch(s.alice, path, Record{"priority": priority})
		now := s.containerOf(parent)["priority"]
		c.Check(now.(int64) > 0, check.Equals, priority > 0)
		c.Check(s.containerOf(child)["priority"], check.Equals, now)
		c.Check(s.containerOf(grandchild)["priority"], check.Equals, now)
	}
}

func (suite *reuseSuite) TestChildrenEndWithTheirParent(c *check.C) {
	s := suite.workplace(c)
	parent := s.submit(s.alice, nil)
	itself := s.start(s.containerOf(parent))
	waiting := s.submit(itself, Record{"command": []string{"waiting"}})
	running := s.submit(itself, Record{"command": []string{"running"}})
	s.start(s.containerOf(running))
	s.finish(parent, nil)

	c.Check(s.reload(waiting)["state"], check.Equals, "Final")
	c.Check(s.reload(running)["state"], check.Equals, "Committed") // until its container is cancelled
	for _, child := range []Record{waiting, running} {
		c.Check(s.reload(child)["priority"], check.Equals, int64(0))
		c.Check(s.containerOf(child)["priority"], check.Equals, int64(0))
	}
	s.set(s.containerOf(running), Record{"state": "Cancelled"})
	c.Check(s.reload(running)["state"], check.Equals, "Final")
	c.Check(s.list(s.root, "containers", []any{"state", "=", "Queued"}), check.HasLen, 1) // no more of it
}
