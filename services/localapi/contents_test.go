// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"net/url"

	"gopkg.in/check.v1"
)

var _ = check.Suite(&contentsSuite{})

type contentsSuite struct{ workSuite }

// In a project lie another with a collection in it, a request whose container
// is there, a workflow and two collections.
func (suite *contentsSuite) TestWhatLiesInAProject(c *check.C) {
	s := suite.workplace(c)
	top := s.post(s.alice, "groups", project("top", nil))
	below := s.post(s.alice, "groups", project("below", top["uuid"]))
	s.collection(s.alice, outputText, Record{"name": "deep", "owner_uuid": below["uuid"]})
	for _, name := range []string{"b", "a"} {
		s.collection(s.alice, outputText, Record{"name": name, "owner_uuid": top["uuid"], "properties": Record{"type": "output"}})
	}
	request := s.submit(s.alice, Record{"name": "run", "owner_uuid": top["uuid"], "properties": Record{"template_uuid": "t"}})
	s.post(s.alice, "workflows", Record{"name": "flow", "definition": "$graph: []", "owner_uuid": top["uuid"]})
	in := textOf(top["uuid"])

	for _, t := range []struct {
		path  string
		query url.Values
		want  []string
		total any // nil: not counted
	}{
		{path: "groups/" + in + "/contents", want: []string{"below", "run", "flow", "a", "b"}, total: int64(5)},
		{path: "groups/contents", query: url.Values{"uuid": {in}}, want: []string{"below", "run", "flow", "a", "b"}, total: int64(5)},
		{path: "groups/" + in + "/contents", query: url.Values{"recursive": {"true"}}, want: []string{"below", "run", "flow", "a", "b", "deep"}, total: int64(6)},
		{path: "groups/" + in + "/contents", query: url.Values{"limit": {"2"}, "offset": {"2"}}, want: []string{"flow", "a"}, total: int64(5)},
		{path: "groups/" + in + "/contents", query: url.Values{"limit": {"0"}}, want: []string{}, total: int64(5)},
		{path: "groups/" + in + "/contents", query: url.Values{"count": {"none"}, "limit": {"1"}}, want: []string{"below"}},
		{path: "groups/" + in + "/contents", query: url.Values{"filters": {`[["uuid","is_a",["arvados#collection","arvados#workflow"]]]`}}, want: []string{"flow", "a", "b"}, total: int64(3)},
		// A filter for one kind lets the others through.
		{path: "groups/" + in + "/contents", query: url.Values{"filters": {`[["collections.properties.type","=","none"]]`}}, want: []string{"below", "run", "flow"}, total: int64(3)},
		// What a kind does not have it cannot be asked for.
		{path: "groups/" + in + "/contents", query: url.Values{"filters": {`[["portable_data_hash","!=",""]]`}}, want: []string{"a", "b"}, total: int64(2)},
		// The runs of a workflow, as Workbench lists them.
		{path: "groups/contents", query: url.Values{"filters": {`[["uuid","is_a","arvados#containerRequest"],["container_requests.properties.template_uuid","=","t"]]`}}, want: []string{"run"}, total: int64(1)},
	} {
		if t.query == nil {
			t.query = url.Values{}
		}
		t.query.Set("order", `["name asc"]`)
		reply := s.alice.must("GET", t.path+"?"+t.query.Encode(), nil)
		comment := check.Commentf("%s %v", t.path, t.query)
		c.Check(reply.names(), check.DeepEquals, t.want, comment)
		c.Check(reply.body["items_available"], check.Equals, t.total, comment)
		c.Check(reply.body["kind"], check.Equals, "arvados#objectList")
	}

	// The page of a process.
	query := url.Values{"include": {`["container_uuid","owner_uuid"]`}, "filters": {`[["uuid","is_a","arvados#containerRequest"],["uuid","=","` + textOf(request["uuid"]) + `"]]`}}
	reply := s.get(s.alice, "groups/contents?"+query.Encode())
	item := reply["items"].([]any)[0].(map[string]any)
	c.Check(item["kind"], check.Equals, "arvados#containerRequest")
	var shown []any
	for _, rec := range reply["included"].([]any) {
		shown = append(shown, rec.(map[string]any)["uuid"])
	}
	c.Check(shown, check.DeepEquals, []any{top["uuid"], request["container_uuid"]})
}

func (suite *contentsSuite) TestWhoSeesIt(c *check.C) {
	s := suite.workplace(c)
	mine := s.post(s.alice, "groups", project("mine", nil))
	s.collection(s.alice, outputText, Record{"name": "inside", "owner_uuid": mine["uuid"]})
	s.collection(s.alice, outputText, Record{"name": "at home"})

	c.Check(s.alice.must("GET", "groups/"+s.aliceUUID+"/contents", nil).names(), check.DeepEquals, []string{"mine", "at home"})
	s.refused(404, "Path not found", s.bob, "GET", groupPath(mine)+"/contents", nil)
	c.Check(s.bob.must("GET", "groups/contents", nil).names(), check.HasLen, 1) // the empty collection
	s.refused(404, "Path not found", s.alice, "GET", "groups/zzzzz-4zz18-000000000000000/contents", nil)
	s.refused(422, "Invalid include parameter", s.alice, "GET", "groups/contents?include=nonsense", nil)
	s.alice.must("DELETE", groupPath(mine), nil)
	c.Check(s.alice.must("GET", "groups/"+s.aliceUUID+"/contents", nil).names(), check.DeepEquals, []string{"at home"})
}
