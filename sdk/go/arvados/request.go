// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Parameters of this many bytes or more do not go into a URL, which servers
// and proxies limit.
const longQuery = 1000

// Refusals are read up to here: it is enough for any message.
const maxErrorBody = 1 << 20

// RequestAndDecode is RequestAndDecodeContext without a context.
func (c *Client) RequestAndDecode(dst interface{}, method, path string, body io.Reader, params interface{}) error {
	return c.RequestAndDecodeContext(context.Background(), dst, method, path, body, params)
}

// RequestAndDecodeContext sends a request to path ("arvados/v1/collections")
// and decodes the JSON answer into dst. If dst is nil the server is asked for
// the UUID alone and its answer is dropped. A body, if there is one, must be
// form encoded. params are url.Values or anything that is an object in JSON;
// they are sent in the URL or, without a body, as a form.
//
// The error is a *TransactionError when the server has refused.
func (c *Client) RequestAndDecodeContext(ctx context.Context, dst interface{}, method, path string, body io.Reader, params interface{}) error {
	if closer, ok := body.(io.Closer); ok {
		defer closer.Close()
	}
	if c.APIHost == "" {
		if c.fromEnv {
			return errors.New("ARVADOS_API_HOST and/or ARVADOS_API_TOKEN environment variables are not set")
		}
		return errors.New("arvados.Client cannot perform request: APIHost is not set")
	}
	form, err := formValues(params)
	if err != nil {
		return err
	}
	if dst == nil {
		form.Set("select", `["uuid"]`)
	}
	reading := method == http.MethodGet || method == http.MethodHead
	target := c.urlFor(path)
	if query := form.Encode(); body != nil || (reading && len(query) < longQuery) {
		if query != "" {
			target += "?" + query
		}
	} else {
		body = strings.NewReader(query)
	}
	sent := method
	if reading && body != nil {
		sent = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, sent, target, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if sent != method {
		req.Header.Set("X-Http-Method-Override", method)
	}
	for name, values := range c.SendHeader {
		req.Header[name] = values
	}
	return c.DoAndDecode(dst, req)
}

// urlFor has exactly one slash between host and path.
func (c *Client) urlFor(path string) string {
	scheme := c.Scheme
	if scheme == "" {
		scheme = "https"
	}
	return scheme + "://" + strings.TrimSuffix(c.APIHost, "/") + "/" + strings.TrimPrefix(path, "/")
}

// formValues makes a form of params: strings and numbers as they are, true
// as "true", other values in JSON. False and null are left out, as servers
// take any text, even "false", for true.
func formValues(params interface{}) (url.Values, error) {
	form := url.Values{}
	if given, ok := params.(url.Values); ok {
		for name, values := range given {
			form[name] = values
		}
		return form, nil
	}
	encoded, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(encoded, &fields); err != nil {
		return nil, err
	}
	for name, raw := range fields {
		switch value := string(raw); {
		case value == "null" || value == "false":
		case value[0] == '"':
			var text string
			if err := json.Unmarshal(raw, &text); err != nil {
				return nil, err
			}
			form.Set(name, text)
		default:
			form.Set(name, value)
		}
	}
	return form, nil
}

// DoAndDecode sends req by Do and decodes the JSON answer into dst, which may
// be nil. An answer of 204 leaves dst as it is. Where c.Client does not follow
// redirects, dst gets the target as its field redirect_location.
func (c *Client) DoAndDecode(dst interface{}, req *http.Request) error {
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		body, err := io.ReadAll(resp.Body)
		if err != nil || dst == nil {
			return err
		}
		return json.Unmarshal(body, dst)
	case http.StatusNoContent:
		return nil
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		if dst == nil {
			return nil
		}
		target, err := json.Marshal(map[string]string{"redirect_location": resp.Header.Get("Location")})
		if err != nil {
			return err
		}
		return json.NewDecoder(bytes.NewReader(target)).Decode(dst)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil {
		body = nil // the status says enough
	}
	return newTransactionError(req, resp, body)
}
