// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"strings"
	"sync"

	"gopkg.in/check.v1"
)

var _ = check.Suite(&containerSuite{})

type containerSuite struct{ workSuite }

// The calls of crunch-run, in its order (crunch-run 3, api-observed 7).
func (suite *containerSuite) TestARun(c *check.C) {
	s := suite.workplace(c)
	request := s.submit(s.alice, Record{"name": "run", "output_name": "out of it",
		"output_properties": Record{"from_cr": "1", "both": "cr"}})
	c.Check(request["state"], check.Equals, "Committed")
	container := s.containerOf(request)
	c.Check(container["state"], check.Equals, "Queued")
	c.Check(container["container_image"], check.Equals, s.image)
	c.Check(container["runtime_user_uuid"], check.Equals, s.aliceUUID)
	c.Check(container["priority"].(int64) > 500<<49, check.Equals, true)
	path := "containers/" + textOf(container["uuid"])

	s.refused(403, "Not locked by your token", s.root, "GET", path+"/auth", nil)
	locked := s.post(s.root, path+"/lock", nil)
	c.Check(locked["locked_by_uuid"], check.Equals, rootToken(cluster))
	c.Check(locked["state"], check.Equals, "Locked")
	s.refused(422, "LockFailedError: cannot lock when Locked", s.root, "POST", path+"/lock", nil)
	s.refused(403, "Not locked by your token", s.admin, "GET", path+"/auth", nil)
	auth := s.get(s.root, path+"/auth")
	token := s.as("v2/" + textOf(auth["uuid"]) + "/" + textOf(auth["api_token"]) + "/" + textOf(container["uuid"]))

	c.Check(s.get(token, "users/current")["uuid"], check.Equals, s.aliceUUID)
	c.Check(s.get(token, "containers/current")["uuid"], check.Equals, container["uuid"])
	c.Check(s.get(token, path+"/secret_mounts")["secret_mounts"], check.DeepEquals, map[string]any{})
	s.collection(s.root, logText, nil)
	running := s.set(container, Record{"state": "Running", "log": logHash, "gateway_address": ""})
	c.Check(running["started_at"], check.NotNil)
	c.Check(s.reload(request)["log_uuid"], check.NotNil) // while it runs

	s.set(container, Record{"exit_code": 0})
	s.set(container, Record{"runtime_status": Record{"activity": "working"}})
	output := s.post(token, "collections", Record{"manifest_text": outputText, "is_trashed": true, "name": "output"})
	c.Check(output["portable_data_hash"], check.Equals, outputHash)
	final := s.set(container, Record{"state": "Complete", "exit_code": 0, "output": outputHash, "log": logHash, "cost": 0.75,
		"output_properties": Record{"from_container": "1", "both": "container"}})
	c.Check(final["finished_at"], check.NotNil)
	c.Check(final["locked_by_uuid"], check.IsNil)
	c.Check(final["auth_uuid"], check.IsNil)

	s.refused(401, "Not logged in", token, "GET", "users/current", nil)
	request = s.get(s.alice, "container_requests/"+textOf(request["uuid"]))
	c.Check(request["state"], check.Equals, "Final")
	c.Check(request["cumulative_cost"], check.Equals, 0.75)
	saved := s.get(s.alice, "collections/"+textOf(request["output_uuid"]))
	c.Check(saved["name"], check.Equals, "out of it")
	c.Check(saved["portable_data_hash"], check.Equals, outputHash)
	c.Check(saved["is_trashed"], check.Equals, false)
	c.Check(saved["owner_uuid"], check.Equals, s.aliceUUID)
	c.Check(saved["properties"], check.DeepEquals, map[string]any{
		"container_request": request["uuid"], "type": "output", "from_container": "1", "from_cr": "1", "both": "cr"})
}

func (suite *containerSuite) TestLogsOfARun(c *check.C) {
	s := suite.workplace(c)
	request := s.submit(s.alice, Record{"name": "run"})
	container := s.containerOf(request)
	request = s.finish(request, nil)
	merged := s.get(s.alice, "collections/"+textOf(request["log_uuid"]))
	c.Check(merged["name"], check.Equals, "Container log for request "+textOf(request["uuid"]))
	c.Check(merged["properties"], check.DeepEquals, map[string]any{"container_request": request["uuid"], "type": "log"})
	var folders []string
	for _, line := range strings.Split(strings.TrimSpace(textOf(merged["manifest_text"])), "\n") {
		folders = append(folders, strings.Fields(line)[0])
	}
	c.Check(folders, check.DeepEquals, []string{".", `./log\040for\040container\040` + textOf(container["uuid"])})

	copies := s.list(s.alice, "collections", []any{"properties.container_uuid", "=", container["uuid"]})
	c.Assert(copies, check.HasLen, 1)
	c.Check(copies[0]["name"], check.Equals, "Container log for container "+textOf(container["uuid"]))
	c.Check(copies[0]["portable_data_hash"], check.Equals, logHash)
	c.Check(copies[0]["properties"], check.DeepEquals, map[string]any{
		"container_request": request["uuid"], "container_uuid": container["uuid"], "type": "log"})
}

func (suite *containerSuite) TestTheTokenLivesWithTheLock(c *check.C) {
	s := suite.workplace(c)
	container := s.containerOf(s.submit(s.alice, nil))
	path := "containers/" + textOf(container["uuid"])
	first := s.lock(container)
	s.get(first, "users/current")
	s.refused(403, "locked by a different token", s.admin, "POST", path+"/unlock", nil)
	s.post(s.root, path+"/unlock", nil)
	s.refused(401, "Not logged in", first, "GET", "users/current", nil)
	s.refused(422, "InvalidStateTransitionError: cannot unlock when Queued", s.root, "POST", path+"/unlock", nil)

	second := s.lock(container)
	c.Check(second, check.Not(check.Equals), first)
	s.get(second, "users/current")
	s.refused(401, "Not logged in", first, "GET", "users/current", nil)
	s.set(container, Record{"state": "Cancelled"})
	s.refused(401, "Not logged in", second, "GET", "users/current", nil)
}

func (suite *containerSuite) TestAUsersTokenHasNoContainer(c *check.C) {
	s := suite.workplace(c)
	s.refused(404, "Token is not associated with a container.", s.alice, "GET", "containers/current", nil)
	container := s.containerOf(s.submit(s.alice, nil))
	s.refused(403, "Token is not associated with this container.", s.alice, "GET", "containers/"+textOf(container["uuid"])+"/secret_mounts", nil)
	s.refused(401, "Not logged in", s.as(alice+"/"+textOf(container["uuid"])), "GET", "users/current", nil)
}

func (suite *containerSuite) TestTheEleventhAttemptIsNotMade(c *check.C) {
	s := suite.workplace(c)
	request := s.submit(s.alice, Record{"container_count_max": 1})
	container := s.containerOf(request)
	path := "containers/" + textOf(container["uuid"])
	for range 10 {
		s.post(s.root, path+"/lock", nil)
		s.post(s.root, path+"/unlock", nil)
	}
	container = s.reload(container)
	c.Check(container["state"], check.Equals, "Cancelled")
	c.Check(container["runtime_status"], check.DeepEquals, map[string]any{
		"error": "Failed to start container.  Cancelled after exceeding 'Containers.MaxDispatchAttempts' (lock_count=10)"})
	c.Check(s.reload(request)["state"], check.Equals, "Final")
}

func (suite *containerSuite) TestWhoSeesAndChangesAContainer(c *check.C) {
	s := suite.workplace(c)
	container := s.containerOf(s.submit(s.alice, nil))
	path := "containers/" + textOf(container["uuid"])
	s.get(s.alice, path)
	s.refused(404, "Path not found", s.bob, "GET", path, nil)
	s.refused(404, "Path not found", s.bob, "PATCH", path, Record{"priority": 7})
	s.refused(404, "Path not found", s.bob, "POST", path+"/lock", nil)
	s.refused(403, "PermissionDeniedError", s.alice, "PATCH", path, Record{"priority": 7})
	s.refused(403, "PermissionDeniedError", s.alice, "POST", path+"/lock", nil)
	c.Check(s.list(s.bob, "containers"), check.HasLen, 0)
	c.Check(s.list(s.alice, "containers"), check.HasLen, 1)
	s.refused(403, "PermissionDeniedError", s.alice, "POST", "containers", Record{"command": []string{"x"}})
	s.refused(501, "this server makes containers for container requests only", s.root, "POST", "containers", Record{"command": []string{"x"}})
	s.refused(405, "not allowed", s.root, "DELETE", path, nil)
	for _, form := range []Record{{"container": Record{"priority": 7}}, {"priority": 7}} {
		for _, method := range []string{"PUT", "PATCH"} {
			c.Check(s.root.must(method, path, form).body["priority"], check.Equals, int64(7))
		}
	}
}

func (suite *containerSuite) TestTheOutputMustBeReadableByWhoSetsIt(c *check.C) {
	s := suite.workplace(c)
	token := s.start(s.containerOf(s.submit(s.alice, nil)))
	path := "containers/" + strings.Split(token.token, "/")[3]
	const refusal = `Output collection must exist and be readable by current user\.`
	s.collection(s.bob, outputText, nil)
	s.refused(422, refusal, token, "PATCH", path, Record{"output": outputHash})
	s.refused(422, refusal, token, "PATCH", path, Record{"output": "ffffffffffffffffffffffffffffffff+99"})
	s.refused(422, refusal, s.root, "PATCH", path, Record{"output": "ffffffffffffffffffffffffffffffff+99"})

	s.collection(s.alice, outputText, Record{"is_trashed": true})
	s.patch(token, path, Record{"output": outputHash, "output_properties": Record{"a": "b"}, "exit_code": 0})
	s.refused(422, refusal, token, "PATCH", path, Record{"output": nil})
	s.patch(s.root, path, Record{"output": emptyHash})
	s.refused(422, "Log cannot be modified in state 'Running'", token, "PATCH", path, Record{"log": emptyHash})
	s.patch(token, path, Record{"state": "Complete"}) // its own end
}

func (suite *containerSuite) TestAFinalUpdateIsDoneWholeOrNotAtAll(c *check.C) {
	s := suite.workplace(c)
	request := s.submit(s.alice, nil)
	container := s.containerOf(request)
	token := s.start(container)
	before := len(s.list(s.root, "collections"))
	s.refused(422, "Output collection must exist", s.root, "PATCH", "containers/"+textOf(container["uuid"]),
		Record{"state": "Complete", "exit_code": 0, "output": "ffffffffffffffffffffffffffffffff+99"})
	c.Check(s.reload(container)["state"], check.Equals, "Running")
	c.Check(s.reload(container)["exit_code"], check.IsNil)
	c.Check(s.reload(request)["state"], check.Equals, "Committed")
	c.Check(s.list(s.root, "collections"), check.HasLen, before)
	s.get(token, "users/current")
}

func (suite *containerSuite) TestSecretsAreForTheContainerAlone(c *check.C) {
	s := suite.workplace(c)
	secret := map[string]any{"/s": map[string]any{"kind": "text", "content": "hush-hush"}}
	request := s.submit(s.alice, Record{"secret_mounts": secret, "container_count_max": 2})
	container := s.containerOf(request)
	path := "containers/" + textOf(container["uuid"])
	token := s.start(container)
	other := s.start(s.containerOf(s.submit(s.alice, nil)))
	c.Check(s.get(token, path+"/secret_mounts")["secret_mounts"], check.DeepEquals, secret)
	for _, who := range []client{s.root, s.alice, other} {
		s.refused(403, "Token is not associated with this container", who, "GET", path+"/secret_mounts", nil)
	}
	for _, rec := range []Record{s.reload(container), s.reload(request), request} {
		_, shown := rec["secret_mounts"]
		c.Check(shown, check.Equals, false)
	}
	s.set(container, Record{"state": "Cancelled"})
	next := s.containerOf(request) // the retry has them still
	c.Check(s.get(s.start(next), "containers/"+textOf(next["uuid"])+"/secret_mounts")["secret_mounts"], check.DeepEquals, secret)
	s.finish(request, nil)
	c.Check(s.databaseHas("hush-hush"), check.Equals, false)
}

func (suite *containerSuite) TestOnlyOneDispatcherGetsTheLock(c *check.C) {
	s := suite.workplace(c)
	path := "containers/" + textOf(s.containerOf(s.submit(s.alice, nil))["uuid"]) + "/lock"
	var got [8]int
	var wait sync.WaitGroup
	for i := range got {
		wait.Add(1)
		go func() {
			defer wait.Done()
			got[i] = []client{s.root, s.admin}[i%2].do("POST", path, nil).status
		}()
	}
	wait.Wait()
	won := 0
	for _, status := range got {
		if status == 200 {
			won++
		} else {
			c.Check(status, check.Equals, 422)
		}
	}
	c.Check(won, check.Equals, 1)
}
