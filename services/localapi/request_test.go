// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"strings"
	"sync"
	"time"

	"gopkg.in/check.v1"
)

var _ = check.Suite(&requestSuite{})

type requestSuite struct{ workSuite }

func (suite *requestSuite) TestFromDraftToEnd(c *check.C) {
	s := suite.workplace(c)
	request := s.submit(s.alice, Record{"state": "Uncommitted", "container_image": "no/such:image"})
	path := "container_requests/" + textOf(request["uuid"])
	c.Check(request["container_uuid"], check.IsNil)
	c.Check(request["container_count"], check.Equals, int64(0))
	s.patch(s.alice, path, Record{"command": []string{"true"}, "output_properties": Record{"a": "b"}})

	s.refused(422, `docker image "no/such:image" not found`, s.alice, "PATCH", path, Record{"state": "Committed"})
	c.Check(s.get(s.alice, path)["state"], check.Equals, "Uncommitted")
	committed := s.patch(s.alice, path, Record{"state": "Committed", "container_image": s.image})
	c.Check(committed["container_count"], check.Equals, int64(1))
	c.Check(s.containerOf(request)["command"], check.DeepEquals, []any{"true"})
	s.refused(422, "State cannot change from Committed to Uncommitted", s.alice, "PATCH", path, Record{"state": "Uncommitted"})

	final := s.finish(request, nil)
	c.Check(final["state"], check.Equals, "Final")
	s.patch(s.alice, path, Record{"properties": Record{"p": "after"}})
	s.refused(422, `Priority cannot be modified in state 'Final' \(500, 1\)`, s.alice, "PATCH", path, Record{"priority": 1})
}

func (suite *requestSuite) TestRequestsBelongToTheirOwners(c *check.C) {
	s := suite.workplace(c)
	path := "container_requests/" + textOf(s.submit(s.alice, nil)["uuid"])
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		s.refused(404, "Path not found", s.bob, method, path, nil)
	}
	project := s.post(s.bob, "groups", Record{"group_class": "project", "name": "bob's"})
	s.refused(403, "PermissionDeniedError", s.alice, "PATCH", path, Record{"owner_uuid": s.bobUUID})
	s.refused(422, "Owner uuid '"+textOf(project["uuid"])+"' not found", s.alice, "PATCH", path, Record{"owner_uuid": project["uuid"]})
	s.refused(403, "PermissionDeniedError", s.alice, "POST", "container_requests", s.request(Record{"owner_uuid": s.bobUUID}))

	shared := textOf(s.submit(s.root, Record{"owner_uuid": s.sharedProject()})["uuid"])
	s.get(s.alice, "container_requests/"+shared)
	s.refused(403, "PermissionDeniedError", s.alice, "PATCH", "container_requests/"+shared, Record{"priority": 1})
	s.refused(403, "PermissionDeniedError", s.alice, "DELETE", "container_requests/"+shared, nil)
}

// Which values reach a program in Go as they should is controller's to say.
func (suite *requestSuite) TestValuesThatControllerCannotRead(c *check.C) {
	s := suite.workplace(c)
	before := len(s.list(s.root, "containers"))
	for _, trial := range []struct {
		attrs   Record
		pattern string
	}{
		{Record{"properties": []string{"x"}}, `unexpected properties type \[\]interface \{\}`},
		{Record{"runtime_constraints": Record{"vcpus": 1, "ram": 1, "API": "yes"}}, `cannot unmarshal string .* of type bool`},
		{Record{"runtime_constraints": Record{"vcpus": 1, "ram": 1, "keep_cache_ram": "much"}}, `cannot unmarshal string .* of type int64`},
	} {
		s.refused(500, trial.pattern, s.alice, "POST", "container_requests", s.request(trial.attrs))
	}
	c.Check(s.list(s.root, "containers"), check.HasLen, before)
	c.Check(s.list(s.root, "container_requests"), check.HasLen, 0)
}

func (suite *requestSuite) TestInputsByUUID(c *check.C) {
	s := suite.workplace(c)
	input := s.collection(s.alice, outputText, nil)
	mounts := Record{"/out": Record{"kind": "tmp"}, "/in": Record{"kind": "collection", "uuid": input["uuid"]}}
	container := s.containerOf(s.submit(s.alice, Record{"mounts": mounts}))
	c.Check(container["mounts"], check.DeepEquals, map[string]any{
		"/out": map[string]any{"kind": "tmp"}, "/in": map[string]any{"kind": "collection", "portable_data_hash": outputHash}})
	s.refused(422, `cannot mount collection "`+textOf(input["uuid"])+`": not found`, s.bob, "POST", "container_requests", s.request(Record{"mounts": mounts}))
}

func (suite *requestSuite) TestOutputCollections(c *check.C) {
	s := suite.workplace(c)
	s.collection(s.alice, outputText, Record{"name": "taken"})
	request := s.finish(s.submit(s.alice, Record{"output_name": "taken", "output_ttl": 3600, "output_storage_classes": []string{"archive"}}), nil)
	saved := s.get(s.alice, "collections/"+textOf(request["output_uuid"]))
	uuid := textOf(saved["uuid"])
	c.Check(saved["name"], check.Equals, "taken ("+uuid[len(uuid)-15:]+")")
	c.Check(saved["storage_classes_desired"], check.DeepEquals, []any{"archive"})
	trashAt, err := time.Parse(timeFormat, textOf(saved["trash_at"]))
	c.Assert(err, check.IsNil)
	finished, err := time.Parse(timeFormat, textOf(s.containerOf(request)["finished_at"]))
	c.Assert(err, check.IsNil)
	c.Check(trashAt.Sub(finished), check.Equals, time.Hour)
	log := s.get(s.alice, "collections/"+textOf(request["log_uuid"]))
	c.Check(log["trash_at"], check.IsNil) // only output is thrown away

	named := s.finish(s.submit(s.alice, Record{"output_name": "no/file/name"}), nil)
	c.Check(s.get(s.alice, "collections/"+textOf(named["output_uuid"]))["name"], check.Equals, "Container output for request "+textOf(named["uuid"]))
}

func (suite *requestSuite) TestWhatComesOfFailures(c *check.C) {
	s := suite.workplace(c)
	failed := s.finish(s.submit(s.alice, nil), Record{"exit_code": 1})
	c.Check(failed["state"], check.Equals, "Final")
	c.Check(failed["output_uuid"], check.NotNil) // whatever the command has left

	nothing := s.submit(s.alice, nil)
	s.start(s.containerOf(nothing))
	s.collection(s.root, logText, nil)
	s.set(s.containerOf(nothing), Record{"state": "Complete", "exit_code": 2, "log": logHash, "runtime_status": Record{"error": "wrong request"}})
	nothing = s.reload(nothing)
	c.Check(nothing["output_uuid"], check.IsNil)
	c.Check(nothing["log_uuid"], check.NotNil)
}

func (suite *requestSuite) TestNothingIsMadeInTrashedProjects(c *check.C) {
	s := suite.workplace(c)
	project := s.post(s.alice, "groups", Record{"group_class": "project", "name": "doomed"})
	request := s.submit(s.alice, Record{"owner_uuid": project["uuid"]})
	container := s.containerOf(request)
	s.start(container)
	s.collection(s.root, outputText, nil)
	s.alice.must("DELETE", "groups/"+textOf(project["uuid"]), nil)
	s.set(container, Record{"state": "Cancelled", "output": outputHash})
	c.Check(s.list(s.root, "collections?include_trash=true", []any{"owner_uuid", "=", project["uuid"]}), check.HasLen, 0)
	c.Check(s.list(s.root, "containers", []any{"state", "=", "Queued"}), check.HasLen, 0) // nor tried again
}

func (suite *requestSuite) TestPriority(c *check.C) {
	s := suite.workplace(c)
	request := s.submit(s.alice, Record{"priority": 0})
	path := "container_requests/" + textOf(request["uuid"])
	container := s.containerOf(request)
	c.Check(container["priority"], check.Equals, int64(0))
	s.refused(422, "cannot lock when priority<=0", s.root, "POST", "containers/"+textOf(container["uuid"])+"/lock", nil)

	s.patch(s.alice, path, Record{"priority": 1})
	low := s.reload(container)["priority"].(int64)
	s.patch(s.alice, path, Record{"priority": 2})
	high := s.reload(container)["priority"].(int64)
	c.Check(0 < low && low < high, check.Equals, true)

	s.start(container)
	s.patch(s.alice, path, Record{"priority": 0})
	c.Check(s.reload(container)["priority"], check.Equals, int64(0))
	c.Check(s.reload(container)["state"], check.Equals, "Running") // until the dispatcher sees it
	s.set(container, Record{"state": "Cancelled"})
	request = s.reload(request)
	c.Check(request["state"], check.Equals, "Final")
	c.Check(request["container_count"], check.Equals, int64(1)) // nobody wants it tried again
}

func (suite *requestSuite) TestGivingUp(c *check.C) {
	s := suite.workplace(c)
	for _, giveUp := range []func(path string){
		func(path string) { s.patch(s.alice, path, Record{"state": "Final"}) },
		func(path string) { s.alice.must("DELETE", path, nil) },
	} {
		request := s.submit(s.alice, nil)
		container := s.containerOf(request)
		giveUp("container_requests/" + textOf(request["uuid"]))
		c.Check(s.reload(container)["priority"], check.Equals, int64(0))
	}
	request := s.submit(s.alice, nil)
	path := "container_requests/" + textOf(request["uuid"])
	s.refused(422, "Container uuid can only be updated to nil.", s.alice, "PATCH", path, Record{"container_uuid": s.containerOf(s.submit(s.bob, nil))["uuid"]})
	left := s.patch(s.alice, path, Record{"container_uuid": nil})
	c.Check(left["state"], check.Equals, "Final")
}

func (suite *requestSuite) TestRuntimeTokens(c *check.C) {
	s := suite.workplace(c)
	s.refused(422, "Runtime token failed validation", s.alice, "POST", "container_requests", s.request(Record{"runtime_token": "v2/zzzzz-gj3su-000000000000000/xxxx"}))
	request := s.submit(s.alice, Record{"runtime_token": bob})
	c.Check(request["runtime_token"], check.Equals, "")
	itself := s.start(s.containerOf(request))
	c.Check(s.get(itself, "users/current")["uuid"], check.Equals, s.bobUUID)
	s.finish(request, nil)
	s.get(s.bob, "users/current") // his own token goes on
	c.Check(s.databaseHas(strings.Split(bob, "/")[2]+`"`), check.Equals, true)
	for _, rec := range []string{containers, containerRequests} {
		c.Check(s.tableHas(rec, strings.Split(bob, "/")[2]), check.Equals, false)
	}
}

func (suite *requestSuite) TestWorkflowRunnersAreSupervisors(c *check.C) {
	s := suite.workplace(c)
	request := s.submit(s.alice, Record{"command": []string{"arvados-cwl-runner", "--local"}})
	for _, rec := range []Record{request, s.containerOf(request)} {
		c.Check(rec["scheduling_parameters"].(map[string]any)["supervisor"], check.Equals, true)
	}
}

func (suite *requestSuite) TestAllWaysToSendARequest(c *check.C) {
	s := suite.workplace(c)
	flat := s.request(nil)
	text, err := encodeJSON(flat)
	c.Assert(err, check.IsNil)
	for _, body := range []Record{flat, {"container_request": flat}, {"container_request": string(text)}} {
		c.Check(s.post(s.alice, "container_requests", body)["command"], check.DeepEquals, []any{"echo", "hi"})
	}
	selected := s.post(s.alice, "container_requests", Record{"container_request": flat, "select": []string{"uuid", "state"}})
	c.Check(selected["state"], check.Equals, "Committed")
	_, shown := selected["command"]
	c.Check(shown, check.Equals, false)
	c.Check(s.list(s.alice, "container_requests", []any{"state", "=", "Committed"}, []any{"name", "=", nil}), check.HasLen, 4)
	c.Check(s.list(s.bob, "container_requests"), check.HasLen, 0)
}

func (suite *requestSuite) TestCommittingAtTheSameTime(c *check.C) {
	s := suite.workplace(c)
	same := s.request(Record{"use_existing": true})
	var got [8]answer
	var wait sync.WaitGroup
	for i := range got {
		wait.Add(1)
		go func() {
			defer wait.Done()
			got[i] = []client{s.alice, s.bob}[i%2].do("POST", "container_requests", same)
		}()
	}
	wait.Wait()
	for _, reply := range got {
		c.Check(reply.status, check.Equals, 200)
		c.Check(reply.body["container_uuid"], check.Equals, got[0].body["container_uuid"])
	}
	c.Check(s.list(s.root, "containers"), check.HasLen, 1)
}
