// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvadosclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// APIServerError is the API server's refusal of a request. Methods return it
// as a value, not as a pointer.
type APIServerError struct {
	ServerAddress     string // "host:port"
	HttpStatusCode    int
	HttpStatusMessage string   // "404 Not Found"
	ErrorDetails      []string // as the server words them; empty if it does not
}

// Error is one line.
func (e APIServerError) Error() string {
	status := fmt.Sprintf("%d: %s", e.HttpStatusCode, e.HttpStatusMessage)
	if len(e.ErrorDetails) > 0 {
		status = fmt.Sprintf("%s (%s)", strings.Join(e.ErrorDetails, "; "), status)
	}
	return fmt.Sprintf("arvados API server error: %s returned by %s", status, e.ServerAddress)
}

// Call sends a request about records of resourceType ("collections"), or, if
// uuid is not "", about one record; action ("lock") may be "". Parameters that
// are not strings are sent in JSON. The answer is decoded into output unless
// that is nil. An APIServerError means that the server has refused.
func (c *ArvadosClient) Call(method, resourceType, uuid, action string, parameters Dict, output interface{}) error {
	if c.ApiServer == "" {
		return errors.New("arvados client is not configured: ARVADOS_API_HOST is not set")
	}
	form := url.Values{}
	for name, value := range parameters {
		text, ok := value.(string)
		if !ok {
			encoded, err := json.Marshal(value)
			if err != nil {
				return err
			}
			text = string(encoded)
		}
		form.Set(name, text)
	}
	target := url.URL{Scheme: c.Scheme, Host: c.ApiServer}
	if target.Scheme == "" {
		target.Scheme = "https"
	}
	target.Path = path.Join("/arvados/v1", resourceType, uuid, action)
	if resourceType == ApiDiscoveryResource {
		target.Path = "/" + ApiDiscoveryResource
	}
	var body io.Reader
	if method == http.MethodGet || method == http.MethodHead {
		target.RawQuery = form.Encode()
	} else {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequest(method, target.String(), body)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if c.RequestID != "" {
		req.Header.Set("X-Request-Id", c.RequestID)
	}
	client := &arvados.Client{
		Client:    c.Client,
		AuthToken: c.ApiToken,
		Insecure:  c.ApiInsecure,
		Timeout:   30 * RetryDelay * time.Duration(c.Retries),
	}
	// Decoding is left to json.RawMessage, because some actions answer
	// with nothing at all, which is no JSON.
	var answer json.RawMessage
	err = client.DoAndDecode(&answer, req)
	var refusal *arvados.TransactionError
	if errors.As(err, &refusal) {
		return APIServerError{
			ServerAddress:     c.ApiServer,
			HttpStatusCode:    refusal.StatusCode,
			HttpStatusMessage: refusal.Status,
			ErrorDetails:      refusal.Errors,
		}
	}
	if err != nil || output == nil || len(answer) == 0 {
		return err
	}
	return json.Unmarshal(answer, output)
}

// Create makes a record.
func (c *ArvadosClient) Create(resourceType string, parameters Dict, output interface{}) error {
	return c.Call(http.MethodPost, resourceType, "", "", parameters, output)
}

// Get reads a record by its UUID, or a collection by its portable data hash.
// Anything else is ErrInvalidArgument and not sent, for a request without a
// UUID would list records.
func (c *ArvadosClient) Get(resourceType string, uuid string, parameters Dict, output interface{}) (err error) {
	if !arvados.UUIDMatch(uuid) && !(resourceType == "collections" && arvados.PDHMatch(uuid)) {
		return ErrInvalidArgument
	}
	return c.Call(http.MethodGet, resourceType, uuid, "", parameters, output)
}

// Update changes attributes of a record.
func (c *ArvadosClient) Update(resourceType string, uuid string, parameters Dict, output interface{}) (err error) {
	return c.Call(http.MethodPut, resourceType, uuid, "", parameters, output)
}

// Delete deletes a record, or moves it to the trash where there is one.
func (c *ArvadosClient) Delete(resource string, uuid string, parameters Dict, output interface{}) (err error) {
	return c.Call(http.MethodDelete, resource, uuid, "", parameters, output)
}

// List reads a page of records.
func (c *ArvadosClient) List(resource string, parameters Dict, output interface{}) (err error) {
	return c.Call(http.MethodGet, resource, "", "", parameters, output)
}

// Discovery is one value of the discovery document, which is read once. It is
// ErrInvalidArgument if the document has no such value. It must not be called
// for the first time from several goroutines at once.
func (c *ArvadosClient) Discovery(parameter string) (value interface{}, err error) {
	if len(c.DiscoveryDoc) == 0 {
		doc := Dict{}
		if err := c.Call(http.MethodGet, ApiDiscoveryResource, "", "", nil, &doc); err != nil {
			return nil, err
		}
		c.DiscoveryDoc = doc
	}
	return lookUp(c.DiscoveryDoc, parameter)
}

// ClusterConfig is one value of the configuration that the cluster publishes,
// or all of it if key is "". It is ErrInvalidArgument if there is no such key.
func (c *ArvadosClient) ClusterConfig(key string) (config interface{}, err error) {
	var all map[string]interface{}
	if err := c.Call(http.MethodGet, "config", "", "", nil, &all); err != nil {
		return nil, err
	}
	if key == "" {
		return all, nil
	}
	return lookUp(all, key)
}

func lookUp(values map[string]interface{}, key string) (interface{}, error) {
	value, ok := values[key]
	if !ok {
		return nil, ErrInvalidArgument
	}
	return value, nil
}
