// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/keepfile/keepaccess"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/keepclient"
	"github.com/sirupsen/logrus"
)

// Session is one locked container and the two identities that act for it.
type Session struct {
	Container arvados.Container
	Secrets   map[string]arvados.Mount // secret mounts by path
	User      *arvados.Client          // with the container's token: what the user may do
	Keep      *keepclient.KeepClient   // likewise
	Owner     string                   // UUID of that user
	Admin     bool                     // that user is an administrator

	Logs           *Logs
	Log            *logrus.Logger // writes crunch-run.txt
	Stdout, Stderr io.Writer      // stdout.txt, stderr.txt
	Status         *builtin.Status

	dispatcher     *arvados.Client // with the dispatcher's token: the container record and the logs
	dispatcherKeep *keepclient.KeepClient
}

// open reads the container and its token. It changes nothing, so that a
// dispatcher may try again after any error.
func open(ctx context.Context, cfg Config) (*Session, error) {
	s := &Session{Logs: NewLogs(), Status: &builtin.Status{}, dispatcher: cfg.Dispatcher}
	s.Logs.Hide(cfg.Dispatcher.AuthToken)
	s.Log = builtin.NewLogger(io.MultiWriter(s.Logs.Stream("crunch-run.txt"), cfg.Stderr))
	s.Stdout, s.Stderr = s.Logs.Stream("stdout.txt"), s.Logs.Stream("stderr.txt")

	if err := s.dispatch(ctx, &s.Container, "GET", "containers/"+cfg.UUID, nil); err != nil {
		return nil, err
	}
	if s.Container.State != arvados.ContainerStateLocked {
		return nil, &fault.Error{Op: "start", Side: fault.API, Subject: cfg.UUID,
			Err: fmt.Errorf("dispatch error detected: container %q has state %q", cfg.UUID, s.Container.State)}
	}
	var auth arvados.APIClientAuthorization
	if err := s.dispatch(ctx, &auth, "GET", "containers/"+cfg.UUID+"/auth", nil); err != nil {
		return nil, err
	}
	// The fourth part binds the token to this container's life.
	token := auth.TokenV2() + "/" + cfg.UUID
	s.Logs.Hide(token)
	s.Logs.Hide(auth.APIToken)

	s.User = &arvados.Client{
		Client:    cfg.Dispatcher.Client,
		Scheme:    cfg.Dispatcher.Scheme,
		APIHost:   cfg.Dispatcher.APIHost,
		AuthToken: token,
		Insecure:  cfg.Dispatcher.Insecure,
		Timeout:   cfg.Dispatcher.Timeout,
	}
	var me arvados.User
	if err := builtin.CallAPI(ctx, s.User, &me, "GET", "users/current", nil); err != nil {
		return nil, err
	}
	s.Owner, s.Admin = me.UUID, me.IsAdmin
	var secret struct {
		SecretMounts map[string]arvados.Mount `json:"secret_mounts"`
	}
	if err := builtin.CallAPI(ctx, s.User, &secret, "GET", "containers/"+cfg.UUID+"/secret_mounts", nil); err != nil && !isStatus(err, http.StatusNotFound) {
		return nil, err
	}
	for _, word := range s.Container.Command {
		// It is on record already; it need not be in more places.
		if u, err := url.Parse(word); err == nil && u.User != nil {
			password, _ := u.User.Password()
			s.Logs.Hide(password)
		}
	}
	s.Secrets = secret.SecretMounts
	for _, mount := range s.Secrets {
		hideAll(s.Logs, mount.Content)
	}
	var err error
	if s.Keep, err = keepaccess.Open(ctx, s.User); err != nil {
		return nil, err
	}
	s.dispatcherKeep, err = keepaccess.Open(ctx, s.dispatcher)
	return s, err
}

// dispatch is one API call with the dispatcher's token.
func (s *Session) dispatch(ctx context.Context, dst interface{}, method, path string, params map[string]interface{}) error {
	return builtin.CallAPI(ctx, s.dispatcher, dst, method, path, params)
}

func isStatus(err error, status int) bool {
	var refused *arvados.TransactionError
	return errors.As(err, &refused) && refused.StatusCode == status
}

// update changes the container record with the dispatcher's token.
func (s *Session) update(ctx context.Context, attrs map[string]interface{}) error {
	var ignored arvados.Container
	return s.dispatch(ctx, &ignored, "PUT", "containers/"+s.Container.UUID, map[string]interface{}{
		"container": attrs,
		"select":    []string{"uuid"},
	})
}

// record is the container record as the API server has it, with all fields,
// for container.json.
func (s *Session) record(ctx context.Context) ([]byte, error) {
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	err := s.dispatch(ctx, &list, "GET", "containers", map[string]interface{}{
		"filters": [][]interface{}{{"uuid", "=", s.Container.UUID}},
	})
	if err != nil {
		return nil, err
	}
	if len(list.Items) != 1 {
		return nil, &fault.Error{Op: "list", Side: fault.API, Subject: s.Container.UUID, Err: errors.New("container not found")}
	}
	var fields map[string]interface{}
	if err := json.Unmarshal(list.Items[0], &fields); err != nil {
		return nil, err
	}
	return json.MarshalIndent(fields, "", "    ")
}

// hideAll hides every text in a secret mount's content, and in what it holds
// as JSON: registry credentials are JSON in a text mount.
func hideAll(logs *Logs, content interface{}) {
	switch content := content.(type) {
	case string:
		var inner interface{}
		if json.Unmarshal([]byte(content), &inner) == nil {
			hideAll(logs, inner)
		}
		logs.Hide(content)
		for line := range strings.Lines(content) { // which is how programs print it
			logs.Hide(strings.TrimSpace(line))
		}
	case map[string]interface{}:
		for key, value := range content {
			if key == "username" {
				continue // no secret, and likely an ordinary word
			}
			hideAll(logs, value)
			if auth, ok := value.(string); ok && key == "auth" { // base64 of user:password
				pair, _ := base64.StdEncoding.DecodeString(auth)
				_, password, _ := strings.Cut(string(pair), ":")
				logs.Hide(password)
			}
		}
	case []interface{}:
		for _, value := range content {
			hideAll(logs, value)
		}
	}
}

// Manifest is the manifest of a collection that the user can read, by its
// portable data hash or UUID.
func (s *Session) Manifest(ctx context.Context, id string) (string, error) {
	var coll arvados.Collection
	err := builtin.CallAPI(ctx, s.User, &coll, "GET", "collections/"+id, map[string]interface{}{
		"select": []string{"uuid", "portable_data_hash", "manifest_text"},
	})
	return coll.ManifestText, err
}

// CurrentOutput is the portable data hash that the container's own program may
// have set as its output, "" if it has not.
func (s *Session) CurrentOutput(ctx context.Context) (string, error) {
	var ctr arvados.Container
	err := s.dispatch(ctx, &ctr, "GET", "containers/"+s.Container.UUID, map[string]interface{}{
		"select": []string{"output"},
	})
	return ctr.Output, err
}
