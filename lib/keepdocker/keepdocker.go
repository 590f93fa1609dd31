// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package keepdocker is arv-keepdocker: it brings an image of the local Docker
// Engine, or from a tar file, into Keep, and lists the images that are there. It
// takes the arguments of Arvados's Python tool of that name, prints what that
// prints and ends with its exit codes, so that scripts and other programs may call
// either.
//
// It asks the engine's socket, so it needs no docker program, and keeps no copy of
// the image on disk. An image gets its collection in one request, with all its
// properties, and then the links by which older programs find it. It shows no
// token, and removes nothing, in Arvados or on the engine.
package keepdocker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// Program is one call of arv-keepdocker, and what it has to do with its
// surroundings.
type Program struct {
	API    *arvados.Client // as the user; its Timeout is set from --retries
	Stdin  io.Reader       // an image, for --tar -
	Stdout io.Writer       // the collection's UUID, or the list
	Stderr io.Writer       // everything else
	// Terminal: somebody watches Stderr on a terminal, where a line can be
	// written over.
	Terminal bool

	EngineHost string // "unix:///path" or "tcp://host:port"; "" for the usual socket
	// RegistryConfig is the user's docker config.json, for --pull; nil for
	// none.
	RegistryConfig []byte
	LockDir        string // for locks, made if it is not there: see LockDir
}

// session is a call under way.
type session struct {
	*Program
	flags
	user  arvados.User
	owner string // of what is made: the project, or the user
}

type attrs = map[string]interface{}

const settingsHint = "set it in the environment or in ~/.config/arvados/settings.conf; Workbench shows it under \"Get API token\""

// connect sees whether the settings lead to an API server that knows the user.
func (p *Program) connect(ctx context.Context, f flags) (*session, error) {
	for _, setting := range []struct{ name, value string }{
		{"ARVADOS_API_HOST", p.API.APIHost},
		{"ARVADOS_API_TOKEN", p.API.AuthToken},
	} {
		if setting.value == "" {
			return nil, wrong(setting.name, errors.New("it is not set"), settingsHint)
		}
	}
	p.API.Timeout = retryTime(f.retries)
	s := &session{Program: p, flags: f}
	if err := s.call(ctx, &s.user, http.MethodGet, "users/current", nil); err != nil {
		return nil, err
	}
	if !arvados.UUIDMatch(s.user.UUID) {
		return nil, wrong("ARVADOS_API_HOST", fmt.Errorf("%s does not say who the user is", p.API.APIHost), "name an Arvados API server")
	}
	s.owner = s.user.UUID
	return s, nil
}

// retryTime is how long a request to the API server may take with all that it is
// tried again: about as long as the Python tool goes on with so many retries, but
// no longer than somebody would wait without a word.
func retryTime(retries int) time.Duration {
	const longest = 2 * time.Minute
	if retries <= 0 {
		return 0 // once
	}
	return min(time.Minute+time.Second<<min(retries, 16), longest)
}

// call is one request to the API server. path is relative to arvados/v1.
func (s *session) call(ctx context.Context, dst interface{}, method, path string, params interface{}) error {
	err := s.API.RequestAndDecodeContext(ctx, dst, method, "arvados/v1/"+path, nil, params)
	if err == nil {
		return nil
	}
	e := &fault.Error{Op: method, Side: fault.API, Subject: path + " of " + s.API.APIHost, Err: err, Transient: true}
	var refused *arvados.TransactionError
	var unreachable *url.Error
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax), errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound && len(refused.Errors) == 0:
		e.Op, e.Subject, e.Transient = "talk to", s.API.APIHost, false
		e.Hint = "ARVADOS_API_HOST names a server that does not answer as an Arvados API server does"
	case errors.As(err, &refused):
		e.Transient = refused.StatusCode >= 500 || refused.StatusCode == http.StatusTooManyRequests
		switch refused.StatusCode {
		case http.StatusUnauthorized:
			e.Hint = "the token is wrong or has expired: get a new ARVADOS_API_TOKEN from Workbench"
		case http.StatusForbidden:
			e.Hint = "you may not do this with this token, or not in this project"
		}
	case errors.As(err, &unreachable):
		e.Op, e.Subject = "reach the API server", s.API.APIHost
		e.Hint = "check ARVADOS_API_HOST and the network"
	}
	return e
}

// checkProject makes the project, if one is given, the owner of what is made.
// It can be a user, too.
func (s *session) checkProject(ctx context.Context) error {
	uuid := s.project
	if uuid == "" {
		return nil
	}
	path := map[string]string{"j7d0g": "groups/", "tpzed": "users/"}
	if !arvados.UUIDMatch(uuid) || path[uuid[6:11]] == "" {
		return wrong("--project-uuid", fmt.Errorf("%q is not the UUID of a project", uuid), "write one as in zzzzz-j7d0g-0123456789abcde")
	}
	var project arvados.Group
	err := s.call(ctx, &project, http.MethodGet, path[uuid[6:11]]+uuid, nil)
	var refused *arvados.TransactionError
	switch {
	case errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound:
		return wrong("--project-uuid", fmt.Errorf("there is no project %s that you can read", uuid), "correct the UUID, or have the project shared with you")
	case err != nil:
		return err
	case project.FrozenByUUID != "":
		return wrong("--project-uuid", fmt.Errorf("project %s (%s) is frozen", uuid, project.Name), "name another project, or have it unfrozen")
	}
	s.owner = uuid
	return nil
}

// say tells the user something, unless --silent.
func (s *session) say(format string, args ...any) {
	if !s.silent {
		s.warn(format, args...)
	}
}

// warn tells the user something that must not be missed.
func (s *session) warn(format string, args ...any) {
	fmt.Fprintf(s.Stderr, "arv-keepdocker: "+format+"\n", args...)
}

// wrong is the error of something that the user has to change.
func wrong(field string, err error, hint string) error {
	return &fault.Error{Op: "check", Side: fault.Request, Subject: field, Err: err, Hint: hint}
}
