// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"io"
	"net/http"
)

// afterRequest cancels a context when the service has a request (during) or
// when its answer is there.
type afterRequest struct {
	HTTPClient
	cancel func()
	during bool
}

func (client afterRequest) Do(req *http.Request) (*http.Response, error) {
	if client.during {
		go client.cancel()
	} else {
		defer client.cancel()
	}
	return client.HTTPClient.Do(req)
}

// bodyKeeper keeps a second reader of a request's body.
type bodyKeeper struct {
	HTTPClient
	another io.Reader
}

func (client *bodyKeeper) Do(req *http.Request) (*http.Response, error) {
	body, err := req.GetBody()
	client.another = body
	if err != nil {
		return nil, err
	}
	return client.HTTPClient.Do(req)
}
