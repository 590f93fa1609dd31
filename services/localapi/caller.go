// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"
)

// Caller is who makes a request.
type Caller struct {
	UserUUID  string
	TokenUUID string
	// Token is the token as it was sent, to which block signatures are bound.
	Token   string
	IsAdmin bool
	// ContainerUUID is the container that the token was made for, "" if it
	// is no container's.
	ContainerUUID string

	scopes []any
}

var errNotLoggedIn = refuse(http.StatusUnauthorized, "Not logged in")

// authenticate finds out who calls.
func (s *Server) authenticate(tx *Tx, r *http.Request, c *Call) (*Caller, error) {
	token := c.Params.String("api_token")
	if scheme, sent, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && (scheme == "Bearer" || scheme == "OAuth2") {
		token = strings.TrimSpace(sent)
	}
	delete(c.Params, "api_token")
	caller, err := s.callerOf(tx, token)
	if err != nil || inScope(caller.scopes, c.Method, r.URL.Path) {
		return caller, err
	}
	return nil, refuse(http.StatusForbidden, "Forbidden")
}

// inScope tells whether a token is good for a request: each scope is "all", or
// a method and a path; a path that ends in a slash stands for all below it.
func inScope(scopes []any, method, path string) bool {
	return slices.ContainsFunc(scopes, func(scope any) bool {
		wantMethod, wantPath, _ := strings.Cut(textOf(scope), " ")
		below := strings.HasSuffix(wantPath, "/") && strings.HasPrefix(path, wantPath)
		return scope == "all" || wantMethod == method && (wantPath == path || below)
	})
}

// callerOf knows tokens of the forms SECRET, v2/UUID/SECRET, and
// v2/UUID/SECRET/CONTAINER, which is good only while that container has the
// token.
func (s *Server) callerOf(tx *Tx, token string) (*Caller, error) {
	secret, uuid, container := token, "", ""
	if rest, ok := strings.CutPrefix(token, "v2/"); ok {
		parts := strings.Split(rest, "/")
		if len(parts) < 2 || len(parts) > 3 {
			return nil, errNotLoggedIn
		}
		uuid, secret = parts[0], parts[1]
		if len(parts) == 3 {
			container = parts[2]
		}
	}
	if secret == "" {
		return nil, errNotLoggedIn
	}
	if equal(secret, s.systemRootToken) && (uuid == "" || uuid == rootToken(s.clusterID)) {
		return &Caller{UserUUID: systemUser(s.clusterID), TokenUUID: rootToken(s.clusterID), Token: token, IsAdmin: true, scopes: []any{"all"}}, nil
	}
	found, err := tx.List(tokens, Query{Filters: []Filter{Where("api_token", "=", secret)}})
	if err != nil {
		return nil, err
	}
	if len(found) != 1 || uuid != "" && found[0]["uuid"] != uuid || expired(found[0], tx.now) {
		return nil, errNotLoggedIn
	}
	c := &Caller{TokenUUID: found[0]["uuid"].(string), Token: token}
	c.UserUUID, _ = found[0]["owner_uuid"].(string)
	c.scopes, _ = found[0]["scopes"].([]any)
	user, err := tx.Get(users, c.UserUUID)
	if err != nil || user["is_active"] != true {
		return nil, errNotLoggedIn
	}
	c.IsAdmin = user["is_admin"] == true
	return c, tx.findContainer(c, container)
}

// findContainer finds the container that a token was made for. claimed is the
// one that the token names, if it does.
func (tx *Tx) findContainer(c *Caller, claimed string) error {
	found, err := tx.List(containers, Query{Filters: []Filter{
		Where("auth_uuid", "=", c.TokenUUID), Where("state", "in", []any{"Locked", "Running"}),
	}})
	if err != nil {
		return err
	}
	if len(found) > 0 {
		c.ContainerUUID, _ = found[0]["uuid"].(string)
	}
	if claimed != "" && claimed != c.ContainerUUID {
		return errNotLoggedIn
	}
	return nil
}

func expired(token Record, now string) bool {
	until, _ := token["expires_at"].(string)
	return until != "" && until <= now
}

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
