// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imageresolve

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"gopkg.in/check.v1"
)

type fieldsSuite struct{}

var _ = check.Suite(&fieldsSuite{})

const (
	pdh   = "aa74aece2d9695e90ea55207736b74f7+132"
	parts = "multipart/form-data; boundary=xyz"
	form  = "application/x-www-form-urlencoded"
	asIs  = "application/json"
)

// replaced is a request after its image was found.
func replaced(r *http.Request, body string) (query, changed string, p *parsed) {
	if p = parse(r, []byte(body)); p == nil {
		return r.URL.RawQuery, body, nil
	}
	query, changed = p.apply(r.URL.RawQuery, pdh)
	return query, changed, p
}

// Each byte but those of the name stays.
func (*fieldsSuite) TestReplace(c *check.C) {
	for _, trial := range []struct{ what, contentType, query, body, wantQuery, wantBody string }{
		{what: "wrapped", contentType: asIs,
			body:     `{ "x": 1e400, "container_request" : {"ram":12345678901234567890, "container_image" : "lab\/app:1" , "n":{"container_image":"no"}} } `,
			wantBody: `{ "x": 1e400, "container_request" : {"ram":12345678901234567890, "container_image" : "` + pdh + `" , "n":{"container_image":"no"}} } `},
		{what: "flat", contentType: "application/json; charset=UTF-8", body: `{"container_image":"lab/app:1"}`, wantBody: `{"container_image":"` + pdh + `"}`},
		{what: "flat beside null", contentType: asIs, body: `{"container_request":null,"container_image":"lab/app:1"}`,
			wantBody: `{"container_request":null,"container_image":"` + pdh + `"}`},
		{what: "no content type", body: `{"container_image":"lab/app:1"}`, wantBody: `{"container_image":"` + pdh + `"}`},
		{what: "the last one counts", contentType: asIs, body: `{"container_image":"old","container_image":"lab/app:1"}`,
			wantBody: `{"container_image":"old","container_image":"` + pdh + `"}`},
		{what: "JSON in text", contentType: asIs, body: `{"container_request":"{\"name\":\"<a&b>\",\"container_image\":\"lab/app:1\"}"}`,
			wantBody: `{"container_request":"{\"name\":\"<a&b>\",\"container_image\":\"` + pdh + `\"}"}`},
		{what: "form", contentType: form, body: `a=%zz&container_request=%7b%22container_image%22%3A%22lab%2Fapp%3A1%22%7d&b=+1`,
			wantBody: `a=%zz&container_request=%7B%22container_image%22%3A%22aa74aece2d9695e90ea55207736b74f7%2B132%22%7D&b=+1`},
		{what: "parts", contentType: parts,
			body:     part("before", `{"container_image":"lab/app:1"}`) + part("container_request", `{"container_image":"lab/app:1"}`) + part("after", "x") + "--xyz--\r\n",
			wantBody: part("before", `{"container_image":"lab/app:1"}`) + part("container_request", `{"container_image":"`+pdh+`"}`) + part("after", "x") + "--xyz--\r\n"},
		{what: "query", query: `container_request={"container_image":"lab/app:1"}&alt=json`,
			wantQuery: "container_request=%7B%22container_image%22%3A%22aa74aece2d9695e90ea55207736b74f7%2B132%22%7D&alt=json"},
		{what: "body before query", contentType: asIs, query: `container_request={"container_image":"old"}`, body: `{"container_request":{"container_image":"lab/app:1"}}`,
			wantQuery: `container_request={"container_image":"old"}`, wantBody: `{"container_request":{"container_image":"` + pdh + `"}}`},
	} {
		r := httptest.NewRequest("POST", "/arvados/v1/container_requests", nil)
		r.URL.RawQuery = trial.query
		r.Header.Set("Authorization", "Bearer token")
		r.Header.Set("Content-Type", trial.contentType)
		query, body, p := replaced(r, trial.body)
		c.Check(query, check.Equals, trial.wantQuery, check.Commentf(trial.what))
		c.Check(body, check.Equals, trial.wantBody, check.Commentf(trial.what))
		if c.Check(p, check.NotNil, check.Commentf(trial.what)) {
			c.Check(p.record.text("container_image"), check.Equals, "lab/app:1", check.Commentf(trial.what))
		}
	}
}

func part(name, value string) string {
	return "--xyz\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
}

// Requests that name no image that could be resolved.
func (*fieldsSuite) TestLeftAlone(c *check.C) {
	const image = `{"container_image":"lab/app:1"}`
	for _, trial := range []struct{ contentType, body string }{
		{asIs, ``}, {asIs, `{}`}, {asIs, `[` + image + `]`}, {asIs, image + image}, {asIs, image[:20]}, {asIs, `{"container_image":null}`},
		{asIs, `{"container_image":5}`}, {asIs, `{"container_image":""}`}, {asIs, `{"container_image":["lab/app:1"]}`},
		{asIs, `{"container_image":"` + pdh + `"}`}, {asIs, `{"container_image":"` + pdh + `+Kzzzzz"}`}, {asIs, `{"container_image":"` + pdh[:32] + `"}`},
		{asIs, `{"container_image":"arvados/builtin"}`}, {asIs, `{"container_image":"arvados/builtin:latest"}`}, {asIs, `{"container_image":"arvados/none"}`},
		{asIs, `{"container_request":5,"container_image":"lab/app:1"}`}, {asIs, `{"container_request":"lab/app:1"}`},
		{asIs, `{"_method":"GET","container_image":"lab/app:1"}`},
		{form, `container_image=lab/app:1`}, {form, `_method=GET&container_request=` + image}, {form, `_method=delete&container_request=` + image},
		{form, `container_request=%7b`}, {form, image}, {"application/x-www-form-urlencoded; x", `container_request=` + image},
		{parts, image}, {parts, part("container_request", image)[:60]}, {"multipart/form-data", part("container_request", image) + "--xyz--"},
		{parts, strings.Replace(part("container_request", image), "\r\n\r\n", "\r\nContent-Transfer-Encoding: base64\r\n\r\n", 1) + "--xyz--"},
	} {
		r := httptest.NewRequest("POST", "/arvados/v1/container_requests", nil)
		r.Header.Set("Authorization", "Bearer token")
		r.Header.Set("Content-Type", trial.contentType)
		c.Check(parse(r, []byte(trial.body)), check.IsNil, check.Commentf("%s", trial.body))
	}
}

func (*fieldsSuite) TestTokens(c *check.C) {
	const image = `"container_image":"lab/app:1"`
	for _, trial := range []struct{ header, query, contentType, body, token string }{
		{"Bearer one", "api_token=two", asIs, `{` + image + `,"api_token":"three"}`, "one"},
		{"OAuth2 one", "", asIs, `{` + image + `}`, "one"},
		{"", "api_token=two", asIs, `{` + image + `}`, "two"},
		{"", "api_token=two", asIs, `{` + image + `,"api_token":"three"}`, "three"},
		{"", "", form, `api_token=three&container_request={` + image + `}`, "three"},
		{"Bearer one", "", asIs, `{` + image + `,"runtime_token":"four"}`, "four"},
		{"Bearer one", "", asIs, `{` + image + `,"runtime_token":null}`, "one"},
		{"Basic b25lOnR3bw==", "", asIs, `{` + image + `}`, ""},
		{"", "reader_tokens=[\"two\"]", asIs, `{` + image + `}`, ""}, // good for reading alone
	} {
		r := httptest.NewRequest("POST", "/arvados/v1/container_requests", nil)
		r.URL.RawQuery = trial.query
		r.Header.Set("Authorization", trial.header)
		r.Header.Set("Content-Type", trial.contentType)
		token := ""
		if p := parse(r, []byte(trial.body)); p != nil {
			token = p.token
		}
		c.Check(token, check.Equals, trial.token, check.Commentf("%v", trial))
	}
}

var contentTypes = []string{asIs, form, parts}

// Whatever comes, a changed request says the same but for the image.
func FuzzParse(f *testing.F) {
	for _, body := range []string{`{"container_image":"a"}`, `{"container_request":{"container_image":"a","x":[1,{}]}}`,
		`{"container_request":"{\"container_image\":\"a\"}"}`, `container_request={"container_image":"a"}&b=c`,
		part("container_request", `{"container_image":"a"}`) + "--xyz--\r\n"} {
		for i := range contentTypes {
			f.Add(byte(i), body)
		}
	}
	f.Fuzz(func(t *testing.T, pick byte, body string) {
		r := httptest.NewRequest("POST", "/arvados/v1/container_requests", nil)
		r.Header.Set("Authorization", "Bearer token")
		r.Header.Set("Content-Type", contentTypes[int(pick)%len(contentTypes)])
		_, changed, was := replaced(r, body)
		if was == nil {
			return
		}
		is := parseImage(r, changed)
		if is["container_image"] != pdh {
			t.Fatalf("%q became %q", body, changed)
		}
		before := parseImage(r, body)
		delete(before, "container_image")
		delete(is, "container_image")
		if !reflect.DeepEqual(before, is) {
			t.Fatalf("%q became %q", body, changed)
		}
	})
}

// parseImage is the record of a request, read by other means.
func parseImage(r *http.Request, body string) map[string]any {
	again := r.Clone(r.Context())
	again.Body = io.NopCloser(strings.NewReader(body))
	again.ContentLength = int64(len(body))
	text := ""
	if r.Header.Get("Content-Type") != asIs {
		again.ParseMultipartForm(1 << 20)
		if values := again.PostForm["container_request"]; len(values) > 0 {
			text = values[len(values)-1]
		}
		if again.MultipartForm != nil {
			if values := again.MultipartForm.Value["container_request"]; len(values) > 0 {
				text = values[len(values)-1]
			}
		}
	} else {
		var whole map[string]json.RawMessage
		json.Unmarshal([]byte(body), &whole)
		text = body
		if wrapped, ok := whole["container_request"]; ok && string(wrapped) != "null" {
			if text = string(wrapped); wrapped[0] == '"' {
				json.Unmarshal(wrapped, &text)
			}
		}
	}
	var record map[string]any
	json.Unmarshal([]byte(text), &record)
	return record
}

func Test(t *testing.T) {
	defer goleak.VerifyNone(t)
	check.TestingT(t)
}
