// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package containerrules

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gopkg.in/check.v1"
)

var _ = check.Suite(&containerSuite{})

type containerSuite struct{}

const (
	lockToken  = "zzzzz-gj3su-000000000000000"
	otherToken = "zzzzz-gj3su-111111111111111"
	now        = "2026-11-23T15:28:19.948423000Z"
	earlier    = "2026-11-23T15:00:00.000000000Z"
)

// Who may change containers.
var (
	dispatcher = ContainerCaller{Admin: true, Token: lockToken}
	otherAdmin = ContainerCaller{Admin: true, Token: otherToken}
	contained  = ContainerCaller{Token: "zzzzz-gj3su-222222222222222", Own: true}
	user       = ContainerCaller{Token: "zzzzz-gj3su-333333333333333"}
)

// containerIn is a container in some state, locked by lockToken if it is
// locked.
func containerIn(c *check.C, state string) Record {
	r, refusal := create(c, `{"runtime_constraints":{"vcpus":1,"ram":1000000,"API":true}}`)
	c.Assert(refusal, check.IsNil)
	container := NewContainer(r.Is, Definition{
		Image: "aa74aece2d9695e90ea55207736b74f7+132", Mounts: asHash(r.Is["mounts"]),
		User: "zzzzz-tpzed-4b9puu0hbs52aku", Scopes: []any{"all"},
	}, DefaultConfig)
	container["state"] = state
	container["priority"] = int64(562948157973612639)
	if HasToken(container) {
		container["lock_count"] = int64(1)
		container["locked_by_uuid"] = lockToken
		container["auth_uuid"] = contained.Token
	}
	if state != Queued && state != Locked {
		container["started_at"] = earlier
	}
	if IsFinal(container) {
		container["finished_at"] = earlier
	}
	return container
}

func changeContainer(c *check.C, was Record, attrs string, caller ContainerCaller) (Record, *Refusal) {
	r := ContainerChange{Was: was, Given: given(c, attrs), Caller: caller}
	var refusal *Refusal
	if r.Is, refusal = Containers.Assign(was, r.Given); refusal != nil {
		return nil, refusal
	}
	r.OutputUnknown = strings.Contains(attrs, "ffffffff")
	if refusal = r.Prepare(DefaultConfig, now); refusal != nil {
		return nil, refusal
	}
	if refusal = r.Validate(); refusal != nil {
		return nil, refusal
	}
	r.Settle()
	return r.Is, nil
}

// attributeTable is the table of api-observed (6): for each caller and state
// the attributes that can be changed; all others cannot.
var attributeTable = []struct {
	who     string
	caller  ContainerCaller
	state   string
	allowed string
}{
	{"dispatcher", dispatcher, Queued, "priority"},
	{"dispatcher", dispatcher, Locked, "priority runtime_status log lock_count"},
	{"dispatcher", dispatcher, Running, "priority progress runtime_status subrequests_cost cost log output output_properties exit_code gateway_address interactive_session_started"},
	{"dispatcher", dispatcher, Complete, ""},
	{"dispatcher", dispatcher, Cancelled, ""},
	{"other admin", otherAdmin, Queued, "priority"},
	{"other admin", otherAdmin, Locked, "priority lock_count"},
	{"other admin", otherAdmin, Running, "priority gateway_address interactive_session_started"},
	{"other admin", otherAdmin, Complete, ""},
	{"container", contained, Running, "progress runtime_status subrequests_cost cost output output_properties exit_code gateway_address interactive_session_started finished_at"},
}

// values are what attributes are changed to.
var values = map[string]string{
	"progress": `0.5`, "runtime_status": `{"activity":"x"}`, "subrequests_cost": `0.5`, "cost": `0.5`,
	"log": `"l"`, "output": `"o"`, "output_properties": `{"a":1}`, "exit_code": `3`, "priority": `7`,
	"gateway_address": `"127.0.0.1:1"`, "interactive_session_started": `true`, "finished_at": `"2026-01-01T00:00:00Z"`,
	"started_at": `"2026-01-01T00:00:00Z"`, "command": `["x"]`, "mounts": `{"/x":{"kind":"tmp"}}`, "container_image": `"i"`,
	"environment": `{"A":"b"}`, "output_path": `"/z"`, "runtime_constraints": `{"vcpus":9}`, "cwd": `"/c"`,
	"scheduling_parameters": `{"max_run_time":9}`, "published_ports": `{"80":{}}`, "service": `true`,
	"secret_mounts": `{"/s":{}}`, "runtime_token": `"t"`, "output_storage_classes": `["x"]`, "output_glob": `["g"]`,
	"lock_count": `9`, "auth_uuid": `"a"`, "locked_by_uuid": `"b"`, "runtime_user_uuid": `"u"`, "owner_uuid": `"o"`,
	"runtime_auth_scopes": `["x"]`, "secret_mounts_md5": `"5"`, "uuid": `"u"`,
}

func (*containerSuite) TestWhoMayChangeWhatInWhichState(c *check.C) {
	for _, a := range Containers.attributes {
		if a.name != "state" {
			c.Assert(values[a.name], check.Not(check.Equals), "", check.Commentf("%s", a.name))
		}
	}
	for _, row := range attributeTable {
		for _, attr := range slices.Sorted(maps.Keys(values)) {
			_, refusal := changeContainer(c, containerIn(c, row.state), fmt.Sprintf(`{%q:%s}`, attr, values[attr]), row.caller)
			allowed := slices.Contains(strings.Fields(row.allowed), attr)
			c.Check(refusal == nil, check.Equals, allowed, check.Commentf("%s, %s, %s: %s", row.who, row.state, attr, lines(refusal)))
			if refusal != nil {
				c.Check(refusal.Status, check.Equals, 422)
				c.Check(refusal.Messages[0], check.Matches, human(attr)+` cannot be modified in state '`+row.state+`' \(.*`)
			}
		}
	}
}

func (*containerSuite) TestOthersMayNotChangeAnything(c *check.C) {
	notRunning := []string{Queued, Locked, Complete, Cancelled}
	for _, state := range append(notRunning, Running) {
		for attr, value := range values {
			_, refusal := changeContainer(c, containerIn(c, state), fmt.Sprintf(`{%q:%s}`, attr, value), user)
			c.Assert(refusal, check.NotNil)
			c.Check(refusal.Status, check.Equals, 403)
		}
	}
	for _, state := range notRunning {
		_, refusal := changeContainer(c, containerIn(c, state), `{"progress":0.1}`, contained)
		c.Check(refusal.Status, check.Equals, 403, check.Commentf(state))
		c.Check(lines(refusal), check.Equals, "#<ArvadosModel::PermissionDeniedError: ArvadosModel::PermissionDeniedError>")
	}
}

func (*containerSuite) TestValuesThatAreThereAlreadyPass(c *check.C) {
	for _, row := range attributeTable {
		was := containerIn(c, row.state)
		_, refusal := changeContainer(c, was, `{"state":"`+row.state+`","command":["echo","hi"],"published_ports":{},"log":null,"exit_code":null,"progress":null}`, row.caller)
		c.Check(refusal, check.IsNil, check.Commentf("%s %s", row.who, row.state))
	}
}

// Answers of a real cluster (real-cluster/dispatch.jsonl).
func (*containerSuite) TestMessages(c *check.C) {
	for _, trial := range []struct {
		state  string
		caller ContainerCaller
		attrs  string
		answer string
	}{
		{Queued, dispatcher, `{"state":"Running"}`, `State cannot change from Queued to Running`},
		{Queued, dispatcher, `{"progress":0.1}`, `Progress cannot be modified in state 'Queued' (nil, 0.1)`},
		{Locked, dispatcher, `{"output_properties":{"k":"v"}}`, `Output properties cannot be modified in state 'Locked' ({}, {"k"=>"v"})`},
		{Locked, dispatcher, `{"gateway_address":"127.0.0.1:99"}`, `Gateway address cannot be modified in state 'Locked' (nil, "127.0.0.1:99")`},
		{Locked, dispatcher, `{"cost":0.5}`, `Cost cannot be modified in state 'Locked' (0.0, 0.5)`},
		{Locked, dispatcher, `{"state":"Complete"}`, "State cannot change from Locked to Complete\nFinished at cannot be modified in state 'Complete' (nil, Mon, 23 Nov 2026 15:28:19.948423000 UTC +00:00)"},
		{Running, dispatcher, `{"runtime_status":{"error":5}}`, `Runtime status 'error' value must be a string`},
		{Running, dispatcher, `{"output_properties":"x"}`, `Output properties must be a hash`},
		{Running, dispatcher, `{"output":"ffffffffffffffffffffffffffffffff+99"}`, `Output collection must exist and be readable by current user.`},
		{Running, dispatcher, `{"finished_at":"2026-01-01T00:00:00Z"}`, `Finished at cannot be modified in state 'Running' (nil, Thu, 01 Jan 2026 00:00:00.000000000 UTC +00:00)`},
		{Running, dispatcher, `{"mounts":{"/x":{"kind":"tmp","capacity":1}}}`, `Mounts cannot be modified in state 'Running' ({"/out"=>{"capacity"=>1000000, "kind"=>"tmp"}}, {"/x"=>{"kind"=>"tmp", "capacity"=>1}})`},
		{Running, dispatcher, `{"runtime_constraints":{"vcpus":9,"ram":9}}`, `Runtime constraints cannot be modified in state 'Running' ({"API"=>true, "gpu"=>{"device_count"=>0, "driver_version"=>"", "hardware_target"=>[], "stack"=>"", "vram"=>0}, "keep_cache_disk"=>2147483648, "keep_cache_ram"=>0, "ram"=>1000000, "vcpus"=>1}, {"vcpus"=>9, "ram"=>9})`},
		{Running, dispatcher, `{"lock_count":9}`, `Lock count cannot be modified in state 'Running' (1, 9)`},
		{Running, dispatcher, `{"state":"Queued"}`, `State cannot change from Running to Queued`},
		{Running, dispatcher, `{"state":"Locked"}`, `State cannot change from Running to Locked`},
		{Running, otherAdmin, `{"runtime_status":{"error":5}}`, "Runtime status 'error' value must be a string\nRuntime status cannot be modified in state 'Running' ({}, {\"error\"=>5})"},
		{Running, otherAdmin, `{"output_properties":"x"}`, "Output properties must be a hash\nOutput properties cannot be modified in state 'Running' ({}, \"x\")"},
		{Running, otherAdmin, `{"output":"ffffffffffffffffffffffffffffffff+99"}`, "Output cannot be modified in state 'Running' (nil, \"ffffffffffffffffffffffffffffffff+99\")\nOutput collection must exist and be readable by current user."},
		{Complete, dispatcher, `{"progress":0.2}`, `Progress cannot be modified in state 'Complete' (nil, 0.2)`},
		{Cancelled, dispatcher, `{"state":"Running"}`, `State cannot change from Cancelled to Running`},
		{Queued, dispatcher, `{"state":"Bogus"}`, `State cannot change from Queued to Bogus`},
		{Queued, dispatcher, `{"priority":-1}`, `Priority must be greater than or equal to 0`},
		{Running, user, `{"runtime_status":{"error":5}}`, `Runtime status 'error' value must be a string`}, // but 403
		{Running, dispatcher, `{"locked_by_uuid":null}`, "Locked by uuid cannot be modified in state 'Running' (\"zzzzz-gj3su-000000000000000\", nil)\nLocked by uuid can only change to zzzzz-gj3su-000000000000000"},
		{Locked, dispatcher, `{"auth_uuid":"x"}`, "Auth uuid cannot be modified in state 'Locked' (\"zzzzz-gj3su-222222222222222\", \"x\")\nAuth uuid is readonly"},
	} {
		_, refusal := changeContainer(c, containerIn(c, trial.state), trial.attrs, trial.caller)
		c.Check(lines(refusal), check.Equals, trial.answer, check.Commentf("%s: %s", trial.state, trial.attrs))
	}
}

func (*containerSuite) TestAllInOneFinalUpdate(c *check.C) {
	const final = `{"state":"Complete","exit_code":0,"output":"o","log":"l","output_properties":{"a":1},"cost":0.75,"progress":1.0}`
	is, refusal := changeContainer(c, containerIn(c, Running), final, dispatcher)
	c.Assert(refusal, check.IsNil)
	c.Check(is["finished_at"], check.Equals, now)
	c.Check(is["locked_by_uuid"], check.IsNil)

	is, refusal = changeContainer(c, containerIn(c, Running), strings.Replace(final, `"log":"l",`, "", 1), contained)
	c.Assert(refusal, check.IsNil)
	c.Check(is["exit_code"], check.Equals, int64(0))

	_, refusal = changeContainer(c, containerIn(c, Running), final, contained)
	c.Check(lines(refusal), check.Equals, `Log cannot be modified in state 'Complete' (nil, "l")`)
	_, refusal = changeContainer(c, containerIn(c, Running), `{"state":"Cancelled"}`, otherAdmin)
	c.Check(refusal, check.IsNil)
	_, refusal = changeContainer(c, containerIn(c, Complete), `{"state":"Cancelled"}`, dispatcher)
	c.Check(refusal, check.IsNil)
	_, refusal = changeContainer(c, containerIn(c, Locked), `{"state":"Cancelled","runtime_status":{"error":"e"},"log":"l","cost":1}`, dispatcher)
	c.Check(refusal, check.IsNil)
	_, refusal = changeContainer(c, containerIn(c, Locked), `{"state":"Cancelled","exit_code":1}`, dispatcher)
	c.Check(lines(refusal), check.Equals, `Exit code cannot be modified in state 'Cancelled' (nil, 1)`)
}
