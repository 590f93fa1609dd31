// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// resource is what can be done under one name of the API. To add one, write a
// function that makes it and append that to resourceMakers (from an init
// function of its file).
//
// An action is given the transaction of its request, which can write unless
// the method is GET, and the Call: who calls and what was sent. It returns
//
//   - a Record, which is shown as its kind says, cut to what "select" asks for;
//   - a *page of records, likewise;
//   - verbatim(x), shown as it is;
//
// or an error: of refuse and its relatives (errors.go), which become replies
// in the form that the resource has, or any other, which becomes a 500. An
// error undoes what the action has written.
type resource struct {
	name string
	kind *kind // nil if there are no records
	// raw: controller passes the resource through to RailsAPI, so refusals
	// and replies have RailsAPI's form.
	raw bool
	// actions by method and rest of the path: "POST", "GET /current",
	// "PATCH /{uuid}", "POST /{uuid}/lock".
	actions map[string]action
	// prepare, if not nil, makes a record what its reader sees.
	prepare func(tx *Tx, c *Call, rec Record) error
}

type action struct {
	run func(tx *Tx, c *Call) (any, error)
	// public: needs no token.
	public bool
	// params are query parameters for the discovery document, beside those
	// that every action of that method has.
	params []string
	doc    string
}

// verbatim is a reply that is shown as it is.
func verbatim(v any) any { return literal{v} }

type literal struct{ value any }

// resourceMakers make all resources of a server.
var resourceMakers []func(*Server) *resource

var (
	apiPath       = regexp.MustCompile(`^/arvados/v1/([a-z_]+)(?:/([^/]+))?(?:/([a-z_]+))?$`)
	recordPattern = regexp.MustCompile(`^([0-9a-z]{5}-[0-9a-z]{5}-[0-9a-z]{15}|[0-9a-f]{32}\+[0-9]+.*)$`)
	requestIDForm = regexp.MustCompile(`^req-[0-9a-z]{20}$`)
)

// ServeHTTP answers all requests of the API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	requestID := r.Header.Get("X-Request-Id")
	if !requestIDForm.MatchString(requestID) {
		requestID = "req-" + randomWord(20)
	}
	w.Header().Set("X-Request-Id", requestID)
	if s.crossOrigin(w, r) {
		return
	}
	if r.Body != nil {
		r.Body = http.MaxBytesReader(w, r.Body, maxRequestSize)
	}
	switch {
	case r.URL.Path == "/discovery/v1/apis/arvados/v1/rest" && r.Method == http.MethodGet:
		s.reply(w, http.StatusOK, s.discovery)
		return
	case r.URL.Path == "/_health/ping":
		s.reply(w, http.StatusOK, map[string]any{"health": "OK"})
		return
	}
	call, err := readCall(r)
	if err != nil {
		status, body := errorBody(err, requestID, strings.TrimPrefix(r.URL.Path, "/arvados/v1/"), false)
		s.reply(w, status, body)
		return
	}
	call.RequestID, call.clusterID = requestID, s.clusterID
	status, body := s.answer(r, call)
	s.reply(w, status, body)
}

// crossOrigin lets browsers call the API from any page: they need a token
// anyway. It is true if that was the whole request.
func (s *Server) crossOrigin(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	if r.Method != http.MethodOptions {
		return false
	}
	w.Header().Set("Access-Control-Allow-Methods", "GET, HEAD, PUT, POST, PATCH, DELETE")
	w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Http-Method-Override, X-Request-Id")
	w.Header().Set("Access-Control-Max-Age", "86486400")
	return true
}

// answer runs the action that a call asks for.
func (s *Server) answer(r *http.Request, c *Call) (int, any) {
	res, act, err := s.route(r.URL.Path, c)
	if err != nil {
		return errorBody(err, c.RequestID, c.path, res != nil && res.raw)
	}
	c.resource = res
	var body any
	in := s.store.Tx
	if c.Method == http.MethodGet {
		in = s.store.View
	}
	err = in(r.Context(), func(tx *Tx) error {
		var err error
		if c.Caller, err = s.authenticate(tx, r, c); err != nil && !act.public {
			return err
		}
		if err := c.readAttributes(res); err != nil {
			return err
		}
		result, err := act.run(tx, c)
		if err != nil {
			return err
		}
		body, err = c.show(tx, result)
		return err
	})
	if err != nil {
		var r *refusal
		if !errors.As(err, &r) {
			s.log.WithField("request", c.RequestID).Warnf("%s %s: %v", c.Method, c.path, err)
		}
		return errorBody(err, c.RequestID, c.railsPath(), res.raw)
	}
	return http.StatusOK, body
}

// route finds the action for a path, and fills in the call's UUID.
func (s *Server) route(path string, c *Call) (*resource, action, error) {
	parts := apiPath.FindStringSubmatch(strings.TrimSuffix(path, "/"))
	if parts == nil {
		return nil, action{}, refuseAsController(http.StatusNotFound, "API endpoint not found")
	}
	c.path = strings.TrimPrefix(parts[0], "/arvados/v1/")
	res := s.resources[parts[1]]
	if res == nil {
		return nil, action{}, refuseAsController(http.StatusNotImplemented, "this server does not offer %s", parts[1])
	}
	method := c.Method
	if method == http.MethodPut {
		method = http.MethodPatch
	}
	rest := ""
	switch {
	case parts[3] != "":
		c.UUID, rest = parts[2], " /{uuid}/"+parts[3]
	case recordPattern.MatchString(parts[2]):
		c.UUID, rest = parts[2], " /{uuid}"
	case parts[2] != "":
		rest = " /" + parts[2]
	}
	if act, ok := res.actions[method+rest]; ok {
		return res, act, nil
	}
	// Known elsewhere in Arvados: say so, rather than that a record was not
	// found.
	others := slices.ContainsFunc([]string{"GET", "POST", "PATCH", "DELETE"}, func(m string) bool {
		_, ok := res.actions[m+rest]
		return ok
	})
	switch {
	case others:
		return res, action{}, refuseAsController(http.StatusMethodNotAllowed, "%s %s: method not allowed", c.Method, c.path)
	case strings.HasPrefix(rest, " /{uuid}"):
		return res, action{}, refuseAsController(http.StatusNotImplemented, "this server does not offer %s %s%s", c.Method, res.name, strings.TrimSpace(rest))
	case c.Method == http.MethodGet && res.kind != nil && !strings.Contains(rest, "_"):
		return res, action{}, errNotFound
	}
	return res, action{}, refuseAsController(http.StatusNotImplemented, "this server does not offer %s %s", c.Method, c.path)
}

// reply writes a body as JSON.
func (s *Server) reply(w http.ResponseWriter, status int, body any) {
	buf, err := encodeJSON(body)
	if err != nil {
		status, buf = http.StatusInternalServerError, []byte(fmt.Sprintf(`{"errors":[%q]}`, err.Error()))
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", fmt.Sprint(len(buf)))
	w.WriteHeader(status)
	w.Write(buf)
}
