// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package containerrules

import (
	"encoding/json"
	"testing"

	"gopkg.in/check.v1"
)

var _ = check.Suite(&schemaSuite{})

type schemaSuite struct{}

func given(c *check.C, text string) Given {
	var g Given
	c.Assert(json.Unmarshal([]byte(text), &g), check.IsNil)
	return g
}

func (*schemaSuite) TestValuesBecomeOfTheirAttributesKind(c *check.C) {
	for _, trial := range []struct {
		schema Schema
		given  string
		want   Record
	}{
		{Requests, `{"name":"n","priority":5}`, Record{"name": "n", "priority": int64(5)}},
		{Requests, `{"name":5,"container_image":5}`, Record{"name": "5", "container_image": "5"}},
		{Requests, `{"name":null}`, Record{"name": nil}},
		{Requests, `{"priority":"7"}`, Record{"priority": int64(7)}},
		{Requests, `{"priority":"x"}`, Record{"priority": "x"}}, // for validation to refuse
		{Requests, `{"priority":1.5}`, Record{"priority": 1.5}},
		{Requests, `{"container_count_max":"4 times"}`, Record{"container_count_max": int64(4)}},
		{Requests, `{"container_count_max":2.9}`, Record{"container_count_max": int64(2)}},
		{Requests, `{"container_count_max":null}`, Record{"container_count_max": nil}},
		{Requests, `{"mounts":null,"command":null}`, Record{"mounts": map[string]any{}, "command": []any{}}},
		{Requests, `{"properties":null,"output_storage_classes":null}`, Record{"properties": map[string]any{}, "output_storage_classes": []any{}}},
		{Requests, `{"output_properties":"x"}`, Record{"output_properties": "x"}},
		{Requests, `{"command":"[\"a\"]","mounts":"{\"/\":{}}"}`, Record{"command": []any{"a"}, "mounts": map[string]any{"/": map[string]any{}}}},
		{Requests, `{"use_existing":"false"}`, Record{"use_existing": false}},
		{Requests, `{"use_existing":"f","service":0}`, Record{"use_existing": false, "service": false}},
		{Requests, `{"use_existing":1}`, Record{"use_existing": true}},
		{Requests, `{"use_existing":null}`, Record{"use_existing": nil}},
		{Requests, `{"created_at":"x","kind":"k","etag":"e","modified_at":0,"modified_by_user_uuid":"u"}`, Record{}},
		{Containers, `{"progress":"abc"}`, Record{"progress": 0.0}},
		{Containers, `{"progress":"0.5 of it"}`, Record{"progress": 0.5}},
		{Containers, `{"progress":-1}`, Record{"progress": -1.0}},
		{Containers, `{"progress":true}`, Record{"progress": nil}},
		{Containers, `{"exit_code":true}`, Record{"exit_code": int64(1)}},
		{Containers, `{"exit_code":null}`, Record{"exit_code": nil}},
		{Containers, `{"finished_at":"2026-01-01T01:00:00+01:00"}`, Record{"finished_at": "2026-01-01T00:00:00.000000000Z"}},
		{Containers, `{"finished_at":"soon"}`, Record{"finished_at": nil}},
		{Containers, `{"log":{"a":1}}`, Record{"log": `{"a"=>1}`}},
	} {
		got, refusal := trial.schema.Assign(nil, given(c, trial.given))
		c.Check(refusal, check.IsNil, check.Commentf("%s", trial.given))
		c.Check(got, check.DeepEquals, trial.want, check.Commentf("%s", trial.given))
	}
}

// rubyLines are what Ruby 3.4 adds to the message of an exception.
const rubyLines = "\n\n          raise UnknownAttributeError.new(self, k.to_s)\n          ^^^^^>"

func (*schemaSuite) TestWhatCannotBeAValueIsRefused(c *check.C) {
	for _, trial := range []struct {
		schema        Schema
		given, answer string
	}{
		{Requests, `{"bogus":1}`, "#<ActiveModel::UnknownAttributeError: unknown attribute 'bogus' for ContainerRequest." + rubyLines},
		{Containers, `{"name":"n"}`, "#<ActiveModel::UnknownAttributeError: unknown attribute 'name' for Container." + rubyLines},
		{Requests, `{"command":"echo hi"}`, "#<Oj::ParseError: unexpected character (after ) at line 1, column 1 [parse.c:809]>"},
		{Requests, `{"command":{}}`, "#<TypeError: parameter command must be a Array>"},
		{Requests, `{"mounts":[]}`, "#<TypeError: parameter mounts must be a Hash>"},
		{Requests, `{"environment":"5"}`, "#<TypeError: parameter environment must be a Hash>"},
		{Containers, `{"runtime_constraints":1}`, "#<TypeError: parameter runtime_constraints must be a Hash>"},
	} {
		_, refusal := trial.schema.Assign(nil, given(c, trial.given))
		c.Assert(refusal, check.NotNil, check.Commentf("%s", trial.given))
		c.Check(refusal.Status, check.Equals, 422)
		c.Check(refusal.Lines(), check.DeepEquals, []string{trial.answer})
	}
}

func (*schemaSuite) TestTheOldRecordStaysAsItWas(c *check.C) {
	old := Record{"name": "old", "priority": int64(1)}
	fresh, refusal := Requests.Assign(old, given(c, `{"name":"new"}`))
	c.Assert(refusal, check.IsNil)
	c.Check(old["name"], check.Equals, "old")
	c.Check(fresh, check.DeepEquals, Record{"name": "new", "priority": int64(1)})
}

func FuzzAssign(f *testing.F) {
	f.Add(`{"priority":1e3,"command":"[1]","properties":{"a":null}}`)
	f.Add(`{"progress":"1e9999","exit_code":1e300,"finished_at":5}`)
	f.Fuzz(func(t *testing.T, text string) {
		var g Given
		if json.Unmarshal([]byte(text), &g) != nil {
			return
		}
		for _, schema := range []Schema{Requests, Containers} {
			record, refusal := schema.Assign(nil, g)
			if refusal != nil {
				if len(refusal.Lines()) == 0 {
					t.Error("a refusal without a reason")
				}
				continue
			}
			if _, err := json.Marshal(record); err != nil {
				t.Errorf("cannot be stored: %v", err)
			}
			again, refusal := schema.Assign(record, nil)
			if refusal != nil || !equal(again, record) {
				t.Errorf("%v became %v", record, again)
			}
		}
	})
}
