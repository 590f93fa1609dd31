// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// TransactionError is the API server's refusal of a request. Methods of
// Client return it as a pointer.
type TransactionError struct {
	Method     string
	URL        url.URL
	StatusCode int
	Status     string   // "422 Unprocessable Entity"
	Errors     []string // as the server words them; empty if it does not
}

// Error is one line, "request failed: URL: STATUS: error; error".
func (e TransactionError) Error() string {
	parts := []string{"request failed", e.URL.Redacted()}
	if e.Status != "" {
		parts = append(parts, e.Status)
	}
	if len(e.Errors) > 0 {
		parts = append(parts, strings.Join(e.Errors, "; "))
	}
	return strings.Join(parts, ": ")
}

// HTTPStatus is StatusCode, for callers that accept several kinds of errors.
func (e TransactionError) HTTPStatus() int {
	return e.StatusCode
}

func newTransactionError(req *http.Request, resp *http.Response, body []byte) *TransactionError {
	e := &TransactionError{
		Method:     req.Method,
		URL:        *req.URL,
		StatusCode: resp.StatusCode,
		Status:     resp.Status,
	}
	var answer struct {
		Errors []interface{} `json:"errors"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return e // a web page of some proxy; the status must do
	}
	for _, item := range answer.Errors {
		text, ok := item.(string)
		if !ok {
			text = fmt.Sprint(item)
		}
		e.Errors = append(e.Errors, text)
	}
	return e
}
