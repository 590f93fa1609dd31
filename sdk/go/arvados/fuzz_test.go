// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A filter that is accepted stays the same when it is sent on.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{`["uuid","=","x"]`, `["a","in",["x",null,1.5]]`, `"(a < b)"`, `["a","=",{}]`, `[]`, `null`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var filter, again Filter
		if json.Unmarshal([]byte(text), &filter) != nil {
			return
		}
		sent, err := json.Marshal([]Filter{filter})
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if err := json.Unmarshal(sent[1:len(sent)-1], &again); err != nil {
			t.Fatalf("%s became %s: %v", text, sent, err)
		}
		if !reflect.DeepEqual(filter, again) {
			t.Fatalf("%v became %v", filter, again)
		}
	})
}

// No answer, however odd, loses the status.
func FuzzRefusal(f *testing.F) {
	for _, seed := range []string{`{"errors":["a","b"]}`, `{"errors":"a"}`, `{"errors":[{"a":1},null]}`, `<html>`, ``, `null`, `[]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		req := &http.Request{Method: "GET", URL: &url.URL{Scheme: "https", Host: "host", Path: "/x"}}
		resp := &http.Response{StatusCode: 422, Status: "422 Unprocessable Entity"}
		err := newTransactionError(req, resp, body)
		if err.HTTPStatus() != 422 || !strings.HasPrefix(err.Error(), "request failed: https://host/x: 422 Unprocessable Entity") {
			t.Fatalf("%s: %v", body, err)
		}
	})
}

// No settings file, however odd, keeps a client from being made.
func FuzzSettings(f *testing.F) {
	f.Add("ARVADOS_API_HOST=h\nARVADOS_API_TOKEN = t \r\n#x\n")
	f.Add("ARVADOS_KEEP_SERVICES=http://a ://b")
	f.Add("=\n==\n")
	f.Fuzz(func(t *testing.T, text string) {
		home := t.TempDir()
		t.Setenv("HOME", home)
		for _, name := range []string{"HOST", "TOKEN", "HOST_INSECURE"} {
			t.Setenv("ARVADOS_API_"+name, "")
			os.Unsetenv("ARVADOS_API_" + name)
		}
		dir := filepath.Join(home, ".config", "arvados")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "settings.conf"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		client := NewClientFromEnv()
		if strings.ContainsAny(client.APIHost+client.AuthToken, "\n") {
			t.Fatalf("a setting of two lines: %q, %q", client.APIHost, client.AuthToken)
		}
		for _, uri := range client.KeepServiceURIs {
			if u, err := url.Parse(uri); err != nil || !u.IsAbs() {
				t.Fatalf("not a base URL: %q", uri)
			}
		}
	})
}

// Parameters arrive as they were, whichever way they are sent.
func TestAnyParameters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		number := rapid.Int64().Draw(t, "number")
		flag := rapid.Bool().Draw(t, "flag")
		list := rapid.SliceOf(rapid.String()).Draw(t, "list")
		form, err := formValues(map[string]interface{}{
			"text": text, "number": number, "flag": flag, "list": list, "object": map[string]interface{}{"k": text},
		})
		if err != nil {
			t.Fatal(err)
		}
		form, err = url.ParseQuery(form.Encode())
		if err != nil {
			t.Fatal(err)
		}
		var gotNumber int64
		var gotList []string
		var gotObject map[string]string
		for name, dst := range map[string]interface{}{"number": &gotNumber, "list": &gotList, "object": &gotObject} {
			if err := json.Unmarshal([]byte(form.Get(name)), dst); err != nil && form.Has(name) {
				t.Fatalf("%s: %v", name, err)
			}
		}
		wantText, _ := json.Marshal(text)
		gotText, _ := json.Marshal(form.Get("text"))
		if string(gotText) != string(wantText) || gotNumber != number || form.Has("flag") != flag || gotObject["k"] != form.Get("text") {
			t.Fatalf("%q", form)
		}
		if len(gotList) != len(list) {
			t.Fatalf("%q for %q", gotList, list)
		}
	})
}
