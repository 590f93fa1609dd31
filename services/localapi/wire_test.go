// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"gopkg.in/check.v1"
)

var _ = check.Suite(&wireSuite{})

// wireSuite is about how clients write their requests. Those that tests can
// install are run in cmd/arvados-local; these are the others.
type wireSuite struct{ workSuite }

// What is sent is the same each time, by clients in their own ways.
func (suite *wireSuite) TestWaysToSendARecord(c *check.C) {
	s := suite.workplace(c)
	record := s.request(Record{"name": "sent", "state": "Uncommitted"})
	plain, err := json.Marshal(record)
	c.Assert(err, check.IsNil)
	text, err := json.Marshal(string(plain))
	c.Assert(err, check.IsNil)
	form := url.Values{"container_request": {string(plain)}}.Encode()
	for _, way := range []struct{ client, query, contentType, body string }{
		{"Go SDK", "", "application/json", fmt.Sprintf(`{"container_request":%s}`, plain)},
		{"Go SDK with parameters", "", "application/json", fmt.Sprintf(`{"container_request":%s,"select":["uuid","name","command"],"ensure_unique_name":true}`, plain)},
		{"Ruby arv", "?_profile=true&help=false&ensure_unique_name_given=true", "application/json", fmt.Sprintf(`{"container_request":%s}`, text)},
		{"Python arv", "?alt=json&ensure_unique_name=false&cluster_id=", "application/json", string(plain)},
		{"Python SDK", "?alt=json", "application/json", fmt.Sprintf(`{"container_request":%s}`, plain)},
		{"a form", "", "application/x-www-form-urlencoded", form},
	} {
		made := s.alice.raw("POST", "container_requests"+way.query, way.contentType, strings.NewReader(way.body))
		c.Check(made.status, check.Equals, 200, check.Commentf("%s: %v", way.client, made.body))
		c.Check(made.body["name"], check.Equals, "sent", check.Commentf(way.client))
		c.Check(made.body["command"], check.DeepEquals, []any{"echo", "hi"}, check.Commentf(way.client))

		path := "container_requests/" + made.uuid() + way.query
		change := map[string]string{
			"Ruby arv":   `{"container_request":"{\"name\":\"changed\"}"}`,
			"Python arv": `{"name":"changed"}`,
		}[way.client]
		if change == "" {
			change = `{"container_request":{"name":"changed"}}`
		}
		changed := s.alice.raw("PUT", path, "application/json", strings.NewReader(change))
		c.Check(changed.body["name"], check.Equals, "changed", check.Commentf("%s: %v", way.client, changed.body))
	}
}

// Text that is JSON is text all the same, as in a workflow that arv-copy sends.
func (suite *wireSuite) TestTextThatLooksLikeJSON(c *check.C) {
	s := suite.workplace(c)
	definition := `{"$graph": [], "cwlVersion": "v1.2"}`
	for _, body := range []Record{
		{"name": "flat", "definition": definition},
		{"workflow": Record{"name": "wrapped", "definition": definition}},
	} {
		made := s.post(s.alice, "workflows", body)
		c.Check(s.get(s.alice, "workflows/"+textOf(made["uuid"]))["definition"], check.Equals, definition)
	}
}

// What does not fit into an address is sent as a form.
func (suite *wireSuite) TestWaysToAskForALongList(c *check.C) {
	s := suite.workplace(c)
	made := s.collection(s.alice, outputText, Record{"name": "wanted"})
	uuids := []any{made["uuid"]}
	for i := range 100 {
		uuids = append(uuids, fmt.Sprintf("%s-4zz18-%015d", cluster, i))
	}
	filters, err := json.Marshal([]any{[]any{"uuid", "in", uuids}})
	c.Assert(err, check.IsNil)
	query := url.Values{"filters": {string(filters)}, "count": {"none"}, "alt": {"json"}}
	const form = "application/x-www-form-urlencoded"
	workbench := url.Values{"_method": {"GET"}}
	for key, values := range query {
		workbench[key] = values
	}
	for client, reply := range map[string]answer{
		"in the address": s.alice.raw("GET", "collections?"+query.Encode(), "", nil),
		"Python SDK":     s.alice.raw("POST", "collections", form, strings.NewReader(query.Encode()), "X-HTTP-Method-Override", "GET"),
		"Workbench":      s.alice.raw("POST", "collections", form, strings.NewReader(workbench.Encode())),
	} {
		c.Check(reply.status, check.Equals, 200, check.Commentf(client))
		c.Check(reply.names(), check.DeepEquals, []string{"wanted"}, check.Commentf(client))
		_, counted := reply.body["items_available"]
		c.Check(counted, check.Equals, false, check.Commentf(client))
	}
}

// Clients page by time and UUID until a page comes empty.
func (suite *wireSuite) TestPagesByKey(c *check.C) {
	s := suite.workplace(c)
	for i := range 25 {
		s.collection(s.alice, outputText, Record{"name": fmt.Sprint("n", i)})
	}
	seen := map[any]bool{}
	last, pages := Record(nil), 0
	for {
		filters := []any{[]any{"name", "like", "n%"}}
		if last != nil {
			filters = append([]any{[]any{"created_at", ">=", last["created_at"]}, []any{"uuid", "!=", last["uuid"]}}, filters...)
		}
		text, err := json.Marshal(filters)
		c.Assert(err, check.IsNil)
		query := url.Values{"filters": {string(text)}, "order": {`["created_at asc","uuid asc"]`}, "limit": {"10"}, "count": {"none"},
			"select": {`["uuid","created_at"]`}}
		items := s.get(s.alice, "collections?"+query.Encode())["items"].([]any)
		pages++
		if len(items) == 0 {
			break
		}
		for _, item := range items {
			last = item.(map[string]any)
			c.Check(seen[last["uuid"]], check.Equals, false)
			seen[last["uuid"]] = true
		}
	}
	c.Check(seen, check.HasLen, 25)
	c.Check(pages, check.Equals, 4)
}
