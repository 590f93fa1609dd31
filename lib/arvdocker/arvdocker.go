// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package arvdocker is the client arv-docker: people pull, build, list, name,
// load, save and check container images in Arvados with it, in docker's words,
// on machines that have no docker.
//
// What has to be fetched or built is submitted as a container request and
// followed; nothing of it happens here. The package talks to the API server and
// to Keep with the user's own token, to a registry to learn what a tag means,
// and to an engine only to push what that has. It never removes anything, and
// shows no token, password or secret.
package arvdocker

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/keepfile/keepaccess"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/keepclient"
)

// Program is one call of arv-docker, and what it has to do with its
// surroundings.
type Program struct {
	API    *arvados.Client // as the user
	Stdin  io.Reader
	Stdout io.Writer // what was asked for
	Stderr io.Writer // progress, logs, errors
	// Project, from ARVADOS_PROJECT_UUID, is where requests and images go if
	// the command line does not say; "" is the project of the container that
	// this runs in, or the user's home if it runs in none.
	Project string
	// Terminal: somebody watches Stderr on a terminal, where a line can be
	// written over.
	Terminal bool
	// Poll is the time between two looks at a container request; 0 means a
	// second.
	Poll time.Duration
}

// session is a Program that knows the API server and the user.
type session struct {
	*Program
	*status
	user         arvados.User
	byProperties *bool // see resolvesByProperties; nil until somebody wants to know
}

// answerTime is how long the API server may take to answer at all. Later requests
// may take as long as Program.API lets them.
const answerTime = 15 * time.Second

// projectVariable is where Program.Project comes from.
const projectVariable = "ARVADOS_PROJECT_UUID"

const settingsHint = "set it in the environment or in ~/.config/arvados/settings.conf; Workbench shows it under \"Get API token\""

// connect sees whether the settings lead to an API server that knows the user.
func (p *Program) connect(ctx context.Context) (*session, error) {
	if err := p.checkSettings(); err != nil {
		return nil, err
	}
	s := p.newSession()
	return s, s.identify(ctx)
}

func (p *Program) checkSettings() error {
	for _, setting := range []struct{ name, value string }{
		{"ARVADOS_API_HOST", p.API.APIHost},
		{"ARVADOS_API_TOKEN", p.API.AuthToken},
	} {
		if setting.value == "" {
			return wrong(setting.name, errors.New("it is not set"), settingsHint)
		}
	}
	return nil
}

// newSession is a session that does not know yet who the user is.
func (p *Program) newSession() *session {
	return &session{Program: p, status: newStatus(p.Stderr, p.Terminal)}
}

// first is the client for the first request to a server, which has to answer
// soon.
func (s *session) first() *arvados.Client {
	return &arvados.Client{
		Client:     s.API.Client,
		Scheme:     s.API.Scheme,
		APIHost:    s.API.APIHost,
		AuthToken:  s.API.AuthToken,
		Insecure:   s.API.Insecure,
		SendHeader: s.API.SendHeader,
		Timeout:    min(s.API.Timeout, answerTime),
	}
}

// identify asks the API server who the user is.
func (s *session) identify(ctx context.Context) error {
	const path = "users/current"
	// Tried once: a wrong host, port or certificate does not become right by
	// waiting for it. A server that is busy may.
	once := s.first()
	once.Timeout = 0
	soon, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	err := s.callBy(soon, once, &s.user, http.MethodGet, path, nil)
	var busy *arvados.TransactionError
	if errors.As(err, &busy) && fault.Transient(err) {
		err = s.callBy(ctx, s.first(), &s.user, http.MethodGet, path, nil)
	}
	if err == nil && !arvados.UUIDMatch(s.user.UUID) {
		err = s.notArvados(errors.New("it does not say who the user is"))
	}
	return err
}

// call is one request to the API server. path is relative to arvados/v1.
func (s *session) call(ctx context.Context, dst interface{}, method, path string, params interface{}) error {
	return s.callBy(ctx, s.API, dst, method, path, params)
}

func (s *session) callBy(ctx context.Context, client *arvados.Client, dst interface{}, method, path string, params interface{}) error {
	return s.explain(method, path, client.RequestAndDecodeContext(ctx, dst, method, "arvados/v1/"+path, nil, params))
}

// explain says of an error of the API server what the user can do; nil stays nil.
func (s *session) explain(method, path string, err error) error {
	if err == nil {
		return nil
	}
	var refused *arvados.TransactionError
	var unreachable *url.Error
	var syntax *json.SyntaxError
	var shape *json.UnmarshalTypeError
	var certificate *tls.CertificateVerificationError
	e := &fault.Error{Op: method, Side: fault.API, Subject: path + " of " + s.API.APIHost, Err: err}
	switch {
	case errors.As(err, &refused):
		e.Transient = refused.StatusCode >= 500 || refused.StatusCode == http.StatusTooManyRequests
		switch {
		case refused.StatusCode == http.StatusUnauthorized:
			e.Hint = "the token is wrong or has expired: get a new ARVADOS_API_TOKEN from Workbench"
		case refused.StatusCode == http.StatusForbidden:
			e.Hint = "you may not do this with this token, or not in this project"
		case refused.StatusCode == http.StatusNotFound && len(refused.Errors) == 0:
			return s.notArvados(errors.New(refused.Status))
		}
	case errors.As(err, &syntax):
		return s.notArvados(errors.New("its answer is not JSON"))
	case errors.As(err, &shape):
		return s.notArvados(errors.New("its answer has another form"))
	case errors.As(err, &certificate):
		e.Op, e.Subject = "trust the API server", s.API.APIHost
		e.Hint = "have your administrator's certificate authority installed here, or correct ARVADOS_API_HOST; ARVADOS_API_HOST_INSECURE=1 does without the check, for tests"
	case errors.Is(err, http.ErrSchemeMismatch):
		return s.notArvados(errors.New("it speaks HTTP without TLS on this port"))
	case errors.As(err, &unreachable):
		e.Op, e.Subject, e.Transient = "reach the API server", s.API.APIHost, true
		e.Hint = "check ARVADOS_API_HOST and the network"
	}
	return e
}

func (s *session) notArvados(err error) error {
	return &fault.Error{Op: "talk to", Side: fault.API, Subject: s.API.APIHost, Err: err,
		Hint: "ARVADOS_API_HOST names a server that does not answer as an Arvados API server does"}
}

// keep is Keep as the user sees it.
func (s *session) keep(ctx context.Context) (*keepclient.KeepClient, error) {
	return keepaccess.Open(ctx, s.API)
}

// resolve finds the image that the user means.
func (s *session) resolve(ctx context.Context, name string) (dockerimage.Resolved, error) {
	policy := dockerimage.Policy{Links: true, Own: []string{s.user.UUID}}
	if s.user.IsAdmin { // who can read everybody's
		policy.Trust = dockerimage.TrustSite
	}
	found, err := dockerimage.Resolve(ctx, s.API, name, policy)
	if err != nil {
		return found, err
	}
	for _, passed := range found.PassedOver {
		s.say("collection %s is passed over: %v", passed.Found.UUID, passed.Reason)
	}
	if found.OwnerUUID != s.user.UUID {
		s.say("%s is collection %s, which belongs to %s", name, found.UUID, found.OwnerUUID)
	}
	return found, nil
}

// checkProject is ownerOf, and sees whether the project is there and can get
// something.
func (s *session) checkProject(ctx context.Context, uuid string) (owner string, err error) {
	owner, field, err := s.ownerOf(ctx, uuid)
	if err != nil {
		return "", err
	}
	return owner, s.checkOwner(ctx, owner, field)
}

// ownerOf is whom images and requests belong to, by the UUID of a project; "" is
// Program.Project, else the project of the container that this runs in, else the
// user's home. field is what has named the project and may be wrong, if anything
// has.
func (s *session) ownerOf(ctx context.Context, uuid string) (owner, field string, err error) {
	field = "--project"
	if uuid == "" {
		field, uuid = projectVariable, s.Project
	}
	if uuid == "" {
		owner, err = s.ownerHere(ctx)
		return owner, "", err
	}
	if !arvados.UUIDMatch(uuid) || uuid[6:11] != "j7d0g" {
		return "", field, wrong(field, fmt.Errorf("%q is not the UUID of a project", uuid), "write one as in zzzzz-j7d0g-0123456789abcde")
	}
	return uuid, field, nil
}

// checkOwner sees whether the project that field names can get something.
func (s *session) checkOwner(ctx context.Context, uuid, field string) error {
	if field == "" {
		return nil
	}
	var project arvados.Group
	err := s.call(ctx, &project, http.MethodGet, "groups/"+uuid, nil)
	var refused *arvados.TransactionError
	switch {
	case errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound:
		return wrong(field, fmt.Errorf("there is no project %s that you can read", uuid), "correct the UUID, or have the project shared with you")
	case err != nil:
		return err
	case project.GroupClass != "project":
		return wrong(field, fmt.Errorf("%s (%s) is a %s, no project", uuid, project.Name, project.GroupClass), "name a project")
	case project.FrozenByUUID != "":
		return wrong(field, fmt.Errorf("project %s (%s) is frozen", uuid, project.Name), "name another project, or have it unfrozen")
	case !project.CanWrite:
		return wrong(field, fmt.Errorf("you may not write to project %s (%s)", uuid, project.Name),
			"name another project, or have this one shared with you for writing; if a project that it lies in is frozen, have that unfrozen")
	}
	return nil
}

// ownerHere owns the request of the container that this runs in; where there is
// none, it is the user.
func (s *session) ownerHere(ctx context.Context) (string, error) {
	// The token of a container is v2/UUID/SECRET/CONTAINER.
	parts := strings.Split(s.API.AuthToken, "/")
	if len(parts) != 4 || !arvados.UUIDMatch(parts[3]) {
		return s.user.UUID, nil
	}
	limit := 1
	var list arvados.ContainerRequestList
	err := s.call(ctx, &list, http.MethodGet, "container_requests", arvados.ResourceListParams{
		Filters: []arvados.Filter{{Attr: "container_uuid", Operator: "=", Operand: parts[3]}},
		Select:  []string{"uuid", "owner_uuid"},
		Order:   "created_at", Limit: &limit, Count: "none", // the first one; others reuse its container
	})
	if err != nil || len(list.Items) == 0 { // the request may have been removed meanwhile
		return s.user.UUID, err
	}
	return list.Items[0].OwnerUUID, nil
}

// wrong is the error of something that the user has to change.
func wrong(field string, err error, hint string) error {
	return &fault.Error{Op: "check", Side: fault.Request, Subject: field, Err: err, Hint: hint}
}
