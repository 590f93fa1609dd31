// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package sqlstore

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// oldestVersion is that of Arvados 2.4.0, which brought frozen projects.
const oldestVersion = "20220303204419"

const (
	text   = "character varying(255)"
	texts  = "character varying"
	moment = "timestamp without time zone"
)

// known are the columns of Arvados's tables, with their types, as far as they are
// read.
var known = map[string]map[string]string{
	"links": {
		"uuid": text, "owner_uuid": text, "created_at": moment, "tail_uuid": text, "link_class": text, "name": text, "head_uuid": text,
		"properties": "jsonb",
	},
	"collections": {
		"id": "bigint", "uuid": text, "owner_uuid": text, "created_at": moment, "modified_by_client_uuid": text, "modified_by_user_uuid": text,
		"modified_at": moment, "portable_data_hash": text, "replication_desired": "integer", "replication_confirmed_at": moment,
		"replication_confirmed": "integer", "updated_at": moment, "manifest_text": "text", "name": text, "description": "character varying(524288)",
		"properties": "jsonb", "delete_at": moment, "file_names": "text", "trash_at": moment, "is_trashed": "boolean",
		"storage_classes_desired": "jsonb", "storage_classes_confirmed": "jsonb", "storage_classes_confirmed_at": moment,
		"current_version_uuid": texts, "version": "integer", "preserve_version": "boolean", "file_count": "integer", "file_size_total": "bigint",
	},
	"users":             {"uuid": text, "is_admin": "boolean"},
	"trashed_groups":    {"group_uuid": texts, "trash_at": moment},
	"frozen_groups":     {"uuid": texts},
	"schema_migrations": {"version": text},
}

// unused are columns that older versions have, or newer ones may lack.
var unused = []string{"id", "modified_by_client_uuid"}

// written is the table that is written to: what its columns mean, all of them, has
// to be known.
const written = "collections"

// lookups are columns that have to lead an index, for each page would take minutes
// without.
var lookups = map[string][]string{
	"links":         {"head_uuid", "tail_uuid"},
	"collections":   {"uuid", "portable_data_hash"},
	"frozen_groups": {"uuid"},
}

// oldestServer is PostgreSQL 13: statements use what it has brought, incremental
// sorts of pages, and what 12 has.
const oldestServer = 130000

// check refuses a database that is not known, or not the cluster's.
func (s *Store) check(ctx context.Context) error {
	var server int
	if err := s.conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int`).Scan(&server); err != nil {
		return dbFault("read", "version of PostgreSQL", err)
	}
	if server < oldestServer {
		return unknown("it is PostgreSQL %d, and this needs %d or later", server/10000, oldestServer/10000)
	}
	for _, table := range slices.Sorted(maps.Keys(known)) {
		if err := s.checkColumns(ctx, table); err != nil {
			return err
		}
	}
	var triggers int
	err := s.conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass($1) AND NOT tgisinternal)
		+ (SELECT count(*) FROM pg_rewrite WHERE ev_class = to_regclass($1))`, written).Scan(&triggers)
	if err != nil {
		return dbFault("read", "triggers", err)
	}
	if triggers > 0 {
		return unknown("the table %s has triggers or rules, which Arvados does not make", written)
	}
	if err := s.conn.QueryRow(ctx, `SELECT coalesce(max(version), '') FROM schema_migrations`).Scan(&s.Version); err != nil {
		return dbFault("read", "version of the schema", err)
	}
	if s.Version < oldestVersion {
		return unknown("its schema is of version %s, and Arvados 2.4.0 has %s", s.Version, oldestVersion)
	}
	// With a LoginCluster one user is an administrator of several clusters.
	var prefix string
	err = s.conn.QueryRow(ctx, `SELECT coalesce((SELECT left(uuid, 5) FROM collections LIMIT 1), $1)`, s.cluster).Scan(&prefix)
	if err != nil {
		return dbFault("read", "collections", err)
	}
	if prefix != s.cluster {
		return unknown("its collections are those of the cluster %s, and the API server is that of %s", prefix, s.cluster)
	}
	var isAdmin bool
	err = s.conn.QueryRow(ctx, `SELECT coalesce(is_admin, false) FROM users WHERE uuid = $1`, s.user).Scan(&isAdmin)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return dbFault("read", "users", err)
	}
	if !isAdmin {
		return unknown("%s, whose token this is, is no administrator in it: it is another cluster's", s.user)
	}
	return nil
}

// checkColumns compares the columns of a table, and its indexes, with what is known.
func (s *Store) checkColumns(ctx context.Context, table string) error {
	rows, err := s.conn.Query(ctx, `SELECT attname::text, format_type(atttypid, atttypmod),
			EXISTS (SELECT FROM pg_index WHERE indrelid = attrelid AND indkey[0] = attnum AND indisvalid AND indpred IS NULL)
		FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped`, table)
	if err != nil {
		return dbFault("read", "columns of "+table, err)
	}
	found, indexed := map[string]string{}, map[string]bool{}
	var name, is string
	var leads bool
	_, err = pgx.ForEachRow(rows, []interface{}{&name, &is, &leads}, func() error {
		found[name], indexed[name] = is, leads
		return nil
	})
	if err != nil {
		return dbFault("read", "columns of "+table, err)
	}
	for _, column := range slices.Sorted(maps.Keys(known[table])) {
		want := known[table][column]
		switch is, there := found[column]; {
		case !there && !slices.Contains(unused, column):
			return unknown("there is no column %s.%s", table, column)
		case there && is != want && !slices.Contains(unused, column):
			return unknown("the column %s.%s is of type %s, not %s", table, column, is, want)
		case !indexed[column] && slices.Contains(lookups[table], column):
			return unknown("the column %s.%s has no index, which Arvados makes", table, column)
		}
	}
	if table != written {
		return nil
	}
	for _, column := range slices.Sorted(maps.Keys(found)) {
		if _, ok := known[table][column]; !ok {
			return unknown("the column %s.%s is not known", table, column)
		}
	}
	return nil
}
