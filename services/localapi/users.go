// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"fmt"
	"strings"
)

func init() { resourceMakers = append(resourceMakers, userResource, tokenResource) }

func userResource(s *Server) *resource {
	k := kinds[users]
	one := func(uuid func(*Call) string) func(*Tx, *Call) (any, error) {
		return func(tx *Tx, c *Call) (any, error) { return tx.Get(users, uuid(c)) }
	}
	actions := s.crud(k, rules{check: s.checkUser})
	delete(actions, "DELETE /{uuid}")
	actions["GET /current"] = action{run: one(func(c *Call) string { return c.Caller.UserUUID }), doc: "Read the account of the caller."}
	actions["GET /system"] = action{run: one(func(*Call) string { return systemUser(s.clusterID) }), doc: "Read the account of the system itself."}
	return &resource{name: k.plural, kind: k, actions: actions, prepare: s.prepareUser}
}

// prepareUser shows the system group, which can write everything, after the
// account's owner and the account itself.
func (s *Server) prepareUser(tx *Tx, c *Call, rec Record) error {
	if err := showRights(tx, c, rec); err != nil {
		return err
	}
	if rec["can_write"] == true {
		rec["writable_by"] = []any{rec["owner_uuid"], rec["uuid"], systemGroup(s.clusterID)}
	}
	return nil
}

// checkUser lets admins make and change accounts, and users change what is
// about themselves.
func (s *Server) checkUser(tx *Tx, c *Call, ch change) error {
	rec := ch.rec
	if !c.Caller.IsAdmin {
		if ch.old == nil {
			return denied("")
		}
		for _, name := range []string{"owner_uuid", "username", "email", "is_active", "is_admin", "identity_url"} {
			if ch.changed(name) {
				return denied("")
			}
		}
	}
	if ch.old == nil {
		rec["owner_uuid"], rec["is_invited"] = systemUser(s.clusterID), true
	}
	rec["full_name"] = strings.TrimSpace(fmt.Sprintf("%s %s", textOf(rec["first_name"]), textOf(rec["last_name"])))
	if rec["username"] == nil {
		// From the address, as Arvados does; one that is never taken.
		local, _, _ := strings.Cut(textOf(rec["email"]), "@")
		rec["username"] = local + rec["uuid"].(string)[12:]
	}
	others, err := tx.Count(users, Query{Filters: []Filter{Where("username", "=", rec["username"]), Where("uuid", "!=", rec["uuid"])}})
	if err == nil && others > 0 {
		return refuse(422, notUnique(users, "username", rec["username"]))
	}
	return err
}

// textOf is a text, "" for anything else.
func textOf(v any) string {
	s, _ := v.(string)
	return s
}

// tokenResource gives everybody their own tokens, and admins everybody's.
func tokenResource(s *Server) *resource {
	k := kinds[tokens]
	check := func(_ *Tx, c *Call, ch change) error {
		if ch.old == nil {
			ch.rec["api_token"] = randomWord(50)
			if ch.rec["scopes"] == nil {
				ch.rec["scopes"] = []any{"all"}
			}
			return nil
		}
		if ch.changed("api_token") && !c.Caller.IsAdmin {
			return denied("")
		}
		return nil
	}
	actions := s.crud(k, rules{check: check})
	actions["GET /current"] = action{doc: "Read the caller's token.", run: func(tx *Tx, c *Call) (any, error) {
		if c.Caller.TokenUUID == rootToken(s.clusterID) {
			return Record{"uuid": c.Caller.TokenUUID, "owner_uuid": c.Caller.UserUUID, "api_token": s.systemRootToken, "scopes": []any{"all"}}, nil
		}
		return tx.Get(tokens, c.Caller.TokenUUID)
	}}
	return &resource{name: k.plural, kind: k, actions: actions}
}
