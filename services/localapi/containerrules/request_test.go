// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package containerrules

import (
	"encoding/json"
	"maps"
	"strings"

	"gopkg.in/check.v1"
)

var _ = check.Suite(&requestSuite{})

type requestSuite struct{}

// plainRequest is one that nothing is wrong with.
const plainRequest = `{
	"name": "n", "state": "Committed", "priority": 1, "container_image": "arvtest/busybox:1.0",
	"command": ["echo", "hi"], "output_path": "/out", "cwd": "/out",
	"mounts": {"/out": {"kind": "tmp", "capacity": 1000000}},
	"runtime_constraints": {"vcpus": 1, "ram": 1000000}, "use_existing": false}`

// create is a new request with the given attributes in the place of the plain
// one's; a JSON null removes one.
func create(c *check.C, attrs string) (RequestChange, *Refusal) {
	all := given(c, plainRequest)
	changes := given(c, attrs)
	maps.Copy(all, changes)
	maps.DeleteFunc(all, func(_ string, value json.RawMessage) bool { return string(value) == "null" })
	r := RequestChange{Was: NewRequest(), New: true, Admin: true}
	var refusal *Refusal
	r.Is, refusal = Requests.Assign(r.Was, all)
	if refusal != nil {
		return r, refusal
	}
	r.Fill(DefaultConfig)
	return r, r.Validate()
}

func lines(refusal *Refusal) string {
	if refusal == nil {
		return ""
	}
	return strings.Join(refusal.Lines(), "\n")
}

// Answers of a real cluster (real-cluster/container-requests.jsonl), then what
// the source of Arvados says of cases that were not recorded there.
var creations = []struct{ attrs, answer string }{
	{`{}`, ``},
	{`{"output_path":"/","mounts":{}}`, `Output path must be a mount target`},
	{`{"output_path":"/","mounts":{},"state":"Uncommitted"}`, `Output path must be a mount target`},
	{`{"output_path":"/","mounts":{"/":{"kind":"tmp","capacity":1}}}`, ``},
	{`{"output_path":"/","mounts":{"/":{"kind":"collection","writable":true}}}`, ``},
	{`{"output_path":"/","mounts":{"/":{"kind":"tmp"}}}`, ``},
	{`{"output_path":"/","mounts":{"/":{"kind":"keep"}}}`, ``},
	{`{"output_path":"/x","mounts":{"/x":{"kind":"json","content":{"a":1}}}}`, ``},
	{`{"output_path":"/nope"}`, `Output path must be a mount target`},
	{`{"output_path":"/out/sub"}`, `Output path must be a mount target`},
	{`{"output_path":""}`, "Output path can't be blank\nOutput path must be a mount target"},
	{`{"output_path":null}`, "Output path can't be blank\nOutput path must be a mount target"},
	{`{"cwd":null}`, ``},
	{`{"cwd":"."}`, ``},
	{`{"command":[]}`, `Command can't be blank`},
	{`{"command":[""]}`, ``},
	{`{"command":null}`, `Command can't be blank`},
	{`{"runtime_constraints":{}}`, "Runtime constraints [vcpus]=0 must be a positive integer\nRuntime constraints [ram]=0 must be a positive integer"},
	{`{"runtime_constraints":{"vcpus":1,"ram":0}}`, `Runtime constraints [ram]=0 must be a positive integer`},
	{`{"runtime_constraints":{"vcpus":0,"ram":1}}`, `Runtime constraints [vcpus]=0 must be a positive integer`},
	{`{"runtime_constraints":{"vcpus":1,"ram":1,"bogus":5}}`, `Runtime constraints contains unexpected keys ["bogus"]`},
	{`{"runtime_constraints":{"vcpus":1,"ram":1}}`, ``},
	{`{"properties":{"a":{"b":[1,2,{"c":null}]},"n":1,"s":"x"}}`, ``},
	{`{"output_properties":{"a":{"b":[1,2]}}}`, ``},
	{`{"output_properties":"x"}`, `Output properties must be a hash`},
	{`{"priority":1001}`, `Priority must be less than or equal to 1000`},
	{`{"priority":1000}`, ``},
	{`{"priority":-1}`, `Priority must be greater than or equal to 0`},
	{`{"priority":null}`, ``},
	{`{"container_count_max":1}`, ``},
	{`{"scheduling_parameters":{"supervisor":true}}`, ``},
	{`{"scheduling_parameters":{"max_run_time":-1}}`, `Scheduling parameters max_run_time must be positive integer`},
	{`{"scheduling_parameters":{"partitions":["a"]}}`, ``},
	{`{"environment":{"A":1}}`, `Environment [A]: incompatible value type: string required`},
	{`{"environment":{"A":"1"}}`, ``},
	{`{"secret_mounts":{"/s":{"kind":"text","content":"shh"}}}`, ``},
	{`{"mounts":{"/out":{"kind":"tmp"},"/x":{"kind":"bogus"}}}`, `Mounts [/x][kind]: unsupported value "bogus"`},
	{`{"mounts":{"/out":{"kind":"tmp","portable_data_hash":"aa74aece2d9695e90ea55207736b74f7+132"}}}`,
		`Mounts [/out][portable_data_hash]: parameter is not supported for a tmp mount`},
	{`{"mounts":{"/out":{"kind":"tmp"},"rel":{"kind":"tmp"}}}`, `Mounts [rel]: invalid target: must be stdin, stdout, stderr or an absolute path`},
	{`{"mounts":{"/out":{"kind":"tmp"},"stdin":{"kind":"json","content":[1]},"stdout":{"kind":"file","path":"/out/o.txt"}}}`, ``},
	{`{"output_name":"my output","output_ttl":3600}`, ``},
	{`{"output_ttl":-1}`, `Output ttl must be greater than or equal to 0`},
	{`{"output_glob":["*.txt","a/**"]}`, ``},
	{`{"output_storage_classes":["nosuch"]}`, ``},
	{`{"service":true,"published_ports":{"8888":{"access":"private","label":"x","initial_path":""}}}`, ``},
	{`{"output_uuid":"zzzzz-4zz18-84hhfd6bchkcjlb"}`, `Output uuid cannot be modified in state 'Committed' (nil, "zzzzz-4zz18-84hhfd6bchkcjlb")`},
	{`{"log_uuid":"zzzzz-4zz18-84hhfd6bchkcjlb"}`, ``},
	{`{"requesting_container_uuid":"zzzzz-dz642-kn361kk1dtidq61"}`,
		`Requesting container uuid cannot be modified in state 'Committed' (nil, "zzzzz-dz642-kn361kk1dtidq61")`},
	{`{"state":"Final"}`, `State cannot change from  to Final`},
	{`{"container_image":""}`, `Container image can't be blank`},
	{`{"container_image":null}`, `Container image can't be blank`},
	{`{"container_image":5}`, ``}, // an image named "5"

	{`{"container_image":" \t"}`, `Container image can't be blank`},
	{`{"command":["a",1]}`, `Command must be an array of strings`},
	{`{"output_glob":[""]}`, `Output glob must be an array of non-empty strings`},
	{`{"output_storage_classes":"x"}`, `Output storage classes must be an array of non-empty strings`},
	{`{"priority":1.5}`, `Priority must be an integer`},
	{`{"priority":"high"}`, `Priority is not a number`},
	{`{"output_ttl":"1h"}`, `Output ttl is not a number`},
	{`{"log_uuid":"zzzzz-4zz18-84hhfd6bchkcjlb","state":"Uncommitted"}`, `Log uuid cannot be modified in state 'Uncommitted' (nil, "zzzzz-4zz18-84hhfd6bchkcjlb")`},
	{`{"container_count":1}`, `Container count cannot be updated directly.`},
	{`{"container_count":1,"state":"Uncommitted"}`, `Container count cannot be modified in state 'Uncommitted' (0, 1)`},
	{`{"environment":{"":"x","A=B":"y","C":"\u0000"}}`, "Environment key cannot be empty\nEnvironment key \"A=B\" contains an invalid character NUL or '='\nEnvironment value for \"C\" contains invalid character NUL"},
	{`{"mounts":{"/out":{"kind":"tmp"},"/x":5}}`, `Mounts [/x]: invalid mount specification: must be a hash, not a string`},
	{`{"mounts":{"/out":{"kind":"tmp"},"/x":{}}}`, `Mounts [/x][kind]: unsupported value nil`},
	{`{"mounts":{"/out":{"kind":"tmp","capacity":"1G","device_type":"tape"}}}`,
		"Mounts [/out][capacity]: incompatible value type: integer required\nMounts [/out][device_type]: incompatible value type: value from list required"},
	{`{"mounts":{"/out":{"kind":"collection","writable":1,"uuid":null}}}`,
		"Mounts [/out][uuid]: incompatible value type: string required\nMounts [/out][writable]: incompatible value type: boolean required"},
	{`{"mounts":{"/out":{"kind":"tmp"},"/t":{"kind":"text"}}}`, `Mounts [/t][content]: incompatible value type: string required`},
	{`{"mounts":{"/out":{"kind":"git_tree"}}}`, `Mounts [/out][kind]: unsupported value "git_tree"`},
	{`{"mounts":{"/out":{"kind":"tmp","capacity":0,"content":null,"uuid":"","writable":false,"path":""}}}`, ``}, // as Go sends it
	{`{"secret_mounts":{"stdout":{"kind":"text","content":"x"}}}`, `Secret mounts [stdout]: invalid target: must be stdin or an absolute path`},
	{`{"secret_mounts":{"/s":{"kind":"tmp"}}}`, `Secret mounts [/s][kind]: unsupported value "tmp"`},
	{`{"secret_mounts":{"/out":{"kind":"text","content":"x"}}}`, `Secret mounts conflict with non-secret mounts`},
	{`{"secret_mounts":"x"}`, `#<Oj::ParseError: unexpected character (after ) at line 1, column 1 [parse.c:809]>`},
	{`{"runtime_constraints":{"vcpus":"1","ram":1.5}}`, "Runtime constraints [vcpus]=\"1\" must be a positive integer\nRuntime constraints [ram]=1.5 must be a positive integer"},
	{`{"runtime_constraints":{"vcpus":1,"ram":1,"gpu":5}}`, `Runtime constraints [gpu] must be a hash`},
	{`{"runtime_constraints":{"vcpus":1,"ram":1,"gpu":{"device_count":1,"stack":"x","vram":-1,"bogus":1,"hardware_target":[1]}}}`,
		"Runtime constraints contains unexpected keys [\"bogus\"]\n" +
			"Runtime constraints [gpu.stack]=\"x\" must be one of 'cuda' or 'rocm' or be empty\n" +
			"Runtime constraints [gpu.vram]=-1 must be a positive or zero integer\n" +
			"Runtime constraints [gpu.driver_version]=\"\" must be a string in format 'X.Y'\n" +
			"Runtime constraints [gpu.hardware_target]=[1] must be an array of strings"},
	{`{"runtime_constraints":{"vcpus":1,"ram":1,"gpu":{"device_count":1,"stack":"cuda","driver_version":"12.1","hardware_target":["9.0"]}}}`, ``},
	{`{"runtime_constraints":{"vcpus":1,"ram":1,"cuda":{"device_count":1,"driver_version":"11.0","hardware_capability":"9.0"}}}`, ``},
	{`{"runtime_constraints":{},"state":"Uncommitted"}`, ``},
	{`{"scheduling_parameters":{"partitions":"a","bogus":1,"preemptible":true}}`,
		"Scheduling parameters partitions must be an array of strings\nScheduling parameters contains unexpected keys [\"bogus\"]\nScheduling parameters preemptible instances are not configured in InstanceTypes"},
	{`{"scheduling_parameters":{"preemptible":true},"state":"Uncommitted"}`, ``},
	{`{"service":true,"use_existing":true}`, `Use existing cannot be true if 'service' is true`},
	{`{"published_ports":{"0":{},"x":{},"1":5,"2":{"access":"all","label":"","x":1},"3":{"access":"public"}}}`,
		"Published ports entry 0 must be a decimal port number in the range 1-65535\n" +
			"Published ports entry 1 must be an hash: 5\n" +
			"Published ports entry 2 has invalid key: \"x\"\n" +
			"Published ports entry 2 'access' must be one of 'public' or 'private' but was: \"all\"\n" +
			"Published ports entry 2 'label' cannot be empty\n" +
			"Published ports entry 2 'initial_path' must be a string but was: nil\n" +
			"Published ports entry 3 'label' must be a string but was: nil\n" +
			"Published ports entry 3 'initial_path' must be a string but was: nil\n" +
			"Published ports entry x must be a decimal port number in the range 1-65535"},
}

func (*requestSuite) TestCreate(c *check.C) {
	for _, trial := range creations {
		_, refusal := create(c, trial.attrs)
		c.Check(lines(refusal), check.Equals, trial.answer, check.Commentf("%s", trial.attrs))
	}
}

func (*requestSuite) TestBuiltinImagesNeedNoMounts(c *check.C) {
	const nothing = `"output_path":"/","mounts":{}`
	const refused = "Output path must be a mount target"
	for attrs, answer := range map[string]string{
		`{"container_image":"arvados/builtin",` + nothing + `}`:                                        "",
		`{"container_image":"arvados/none",` + nothing + `}`:                                           "",
		`{"container_image":"arvados/builtin",` + nothing + `,"state":"Uncommitted"}`:                  "",
		`{"container_image":"arvados/builtin:latest",` + nothing + `}`:                                 refused,
		`{"container_image":"arvados/builtin","output_path":"/out","mounts":{}}`:                       refused,
		`{"container_image":"arvados/builtin","output_path":"/","mounts":{"/x":{"kind":"tmp"}}}`:       refused,
		`{"container_image":"arvados/builtin","output_path":"/","mounts":{"/":{"kind":"collection"}}}`: "",
		`{"container_image":"arvados/builtin"}`:                                                        "",
	} {
		_, refusal := create(c, attrs)
		c.Check(lines(refusal), check.Equals, answer, check.Commentf("%s", attrs))
	}
}

func (*requestSuite) TestOnlyAdminsChooseTheContainer(c *check.C) {
	r, refusal := create(c, `{"container_uuid":"zzzzz-dz642-000000000000000"}`)
	c.Check(refusal, check.IsNil)
	r.Admin = false
	c.Check(lines(r.Validate()), check.Equals, "Container uuid can only be updated to nil.")
}

func (*requestSuite) TestUUIDsThatNameNothing(c *check.C) {
	r, _ := create(c, `{"container_uuid":"zzzzz-dz642-000000000000000"}`)
	r.NotFound = []string{"container_uuid"}
	c.Check(lines(r.Validate()), check.Equals, "Container uuid 'zzzzz-dz642-000000000000000' not found")
}

func (*requestSuite) TestARuntimeTokenThatFails(c *check.C) {
	r, _ := create(c, `{"runtime_token":"v2/x/y"}`)
	r.TokenFails = true
	c.Check(lines(r.Validate()), check.Equals, "Runtime token failed validation")
}

// update is the answer to a change of a plain request that is in state.
func update(c *check.C, state, attrs string, admin bool) (RequestChange, string) {
	r, refusal := create(c, `{"state":"Committed"}`)
	c.Assert(refusal, check.IsNil)
	r.Was, r.New, r.Admin = r.Is, false, admin
	r.Was["state"] = state
	r.Was["priority"] = int64(500)
	r.Is, refusal = Requests.Assign(r.Was, given(c, attrs))
	if refusal == nil {
		r.Fill(DefaultConfig)
		refusal = r.Validate()
	}
	return r, lines(refusal)
}

func (*requestSuite) TestUpdate(c *check.C) {
	for _, trial := range []struct{ state, attrs, answer string }{
		{Committed, `{"properties":{"later":"yes"}}`, ``},
		{Committed, `{"name":"nn","description":"dd","owner_uuid":"zzzzz-j7d0g-ng7ziymhcmw6fbj"}`, ``},
		{Committed, `{"priority":5}`, ``},
		{Committed, `{"priority":null}`, `Priority is not a number`},
		{Committed, `{"output_properties":{"later":1}}`, `Output properties cannot be modified in state 'Committed' ({}, {"later"=>1})`},
		{Committed, `{"command":["x"]}`, `Command cannot be modified in state 'Committed' (["echo", "hi"], ["x"])`},
		{Committed, `{"mounts":{}}`, "Output path must be a mount target\nMounts cannot be modified in state 'Committed' ({\"/out\"=>{\"capacity\"=>1000000, \"kind\"=>\"tmp\"}}, {})"},
		{Committed, `{"state":"Uncommitted"}`, `State cannot change from Committed to Uncommitted`},
		{Committed, `{"output_name":"q"}`, `Output name cannot be modified in state 'Committed' (nil, "q")`},
		{Committed, `{"container_count_max":1}`, ``},
		{Committed, `{"output_uuid":"zzzzz-4zz18-84hhfd6bchkcjlb"}`, `Output uuid cannot be modified in state 'Committed' (nil, "zzzzz-4zz18-84hhfd6bchkcjlb")`},
		{Committed, `{"log_uuid":"zzzzz-4zz18-84hhfd6bchkcjlb"}`, ``},
		{Committed, `{"priority":0}`, ``},
		{Committed, `{"state":"Final"}`, ``},
		{Committed, `{"state":"Final","log_uuid":"a","output_uuid":"b","priority":0}`, ``},
		{Committed, `{"use_existing":true}`, `Use existing cannot be modified in state 'Committed' (false, true)`},
		{Committed, `{"runtime_constraints":{"vcpus":1,"ram":1000000}}`, ``}, // the rest is filled in
		{Committed, `{"mounts":{"/out":{"kind":"tmp","capacity":1000000,"content":null,"uuid":"","writable":false}}}`, ``},
		{Final, `{"properties":{"p":"after"}}`, ``},
		{Final, `{"output_properties":{"late":1}}`, `Output properties cannot be modified in state 'Final' ({}, {"late"=>1})`},
		{Final, `{"priority":1}`, `Priority cannot be modified in state 'Final' (500, 1)`},
		{Final, `{"state":"Committed"}`, `State cannot change from Final to Committed`},
		{Uncommitted, `{"command":["x"],"mounts":{"/out":{"kind":"keep"}},"output_properties":{"a":1},"priority":7}`, ``},
		{Uncommitted, `{"state":"Committed"}`, ``},
		{Uncommitted, `{"state":"Final"}`, `State cannot change from Uncommitted to Final`},
		{Uncommitted, `{"container_count_max":7}`, ``},
	} {
		_, answer := update(c, trial.state, trial.attrs, true)
		c.Check(answer, check.Equals, trial.answer, check.Commentf("%s: %s", trial.state, trial.attrs))
	}
}

func (*requestSuite) TestWhatOnlyAdminsMayChange(c *check.C) {
	for attrs, answer := range map[string]string{
		`{"log_uuid":"x"}`:                    `Log uuid cannot be modified in state 'Committed' (nil, "x")`,
		`{"state":"Final","output_uuid":"x"}`: `Output uuid cannot be modified in state 'Final' (nil, "x")`,
		`{"priority":3}`:                      ``,
	} {
		_, got := update(c, Committed, attrs, false)
		c.Check(got, check.Equals, answer)
	}
}

func (*requestSuite) TestMountsThatComeBackWithZerosStayAsTheyWere(c *check.C) {
	r, answer := update(c, Committed, `{"mounts":{"/out":{"kind":"tmp","capacity":1000000,"content":null,"uuid":""}}}`, true)
	c.Check(answer, check.Equals, "")
	c.Check(r.Is["mounts"], check.DeepEquals, map[string]any{"/out": map[string]any{"kind": "tmp", "capacity": int64(1000000)}})
}

func (*requestSuite) TestDefaults(c *check.C) {
	r, refusal := create(c, `{"cwd":null,"state":null,"priority":null,"use_existing":null,"scheduling_parameters":{"supervisor":true}}`)
	c.Assert(refusal, check.IsNil)
	c.Check(r.Is["cwd"], check.Equals, ".")
	c.Check(r.Is["state"], check.Equals, Uncommitted)
	c.Check(r.Is["priority"], check.Equals, int64(0))
	c.Check(r.Is["use_existing"], check.Equals, true)
	c.Check(r.Is["container_count_max"], check.Equals, int64(3))
	c.Check(r.Is["scheduling_parameters"], check.DeepEquals, map[string]any{
		"max_run_time": int64(0), "partitions": []any{}, "preemptible": false, "supervisor": true})
	c.Check(r.Is["runtime_constraints"], check.DeepEquals, map[string]any{
		"API": false, "keep_cache_disk": int64(0), "keep_cache_ram": int64(0), "ram": int64(1000000), "vcpus": int64(1),
		"gpu": map[string]any{"device_count": int64(0), "driver_version": "", "hardware_target": []any{}, "stack": "", "vram": int64(0)}})
}

func (*requestSuite) TestRepliesHaveAllFieldsOfMountsAndNoSecrets(c *check.C) {
	r, refusal := create(c, `{"secret_mounts":{"/s":{"kind":"text","content":"shh"}},"runtime_token":"v2/x/y","description":""}`)
	c.Assert(refusal, check.IsNil)
	reply := RequestReply(r.Is)
	c.Check(reply["mounts"], check.DeepEquals, map[string]any{"/out": map[string]any{
		"capacity": int64(1000000), "content": nil, "device_type": "", "exclude_from_output": false, "kind": "tmp",
		"path": "", "portable_data_hash": "", "uuid": "", "writable": false}})
	c.Check(reply["runtime_token"], check.Equals, "")
	c.Check(reply["description"], check.IsNil)
	_, shown := reply["secret_mounts"]
	c.Check(shown, check.Equals, false)
	c.Check(r.Is["runtime_token"], check.Equals, "v2/x/y") // the record itself keeps it
	c.Check(len(asHash(asHash(r.Is["mounts"])["/out"])), check.Equals, 2)
}
