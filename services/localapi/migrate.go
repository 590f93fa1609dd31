// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"context"
	"database/sql"
	"fmt"
)

// migrations bring a database from version i to i+1. One that has been
// released is never changed: add another.
var migrations = []string{`
CREATE TABLE collections (uuid TEXT PRIMARY KEY, owner_uuid TEXT, created_at TEXT, modified_at TEXT, name TEXT,
	portable_data_hash TEXT, manifest_text TEXT, file_names TEXT, trash_at TEXT, delete_at TEXT, doc TEXT NOT NULL);
CREATE INDEX collections_owner ON collections (owner_uuid, name);
CREATE INDEX collections_hash ON collections (portable_data_hash);
CREATE INDEX collections_created ON collections (created_at);
CREATE INDEX collections_modified ON collections (modified_at);
CREATE INDEX collections_delete ON collections (delete_at);

CREATE TABLE links (uuid TEXT PRIMARY KEY, owner_uuid TEXT, created_at TEXT, modified_at TEXT, name TEXT,
	link_class TEXT, head_uuid TEXT, tail_uuid TEXT, doc TEXT NOT NULL);
CREATE INDEX links_owner ON links (owner_uuid);
CREATE INDEX links_class ON links (link_class, name);
CREATE INDEX links_head ON links (head_uuid);
CREATE INDEX links_tail ON links (tail_uuid, link_class);

CREATE TABLE groups (uuid TEXT PRIMARY KEY, owner_uuid TEXT, created_at TEXT, modified_at TEXT, name TEXT,
	group_class TEXT, trash_at TEXT, delete_at TEXT, doc TEXT NOT NULL);
CREATE INDEX groups_owner ON groups (owner_uuid, name);
CREATE INDEX groups_trash ON groups (trash_at);

CREATE TABLE workflows (uuid TEXT PRIMARY KEY, owner_uuid TEXT, created_at TEXT, modified_at TEXT, name TEXT,
	doc TEXT NOT NULL);
CREATE INDEX workflows_owner ON workflows (owner_uuid);

CREATE TABLE keep_services (uuid TEXT PRIMARY KEY, owner_uuid TEXT, created_at TEXT, modified_at TEXT, doc TEXT NOT NULL);

CREATE TABLE users (uuid TEXT PRIMARY KEY, owner_uuid TEXT, created_at TEXT, modified_at TEXT, username TEXT,
	email TEXT, doc TEXT NOT NULL);
CREATE UNIQUE INDEX users_username ON users (username);

CREATE TABLE api_client_authorizations (uuid TEXT PRIMARY KEY, owner_uuid TEXT, created_at TEXT, modified_at TEXT,
	api_token TEXT, expires_at TEXT, doc TEXT NOT NULL);
CREATE UNIQUE INDEX tokens_secret ON api_client_authorizations (api_token);
CREATE INDEX tokens_owner ON api_client_authorizations (owner_uuid);

CREATE TABLE container_requests (uuid TEXT PRIMARY KEY, owner_uuid TEXT, created_at TEXT, modified_at TEXT, name TEXT,
	state TEXT, requesting_container_uuid TEXT, container_uuid TEXT, output_uuid TEXT, log_uuid TEXT, priority INTEGER,
	doc TEXT NOT NULL);
CREATE INDEX requests_owner ON container_requests (owner_uuid);
CREATE INDEX requests_container ON container_requests (container_uuid);
CREATE INDEX requests_requesting ON container_requests (requesting_container_uuid);
CREATE INDEX requests_created ON container_requests (created_at);

CREATE TABLE containers (uuid TEXT PRIMARY KEY, owner_uuid TEXT, created_at TEXT, modified_at TEXT, state TEXT,
	secret_mounts_md5 TEXT, container_image TEXT, priority INTEGER, auth_uuid TEXT, locked_by_uuid TEXT, doc TEXT NOT NULL);
CREATE INDEX containers_state ON containers (state);
CREATE INDEX containers_auth ON containers (auth_uuid);
CREATE INDEX containers_image ON containers (container_image);

-- One row with listed = 0 for each key of a record's properties, and one with
-- listed = 1 for each scalar in a list. tag: s string, n number, b boolean,
-- z null, j list or object.
CREATE TABLE properties (kind TEXT, key TEXT, tag TEXT, value, listed INTEGER, uuid TEXT,
	PRIMARY KEY (kind, key, tag, value, listed, uuid)) WITHOUT ROWID;
CREATE INDEX properties_record ON properties (uuid);
`}

// migrate brings a database to the version of this program.
func migrate(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // without effect after Commit
	var version int
	if err := tx.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > len(migrations) {
		return fmt.Errorf("it has version %d, and this program knows versions up to %d: use a newer program", version, len(migrations))
	}
	for _, statements := range migrations[version:] {
		if _, err := tx.Exec(statements); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(fmt.Sprintf("PRAGMA user_version = %d", len(migrations))); err != nil {
		return err
	}
	return tx.Commit()
}
