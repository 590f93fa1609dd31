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
// and to no engine. It never removes anything, and shows no token, password or
// secret.
package arvdocker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
	"git.arvados.org/arvados.git/sdk/go/keepclient"
)

// Program is one call of arv-docker, and what it has to do with its
// surroundings.
type Program struct {
	API    *arvados.Client // as the user
	Stdin  io.Reader
	Stdout io.Writer // what was asked for
	Stderr io.Writer // progress, logs, errors
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
	user arvados.User
}

// answerTime is how long the API server may take to answer at all. Later requests
// may take as long as Program.API lets them.
const answerTime = 15 * time.Second

const settingsHint = "set it in the environment or in ~/.config/arvados/settings.conf; Workbench shows it under \"Get API token\""

// connect sees whether the settings lead to an API server that knows the user.
func (p *Program) connect(ctx context.Context) (*session, error) {
	for _, setting := range []struct{ name, value string }{
		{"ARVADOS_API_HOST", p.API.APIHost},
		{"ARVADOS_API_TOKEN", p.API.AuthToken},
	} {
		if setting.value == "" {
			return nil, wrong(setting.name, errors.New("it is not set"), settingsHint)
		}
	}
	s := &session{Program: p, status: newStatus(p.Stderr, p.Terminal)}
	first := &arvados.Client{
		Client:     p.API.Client,
		Scheme:     p.API.Scheme,
		APIHost:    p.API.APIHost,
		AuthToken:  p.API.AuthToken,
		Insecure:   p.API.Insecure,
		SendHeader: p.API.SendHeader,
		Timeout:    min(p.API.Timeout, answerTime),
	}
	err := s.callBy(ctx, first, &s.user, http.MethodGet, "users/current", nil)
	if err == nil && !arvados.UUIDMatch(s.user.UUID) {
		err = s.notArvados(errors.New("it does not say who the user is"))
	}
	return s, err
}

// call is one request to the API server. path is relative to arvados/v1.
func (s *session) call(ctx context.Context, dst interface{}, method, path string, params interface{}) error {
	return s.callBy(ctx, s.API, dst, method, path, params)
}

func (s *session) callBy(ctx context.Context, client *arvados.Client, dst interface{}, method, path string, params interface{}) error {
	err := client.RequestAndDecodeContext(ctx, dst, method, "arvados/v1/"+path, nil, params)
	if err == nil {
		return nil
	}
	var refused *arvados.TransactionError
	var unreachable *url.Error
	var syntax *json.SyntaxError
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

// keep is Keep as the user sees it. The SDK asks the API server for the services
// without a context; Ctrl-C must not wait for that.
func (s *session) keep(ctx context.Context) (*keepclient.KeepClient, error) {
	type answer struct {
		kc  *keepclient.KeepClient
		err error
	}
	found := make(chan answer, 1)
	go func() {
		arv, err := arvadosclient.New(s.API)
		if err != nil {
			found <- answer{nil, err}
			return
		}
		kc, err := keepclient.MakeKeepClient(arv)
		found <- answer{kc, err}
	}()
	var got answer
	select {
	case got = <-found:
	case <-ctx.Done():
		got.err = context.Cause(ctx)
	}
	if got.err != nil {
		return nil, &fault.Error{Op: "find services", Side: fault.Keep, Subject: s.API.APIHost, Err: got.err, Transient: true}
	}
	got.kc.DiskCacheSize = keepclient.DiskCacheDisabled // blocks are used once
	return got.kc, nil
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

// checkProject sees whether a project is there and can get something; "" is the
// user's home.
func (s *session) checkProject(ctx context.Context, uuid string) (owner string, err error) {
	if uuid == "" {
		return s.user.UUID, nil
	}
	if !arvados.UUIDMatch(uuid) || uuid[6:11] != "j7d0g" {
		return "", wrong("--project", fmt.Errorf("%q is not the UUID of a project", uuid), "write one as in zzzzz-j7d0g-0123456789abcde")
	}
	var project arvados.Group
	err = s.call(ctx, &project, http.MethodGet, "groups/"+uuid, nil)
	var refused *arvados.TransactionError
	switch {
	case errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound:
		return "", wrong("--project", fmt.Errorf("there is no project %s that you can read", uuid), "correct the UUID, or have the project shared with you")
	case err != nil:
		return "", err
	case project.FrozenByUUID != "":
		return "", wrong("--project", fmt.Errorf("project %s (%s) is frozen", uuid, project.Name), "name another project, or have it unfrozen")
	}
	return uuid, nil
}

// wrong is the error of something that the user has to change.
func wrong(field string, err error, hint string) error {
	return &fault.Error{Op: "check", Side: fault.Request, Subject: field, Err: err, Hint: hint}
}
