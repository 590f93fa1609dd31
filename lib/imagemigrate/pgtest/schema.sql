-- Copyright (C) The Arvados Authors. All rights reserved.
--
-- SPDX-License-Identifier: AGPL-3.0

-- The tables of an Arvados cluster's database that a migration of images reads or
-- writes, with the columns and indexes that they have at version 20251006181234.
-- Text searches and keyset pages go by these indexes, and each change of a
-- collection has to bring all of them up to date.

CREATE EXTENSION pg_trgm;

CREATE TABLE schema_migrations (version varchar(255) NOT NULL PRIMARY KEY);
INSERT INTO schema_migrations VALUES ('20220303204419'), ('20251006181234');

CREATE TABLE users (
	id bigserial PRIMARY KEY, uuid varchar(255), owner_uuid varchar(255) NOT NULL, created_at timestamp NOT NULL,
	modified_by_client_uuid varchar(255), modified_by_user_uuid varchar(255), modified_at timestamp, email varchar(255),
	first_name varchar(255), last_name varchar(255), identity_url varchar(255), is_admin boolean, prefs text,
	updated_at timestamp NOT NULL, default_owner_uuid varchar(255), is_active boolean DEFAULT false, username varchar(255),
	redirect_to_user_uuid varchar
);
CREATE UNIQUE INDEX index_users_on_uuid ON users (uuid);

CREATE TABLE frozen_groups (uuid varchar);
CREATE UNIQUE INDEX index_frozen_groups_on_uuid ON frozen_groups (uuid);

CREATE TABLE trashed_groups (group_uuid varchar, trash_at timestamp);
CREATE UNIQUE INDEX index_trashed_groups_on_group_uuid ON trashed_groups (group_uuid);

CREATE TABLE links (
	id bigserial PRIMARY KEY, uuid varchar(255), owner_uuid varchar(255), created_at timestamp NOT NULL,
	modified_by_client_uuid varchar(255), modified_by_user_uuid varchar(255), modified_at timestamp, tail_uuid varchar(255),
	link_class varchar(255), name varchar(255), head_uuid varchar(255), properties jsonb, updated_at timestamp NOT NULL
);
CREATE UNIQUE INDEX index_links_on_uuid ON links (uuid);
CREATE INDEX index_links_on_owner_uuid ON links (owner_uuid);
CREATE INDEX index_links_on_head_uuid ON links (head_uuid);
CREATE INDEX index_links_on_tail_uuid ON links (tail_uuid);
CREATE INDEX index_links_on_substring_head_uuid ON links (substring(head_uuid, 7, 5));
CREATE INDEX index_links_on_substring_tail_uuid ON links (substring(tail_uuid, 7, 5));
CREATE INDEX index_links_on_created_at_and_uuid ON links (created_at, uuid);
CREATE INDEX index_links_on_modified_at_and_uuid ON links (modified_at, uuid);
CREATE UNIQUE INDEX index_links_on_name ON links (name) WHERE link_class = 'published_port';
CREATE UNIQUE INDEX links_tail_name_unique_if_link_class_name ON links (tail_uuid, name) WHERE link_class = 'name';
CREATE INDEX links_index_on_properties ON links USING gin (properties);
CREATE INDEX links_search_index ON links
	(uuid, owner_uuid, modified_by_client_uuid, modified_by_user_uuid, tail_uuid, link_class, name, head_uuid);

CREATE TABLE collections (
	id bigserial PRIMARY KEY, owner_uuid varchar(255), created_at timestamp NOT NULL, modified_by_client_uuid varchar(255),
	modified_by_user_uuid varchar(255), modified_at timestamp, portable_data_hash varchar(255), replication_desired integer,
	replication_confirmed_at timestamp, replication_confirmed integer, updated_at timestamp NOT NULL, uuid varchar(255),
	manifest_text text, name varchar(255), description varchar(524288), properties jsonb, delete_at timestamp, file_names text,
	trash_at timestamp, is_trashed boolean NOT NULL DEFAULT false, storage_classes_desired jsonb DEFAULT '["default"]',
	storage_classes_confirmed jsonb DEFAULT '[]', storage_classes_confirmed_at timestamp, current_version_uuid varchar,
	version integer NOT NULL DEFAULT 1, preserve_version boolean DEFAULT false, file_count integer NOT NULL DEFAULT 0,
	file_size_total bigint NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX index_collections_on_uuid ON collections (uuid);
CREATE INDEX index_collections_on_owner_uuid ON collections (owner_uuid);
CREATE UNIQUE INDEX index_collections_on_owner_uuid_and_name ON collections (owner_uuid, name)
	WHERE is_trashed = false AND current_version_uuid = uuid;
CREATE UNIQUE INDEX index_collections_on_current_version_uuid_and_version ON collections (current_version_uuid, version);
CREATE INDEX index_collections_on_created_at_and_uuid ON collections (created_at, uuid);
CREATE INDEX index_collections_on_modified_at_and_uuid ON collections (modified_at, uuid);
CREATE INDEX index_collections_on_portable_data_hash_and_trash_at ON collections (portable_data_hash, trash_at);
CREATE INDEX index_collections_on_trash_at ON collections (trash_at);
CREATE INDEX index_collections_on_delete_at ON collections (delete_at);
CREATE INDEX index_collections_on_is_trashed ON collections (is_trashed);
CREATE INDEX index_collections_on_name ON collections USING gin (name gin_trgm_ops);
CREATE INDEX index_collections_on_name_btree ON collections (name);
CREATE INDEX collection_index_on_properties ON collections USING gin (properties);
CREATE INDEX collections_search_index ON collections
	(owner_uuid, modified_by_client_uuid, modified_by_user_uuid, portable_data_hash, uuid, name, current_version_uuid);
CREATE INDEX collections_trgm_text_search_idx ON collections USING gin ((
	coalesce(name, '') || ' ' || coalesce(description, '') || ' ' || coalesce(properties::text, '') || ' ' || coalesce(file_names, '')
) gin_trgm_ops);
