// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import (
	"errors"
	"net/http"
	"strings"

	. "gopkg.in/check.v1"
)

func (s *ClientSuite) TestRefusals(c *C) {
	for _, trial := range []struct {
		about  string
		answer answer
		errors []string
		text   string
	}{
		{"controller", answer{422, `{"errors":["//railsapi.internal/arvados/v1/collections: 422 Unprocessable Entity: x (req-1)"]}`, nil},
			[]string{"//railsapi.internal/arvados/v1/collections: 422 Unprocessable Entity: x (req-1)"},
			`request failed: http://[^ ]*/arvados/v1/things\?select=.*: 422 Unprocessable Entity: //railsapi.internal/.* \(req-1\)`},
		{"passed through", answer{403, `{"errors":["one","two"],"error_token":"1+2"}`, nil},
			[]string{"one", "two"}, `.*: 403 Forbidden: one; two`},
		{"odd items", answer{404, `{"errors":["one",{"k":"v"}]}`, nil}, []string{"one", "map[k:v]"}, `.*: 404 Not Found: one; map\[k:v\]`},
		{"no list", answer{401, `{"error":"nope"}`, nil}, nil, `.*: 401 Unauthorized`},
		{"a web page", answer{404, `<html>`, nil}, nil, `.*: 404 Not Found`},
		{"nothing", answer{400, ``, nil}, nil, `.*: 400 Bad Request`},
		{"not implemented", answer{501, `{"errors":["jobs"]}`, nil}, []string{"jobs"}, `.*: 501 Not Implemented: jobs`},
		{"another success", answer{202, `{}`, nil}, nil, `.*: 202 Accepted`},
	} {
		fake := newFakeAPI(trial.answer)
		err := fake.client().RequestAndDecode(nil, "GET", "arvados/v1/things", nil, nil)
		fake.Close()
		comment := Commentf(trial.about)
		c.Check(err, ErrorMatches, trial.text, comment)
		var refusal *TransactionError
		c.Assert(errors.As(err, &refusal), Equals, true, comment)
		c.Check(refusal.Errors, DeepEquals, trial.errors, comment)
		c.Check(refusal.HTTPStatus(), Equals, trial.answer.status, comment)
		c.Check(refusal.Method, Equals, "GET", comment)
		c.Check(refusal.URL.Path, Equals, "/arvados/v1/things", comment)
		c.Check(len(fake.requests()), Equals, 1, comment)
		c.Check(strings.Contains(err.Error(), "v2/token"), Equals, false, comment)
	}
}

func (s *ClientSuite) TestNoContentLeavesTheTargetAlone(c *C) {
	fake := newFakeAPI(answer{204, "", nil})
	defer fake.Close()
	dst := ok{"before": true}
	c.Check(fake.client().RequestAndDecode(&dst, "POST", "x", nil, nil), IsNil)
	c.Check(dst, DeepEquals, ok{"before": true})
}

func (s *ClientSuite) TestWhatIsNotJSON(c *C) {
	fake := newFakeAPI(answer{200, "<html>", nil})
	defer fake.Close()
	var dst ok
	c.Check(fake.client().RequestAndDecode(&dst, "GET", "x", nil, nil), ErrorMatches, "invalid character.*")
	c.Check(fake.client().RequestAndDecode(nil, "GET", "x", nil, nil), IsNil)
}

func (s *ClientSuite) TestRedirects(c *C) {
	fake := newFakeAPI(
		answer{302, "", map[string]string{"Location": "/elsewhere"}},
		answer{200, `{"a":"b"}`, nil},
		answer{302, "", map[string]string{"Location": "https://other.example/"}})
	defer fake.Close()
	var dst struct {
		A                string
		RedirectLocation string `json:"redirect_location"`
	}
	client := fake.client()
	c.Check(client.RequestAndDecode(&dst, "GET", "x", nil, nil), IsNil)
	c.Check(dst.A, Equals, "b")

	client.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	c.Check(client.RequestAndDecode(&dst, "GET", "x", nil, nil), IsNil)
	c.Check(dst.RedirectLocation, Equals, "https://other.example/")
	c.Check(client.RequestAndDecode(nil, "GET", "x", nil, nil), IsNil)
}

func (s *ClientSuite) TestCurrentUser(c *C) {
	fake := newFakeAPI(answer{200, `{"uuid":"zzzzz-tpzed-000000000000001","is_admin":true}`, nil})
	defer fake.Close()
	user, err := fake.client().CurrentUser()
	c.Check(err, IsNil)
	c.Check(user.UUID, Equals, "zzzzz-tpzed-000000000000001")
	c.Check(user.IsAdmin, Equals, true)
	c.Check(fake.requests()[0].path, Equals, "/arvados/v1/users/current")
}

func (s *ClientSuite) TestDiscoveryDocumentIsReadOnce(c *C) {
	fake := newFakeAPI(answer{404, "", nil}, answer{200, `{"basePath":"/arvados/v1/","defaultCollectionReplication":3,"blobSignatureTtl":1209600,"revision":"20260807"}`, nil})
	defer fake.Close()
	client := fake.client()
	client.discovery = new(discoveryCache)
	_, err := client.DiscoveryDocument()
	c.Check(err, ErrorMatches, ".*404.*")
	for range 3 {
		doc, err := client.DiscoveryDocument()
		c.Check(err, IsNil)
		c.Check(*doc, Equals, DiscoveryDocument{"/arvados/v1/", 3, 1209600, "20260807"})
	}
	c.Check(len(fake.requests()), Equals, 2)
	c.Check(fake.requests()[0].path, Equals, "/discovery/v1/apis/arvados/v1/rest")
}

func (s *ClientSuite) TestEachKeepServiceReadsAllPages(c *C) {
	page := func(uuids string, available string) answer {
		return answer{200, `{"items":[` + uuids + `],"items_available":` + available + `}`, nil}
	}
	fake := newFakeAPI(page(`{"uuid":"a"},{"uuid":"b"}`, "3"), page(`{"uuid":"c"}`, "3"),
		page(`{"uuid":"a"}`, "9"), page(``, "9"), page(`{"uuid":"a"},{"uuid":"b"}`, "3"), answer{403, "", nil})
	defer fake.Close()
	var uuids []string
	collect := func(service KeepService) error {
		uuids = append(uuids, service.UUID)
		return nil
	}
	c.Check(fake.client().EachKeepService(collect), IsNil)
	c.Check(uuids, DeepEquals, []string{"a", "b", "c"})
	c.Check(fake.requests()[1].query.Get("offset"), Equals, "2")

	c.Check(fake.client().EachKeepService(collect), IsNil, Commentf("a list that became shorter ends"))
	c.Check(uuids, DeepEquals, []string{"a", "b", "c", "a"})

	enough := errors.New("enough")
	c.Check(fake.client().EachKeepService(func(KeepService) error { return enough }), Equals, enough)
	c.Check(fake.client().EachKeepService(collect), ErrorMatches, ".*403 Forbidden")
}
