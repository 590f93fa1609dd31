// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"math/rand"

	"gopkg.in/check.v1"
)

var _ = check.Suite(&livesSuite{})

type livesSuite struct{ workSuite }

// life is a cluster on which users and a dispatcher do whatever comes to their
// minds.
type life struct {
	*workplace
	rand   *rand.Rand
	tokens map[string]client // of containers, by UUID, the last one
	dead   []client          // the earlier ones
	final  map[string]bool   // requests that have been seen final
	steps  []string
}

func (suite *livesSuite) TestWhatHoldsWhateverHappens(c *check.C) {
	for seed := range int64(8) {
		l := &life{workplace: suite.workplace(c), rand: rand.New(rand.NewSource(seed)), tokens: map[string]client{}, final: map[string]bool{}}
		l.collection(l.root, outputText, nil)
		l.collection(l.root, logText, nil)
		for range 40 {
			l.step()
			if !l.holds() {
				c.Fatalf("seed %d, after %v", seed, l.steps)
			}
		}
	}
}

func (l *life) pick(records []Record) Record {
	if len(records) == 0 {
		return Record{}
	}
	return records[l.rand.Intn(len(records))]
}

// step does one thing, which may be refused.
func (l *life) step() {
	request := l.pick(l.list(l.root, "container_requests"))
	container := l.pick(l.list(l.root, "containers"))
	requestPath, path := "container_requests/"+textOf(request["uuid"]), "containers/"+textOf(container["uuid"])
	user := []client{l.alice, l.bob}[l.rand.Intn(2)]
	var reply answer
	do := func(who client, method, path string, attrs Record) { reply = who.do(method, path, attrs) }
	what := []string{"submit", "submit by container", "priority", "give up", "lock", "lock", "unlock", "run", "run", "end", "end", "cancel", "log"}
	name := what[l.rand.Intn(len(what))]
	switch name {
	case "submit", "submit by container":
		running := l.pick(l.list(l.root, "containers", []any{"state", "in", []string{"Locked", "Running"}}))
		if itself, ok := l.tokens[textOf(running["uuid"])]; ok && name == "submit by container" {
			user = itself
		}
		do(user, "POST", "container_requests", l.request(Record{
			"command": []any{[]string{"a", "b", "c"}[l.rand.Intn(3)]}, "use_existing": l.rand.Intn(2) == 0,
			"priority": l.rand.Intn(3), "container_count_max": 1 + l.rand.Intn(3),
		}))
	case "priority":
		do(user, "PATCH", requestPath, Record{"priority": l.rand.Intn(3)})
	case "give up":
		do(user, "PATCH", requestPath, Record{"state": "Final"})
	case "lock":
		if do(l.root, "POST", path+"/lock", nil); reply.status == 200 {
			uuid := textOf(container["uuid"])
			if old, ok := l.tokens[uuid]; ok {
				l.dead = append(l.dead, old)
			}
			auth := l.get(l.root, path+"/auth")
			l.tokens[uuid] = l.as("v2/" + textOf(auth["uuid"]) + "/" + textOf(auth["api_token"]))
		}
	case "unlock":
		do(l.root, "POST", path+"/unlock", nil)
	case "run":
		do(l.root, "PATCH", path, Record{"state": "Running"})
	case "log":
		do(l.root, "PATCH", path, Record{"log": logHash})
	case "end":
		do(l.root, "PATCH", path, Record{"state": "Complete", "exit_code": l.rand.Intn(2), "log": logHash, "output": outputHash})
	case "cancel":
		do(l.root, "PATCH", path, Record{"state": "Cancelled"})
	}
	l.steps = append(l.steps, name)
	l.c.Check(reply.status < 500, check.Equals, true, check.Commentf("%s: %v", name, reply.body))
}

// holds checks what must be so at any time.
func (l *life) holds() bool {
	requests, all := l.list(l.root, "container_requests"), l.list(l.root, "containers")
	byUUID := map[string]Record{}
	wanted := map[string]bool{} // containers with a request that wants them
	for _, container := range all {
		byUUID[textOf(container["uuid"])] = container
	}
	good := true
	must := func(ok bool, rec Record, what string) {
		if !ok {
			l.c.Errorf("%s: %v", what, rec)
			good = false
		}
	}
	for _, request := range requests {
		uuid := textOf(request["uuid"])
		container := byUUID[textOf(request["container_uuid"])]
		ended := container["state"] == "Complete" || container["state"] == "Cancelled"
		must(container != nil, request, "has no container")
		must(request["state"] == "Final" || !l.final[uuid], request, "was final once")
		must(request["state"] == "Final" || !ended, request, "waits for what has ended")
		l.final[uuid] = request["state"] == "Final"
		must(request["container_count"].(int64) <= request["container_count_max"].(int64), request, "was tried too often")
		parent := byUUID[textOf(request["requesting_container_uuid"])]
		orphan := parent["state"] == "Complete" || parent["state"] == "Cancelled"
		must(request["state"] == "Final" || !orphan || request["priority"] == int64(0), request, "outlives what has asked for it")
		if request["state"] == "Committed" && request["priority"].(int64) > 0 && (parent == nil || parent["priority"].(int64) > 0) {
			wanted[textOf(request["container_uuid"])] = true
		}
	}
	for uuid, container := range byUUID {
		state := textOf(container["state"])
		held := state == "Locked" || state == "Running"
		must(held == (container["locked_by_uuid"] != nil), container, "holder does not fit the state")
		must(held == (container["auth_uuid"] != nil), container, "token does not fit the state")
		must((container["started_at"] != nil) == (state == "Running" || state == "Complete") || state == "Cancelled", container, "start does not fit the state")
		must((container["finished_at"] != nil) == (state == "Complete" || state == "Cancelled"), container, "end does not fit the state")
		if state != "Complete" && state != "Cancelled" {
			must(wanted[uuid] == (container["priority"].(int64) > 0), container, "priority does not fit the requests")
		}
		if itself, ok := l.tokens[uuid]; ok {
			must(held == (itself.do("GET", "users/current", nil).status == 200), container, "token works in the wrong state")
		}
	}
	for _, itself := range l.dead {
		must(itself.do("GET", "users/current", nil).status == 401, nil, "an old token works")
	}
	return good
}
