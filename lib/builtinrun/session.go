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
	"regexp"
	"strings"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/keepfile/keepaccess"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
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

// newSession starts the log of a container of which nothing is known yet.
func newSession(cfg Config) *Session {
	s := &Session{Logs: NewLogs(), Status: &builtin.Status{}, dispatcher: cfg.Dispatcher}
	s.Logs.Hide(cfg.Dispatcher.AuthToken)
	s.Log = builtin.NewLogger(io.MultiWriter(s.Logs.Stream("crunch-run.txt"), s.Logs.cleanTo(cfg.Stderr)))
	s.Stdout, s.Stderr = s.Logs.Stream("stdout.txt"), s.Logs.Stream("stderr.txt")
	return s
}

// open reads the container and its token. It changes nothing, so that a
// dispatcher may try again after any error.
func (s *Session) open(ctx context.Context, uuid string) error {
	if err := s.dispatch(ctx, &s.Container, "GET", "containers/"+uuid, nil); err != nil {
		return err
	}
	hidePasswords(s.Logs, s.Container.Command)
	if s.Container.State != arvados.ContainerStateLocked {
		return &fault.Error{Op: "start", Side: fault.API, Subject: uuid,
			Err: fmt.Errorf("dispatch error detected: container %q has state %q", uuid, s.Container.State)}
	}
	var auth arvados.APIClientAuthorization
	if err := s.dispatch(ctx, &auth, "GET", "containers/"+uuid+"/auth", nil); err != nil {
		return err
	}
	// The fourth part binds the token to this container's life.
	token := auth.TokenV2() + "/" + uuid
	s.Logs.Hide(token)
	s.Logs.Hide(auth.APIToken)

	s.User = &arvados.Client{
		Client:          s.dispatcher.Client,
		Scheme:          s.dispatcher.Scheme,
		APIHost:         s.dispatcher.APIHost,
		AuthToken:       token,
		Insecure:        s.dispatcher.Insecure,
		KeepServiceURIs: s.dispatcher.KeepServiceURIs,
		Timeout:         s.dispatcher.Timeout,
	}
	var me arvados.User
	if err := builtin.CallAPI(ctx, s.User, &me, "GET", "users/current", nil); err != nil {
		return err
	}
	s.Owner, s.Admin = me.UUID, me.IsAdmin
	var secret struct {
		SecretMounts map[string]arvados.Mount `json:"secret_mounts"`
	}
	if err := builtin.CallAPI(ctx, s.User, &secret, "GET", "containers/"+uuid+"/secret_mounts", nil); err != nil && !isStatus(err, http.StatusNotFound) {
		return err
	}
	s.Secrets = secret.SecretMounts
	for _, mount := range s.Secrets {
		hideAll(s.Logs, mount.Content)
	}
	var err error
	if s.Keep, err = openKeep(ctx, s.User); err != nil {
		return err
	}
	s.dispatcherKeep, err = openKeep(ctx, s.dispatcher)
	return err
}

// keepRetries is how often more a block is written or read when Keep is in
// trouble, as with crunch-run: an outage of a minute is sat out.
const keepRetries = 10

// openKeep is Keep as the client's user sees it.
func openKeep(ctx context.Context, client *arvados.Client) (*keepclient.KeepClient, error) {
	kc, err := keepaccess.Open(ctx, client)
	if err != nil {
		return nil, err
	}
	kc.Retries, kc.RetryDelay = keepRetries, arvadosclient.RetryDelay
	return kc, nil
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

// userInURL finds the user name and password in a URL, as they are written there.
var userInURL = regexp.MustCompile(`://([^/?#\s]+)@`)

// leastToken is how long a user name without a password has to be, in bytes, to be
// taken for a token. Those of GitHub, the shortest of common ones, have 40.
const leastToken = 20

// hidePasswords hides those in the URLs of a command, and tokens that stand there
// as user names. They are on record already; they need not be in more places.
func hidePasswords(logs *Logs, command []string) {
	for _, word := range command {
		for _, match := range userInURL.FindAllStringSubmatch(word, -1) {
			secret, password, _ := strings.Cut(match[1], ":")
			if password != "" {
				secret = password
			} else if len(secret) < leastToken {
				continue // a name, such as "git"
			}
			logs.Hide(secret)
			if plain, err := url.PathUnescape(secret); err == nil {
				logs.Hide(plain)
			}
		}
	}
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
