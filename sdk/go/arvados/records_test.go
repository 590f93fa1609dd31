// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import (
	"encoding/json"
	"os"

	. "gopkg.in/check.v1"
)

type RecordsSuite struct{}

var _ = Suite(&RecordsSuite{})

// The records that the API server sends have these keys; a typing mistake in
// one would lose an attribute without a word.
func (*RecordsSuite) TestRecordsKeepEveryAttribute(c *C) {
	for file, record := range map[string]interface{}{
		"collection.json":        &Collection{},
		"container.json":         &Container{},
		"container_request.json": &ContainerRequest{},
		"link.json":              &Link{},
		"group.json":             &Group{},
		"user.json":              &User{},
		"token.json":             &APIClientAuthorization{},
		"keep_service.json":      &KeepService{},
	} {
		text, err := os.ReadFile("testdata/" + file)
		c.Assert(err, IsNil)
		c.Assert(json.Unmarshal(text, record), IsNil, Commentf(file))
		again, err := json.Marshal(record)
		c.Assert(err, IsNil)
		var want, have map[string]interface{}
		c.Assert(json.Unmarshal(text, &want), IsNil)
		c.Assert(json.Unmarshal(again, &have), IsNil)
		c.Check(have, DeepEquals, want, Commentf(file))
	}
}

func (*RecordsSuite) TestEnumerations(c *C) {
	c.Check([]ContainerState{ContainerStateQueued, ContainerStateLocked, ContainerStateRunning, ContainerStateComplete, ContainerStateCancelled},
		DeepEquals, []ContainerState{"Queued", "Locked", "Running", "Complete", "Cancelled"})
	c.Check([]ContainerRequestState{ContainerRequestStateUncomitted, ContainerRequestStateCommitted, ContainerRequestStateFinal},
		DeepEquals, []ContainerRequestState{"Uncommitted", "Committed", "Final"})
}

func (*RecordsSuite) TestInstanceTypeOfADispatcher(c *C) {
	var it InstanceType
	err := json.Unmarshal([]byte(`{"Name":"ignored","ProviderType":"m4.large","VCPUs":2,"RAM":7782000000,
		"Scratch":1,"IncludedScratch":32000000000,"AddedScratch":10,"Price":0.1,"Preemptible":true,"GPU":{"VRAM":0}}`), &it)
	c.Assert(err, IsNil)
	c.Check(it, DeepEquals, InstanceType{ProviderType: "m4.large", VCPUs: 2, RAM: 7782000000,
		IncludedScratch: 32000000000, AddedScratch: 10, Price: 0.1, Preemptible: true})
}

func (*RecordsSuite) TestListParamsSendWhatIsSet(c *C) {
	none := 0
	for want, params := range map[string]ResourceListParams{
		`{}`: {},
		`{"filters":[["uuid","in",["a","b"]],["x","exists","y"]],"limit":0,"order":"created_at desc","count":"none"}`: {
			Filters: []Filter{{"uuid", "in", []string{"a", "b"}}, {"x", "exists", "y"}},
			Limit:   &none, Order: "created_at desc", Count: "none",
		},
		`{"select":["uuid"],"include_trash":true,"include_old_versions":true,"offset":7,"distinct":true}`: {
			Select: []string{"uuid"}, IncludeTrash: true, IncludeOldVersions: true, Offset: 7, Distinct: true,
		},
	} {
		text, err := json.Marshal(params)
		c.Assert(err, IsNil)
		c.Check(string(text), Equals, want)
	}
}

func (*RecordsSuite) TestFilterForms(c *C) {
	for text, want := range map[string]Filter{
		`["uuid","=","x"]`:             {"uuid", "=", "x"},
		`["a","in",["x",null,1.5]]`:    {"a", "in", []interface{}{"x", nil, 1.5}},
		`["properties.k","=",null]`:    {"properties.k", "=", nil},
		`["is_trashed","=",true]`:      {"is_trashed", "=", true},
		`"(created_at < modified_at)"`: {"(created_at < modified_at)", "=", true},
	} {
		var have Filter
		c.Assert(json.Unmarshal([]byte(text), &have), IsNil, Commentf(text))
		c.Check(have, DeepEquals, want)
	}
	for _, text := range []string{`[]`, `["a","="]`, `["a","=","b","c"]`, `[1,"=","b"]`, `["a",null,"b"]`,
		`["a","=",{"k":"v"}]`, `{"a":"b"}`, `7`, `true`} {
		var have Filter
		c.Check(json.Unmarshal([]byte(text), &have), ErrorMatches, "invalid filter.*", Commentf(text))
	}
}
