// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxRequestSize is how large a body may be, as in Arvados's defaults.
const maxRequestSize = 128 << 20

// Given is what a client sends, by name, as it wrote it.
type Given = map[string]json.RawMessage

// Call is one request.
type Call struct {
	Method    string // after X-HTTP-Method-Override and _method
	UUID      string // of the record that the path names; "" if none
	Caller    *Caller
	Params    Params
	Attrs     Given // of the record: wrapped, as JSON in a string, or flat
	RequestID string

	body      Given // what came as JSON, as it came
	clusterID string
	path      string
	resource  *resource
}

// Params are a call's parameters, from query and body. A value that cannot be
// what is asked for counts as absent, unless the method says otherwise.
type Params Given

// readCall reads a request.
func readCall(r *http.Request) (*Call, error) {
	c := &Call{Method: r.Method, Params: Params{}}
	add := func(values url.Values) error {
		for key, list := range values {
			for _, value := range list {
				raw, err := guess(key, value)
				if err != nil {
					return refuseAsController(http.StatusInternalServerError, "%s", err)
				}
				c.Params[key] = raw
			}
		}
		return nil
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, refuseAsController(http.StatusBadRequest, "%s", err)
	}
	if err := add(query); err != nil {
		return nil, err
	}
	if r.ContentLength != 0 {
		if err := c.readBody(r, add); err != nil {
			return nil, err
		}
	}
	if override := r.Header.Get("X-Http-Method-Override"); override != "" {
		c.Method = strings.ToUpper(override)
	} else if override := c.Params.String("_method"); override != "" && r.Method == http.MethodPost {
		c.Method = strings.ToUpper(override)
	}
	delete(c.Params, "_method")
	return c, nil
}

func (c *Call) readBody(r *http.Request, add func(url.Values) error) error {
	header := r.Header.Get("Content-Type")
	contentType, params, err := mime.ParseMediaType(header)
	if err != nil && header != "" {
		return refuseAsController(http.StatusInternalServerError, "error parsing media type %q: %s", header, err)
	}
	if contentType == "multipart/form-data" {
		form := url.Values{}
		for parts := multipart.NewReader(r.Body, params["boundary"]); ; {
			part, err := parts.NextPart()
			if err == io.EOF {
				return add(form)
			}
			if err != nil {
				return badBody(err)
			}
			value, err := io.ReadAll(part)
			if err != nil {
				return badBody(err)
			}
			form.Add(part.FormName(), string(value))
		}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return badBody(err)
	}
	if contentType == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return badBody(err)
		}
		return add(form)
	}
	if (contentType != "application/json" && contentType != "") || len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, &c.body); err != nil {
		return badBody(err)
	}
	for key, raw := range c.body {
		// The Ruby client sends JSON in strings.
		var inner string
		if len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &inner) == nil {
			if raw, err = guess(key, inner); err != nil {
				return refuseAsController(http.StatusInternalServerError, "%s", err)
			}
		}
		c.Params[key] = raw
	}
	return nil
}

func badBody(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return refuseAsController(http.StatusRequestEntityTooLarge, "%s", err)
	}
	return refuseAsController(http.StatusBadRequest, "%s", err)
}

var (
	intParams  = []string{"limit", "offset"}
	boolParams = []string{"distinct", "ensure_unique_name", "include_trash", "include_old_versions", "recursive",
		"exclude_home_project", "no_forward", "bypass_federation"}
)

// guess makes JSON of a value that came as text: what looks like JSON is.
func guess(key, value string) (json.RawMessage, error) {
	switch {
	case slices.Contains(intParams, key):
		n, err := strconv.ParseInt(value, 10, 64)
		return json.RawMessage(strconv.FormatInt(n, 10)), err
	case slices.Contains(boolParams, key):
		yes := value != "" && value != "false" && value != "0"
		return json.RawMessage(strconv.FormatBool(yes)), nil
	case value == "" || value == "null":
		return json.RawMessage("null"), nil
	case strings.HasPrefix(value, "["), strings.HasPrefix(value, "{"), strings.HasPrefix(value, `"`):
		var probe any
		return json.RawMessage(value), json.Unmarshal([]byte(value), &probe)
	}
	return json.Marshal(value)
}

// readAttributes finds the attributes of the record among the parameters:
// under the resource's name, or else all of a JSON body.
func (c *Call) readAttributes(res *resource) error {
	c.Attrs = Given{}
	if res.kind == nil {
		return nil
	}
	name := res.kind.singular
	raw, ok := c.Params[name]
	delete(c.Params, name)
	if !ok || string(raw) == "null" {
		for key, raw := range c.body {
			guessed := c.Params[key]
			// Text that looks like JSON stays text, such as a workflow.
			if a := res.kind.attr(key); a != nil && (a.typ == text || a.typ == longText) && string(guessed) != "null" {
				guessed = raw
			}
			c.Attrs[key] = guessed
		}
		for _, param := range slices.Concat(boolParams, []string{"select", "replace_files", "alt", "cluster_id", "uuid_prefix", "filters", "_profile", name}) {
			delete(c.Attrs, param)
		}
		return nil
	}
	if err := json.Unmarshal(raw, &c.Attrs); err != nil {
		return refuseAsController(http.StatusInternalServerError, "transcode: %s", err)
	}
	return nil
}

// String is a text parameter, "" if it is absent.
func (p Params) String(name string) string {
	var s string
	json.Unmarshal(p[name], &s)
	return s
}

// Bool is false if the parameter is absent.
func (p Params) Bool(name string) bool {
	var yes bool
	if json.Unmarshal(p[name], &yes) != nil {
		yes = !slices.Contains([]string{"", "false", "0"}, p.String(name))
	}
	return yes
}

// Strings is a list: a JSON array, or text with commas.
func (p Params) Strings(name string) []string {
	var list []string
	if json.Unmarshal(p[name], &list) == nil {
		return list
	}
	if s := p.String(name); s != "" {
		return strings.Split(s, ",")
	}
	return nil
}

// Int is a number that must not be negative, or the default.
func (p Params) Int(name string, absent int) (int, error) {
	raw, ok := p[name]
	if !ok || string(raw) == "null" {
		return absent, nil
	}
	n, err := strconv.Atoi(strings.Trim(string(raw), `"`))
	if err != nil || n < 0 {
		return 0, argumentError("Invalid value for %s parameter", name)
	}
	return n, nil
}
