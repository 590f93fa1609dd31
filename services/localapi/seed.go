// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// seed makes the records that every cluster has, and deletes what has been in
// the trash long enough.
func (s *Server) seed(tx *Tx) error {
	root := systemUser(s.clusterID)
	host, port, err := net.SplitHostPort(s.cfg.KeepAddress)
	if err != nil {
		return fmt.Errorf("address of Keep: %w", err)
	}
	portNumber, err := strconv.ParseInt(port, 10, 64)
	if err != nil {
		return fmt.Errorf("port of Keep: %w", err)
	}
	everybody := allUsersGroup(s.clusterID)
	for kindName, records := range map[string][]Record{
		users: {{"uuid": root, "username": "root", "email": "root", "first_name": "root", "full_name": "root",
			"is_active": true, "is_admin": true, "is_invited": true}},
		groups: {
			{"uuid": systemGroup(s.clusterID), "name": "System group", "group_class": "role"},
			{"uuid": everybody, "name": "All users", "group_class": "role"},
		},
		keepServices: {{"uuid": wellKnown(s.clusterID, "bi6l4", "000000000000001"), "service_host": host, "service_port": portNumber,
			"service_ssl_flag": false, "service_type": "disk", "read_only": false}},
		collections: {{"uuid": emptyCollection(s.clusterID), "name": "empty collection",
			"current_version_uuid": emptyCollection(s.clusterID), "version": int64(1), "manifest_text": "",
			"portable_data_hash": emptyHash, "storage_classes_desired": []any{"default"}, "file_count": int64(0), "file_size_total": int64(0)}},
	} {
		for _, rec := range records {
			rec["owner_uuid"], rec["modified_by_user_uuid"] = root, root
			rec["created_at"], rec["modified_at"] = tx.now, tx.now
			if old, err := tx.Get(kindName, rec["uuid"].(string)); err == nil {
				rec["created_at"], rec["modified_at"] = old["created_at"], old["modified_at"]
			} else if err != errNotFound {
				return err
			}
			if err := tx.Put(kindName, rec); err != nil {
				return err
			}
		}
	}
	for _, kindName := range []string{collections, groups} {
		if _, err := tx.sql.Exec("DELETE FROM "+kindName+" WHERE delete_at <= ?", tx.now); err != nil {
			return err
		}
	}
	_, err = tx.sql.Exec("DELETE FROM properties WHERE kind = 'collections' AND uuid NOT IN (SELECT uuid FROM collections)")
	return err
}

// EnsureUser makes an active account with a token "v2/UUID/SECRET", or gives
// the account of that name this token.
func (s *Server) EnsureUser(ctx context.Context, name, token string, admin bool) error {
	parts := strings.Split(token, "/")
	if len(parts) != 3 || parts[0] != "v2" || kindOf(parts[1]) != kinds[tokens] {
		return fmt.Errorf("token of user %q does not have the form v2/UUID/SECRET", name)
	}
	return s.store.Tx(ctx, func(tx *Tx) error {
		found, err := tx.List(users, Query{Filters: []Filter{Where("username", "=", name)}})
		if err != nil {
			return err
		}
		root := systemUser(s.clusterID)
		user := Record{"uuid": kinds[users].newUUID(s.clusterID), "created_at": tx.now}
		if len(found) > 0 {
			user = found[0]
		}
		for attr, value := range (Record{"username": name, "email": name + "@localhost", "first_name": name, "full_name": name,
			"owner_uuid": root, "is_active": true, "is_invited": true, "is_admin": admin, "modified_at": tx.now, "modified_by_user_uuid": root}) {
			user[attr] = value
		}
		if err := tx.Put(users, user); err != nil {
			return err
		}
		return tx.Put(tokens, Record{"uuid": parts[1], "api_token": parts[2], "owner_uuid": user["uuid"], "created_at": tx.now,
			"modified_at": tx.now, "scopes": []any{"all"}})
	})
}
