// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import "slices"

// Names of kinds, for Tx.
const (
	collections       = "collections"
	links             = "links"
	groups            = "groups"
	users             = "users"
	tokens            = "api_client_authorizations"
	workflows         = "workflows"
	keepServices      = "keep_services"
	containerRequests = "container_requests"
	containers        = "containers"
)

// kinds are all kinds, by plural name.
var kinds = func() map[string]*kind {
	all := map[string]*kind{}
	for _, k := range slices.Concat(dataKinds, accountKinds, workKinds) {
		k.attrs = slices.Concat([]attribute{
			{name: "uuid", typ: text, column: true, doc: "The record's name, given by the server."},
			{name: "owner_uuid", typ: text, null: "", column: true, doc: "The user or project that the record belongs to."},
			{name: "created_at", typ: datetime, column: true, fixed: true, doc: "When the record was made."},
			{name: "modified_at", typ: datetime, column: true, fixed: true, doc: "When the record was last changed."},
			{name: "modified_by_user_uuid", typ: text, null: "", fixed: true, doc: "The user who last changed the record."},
		}, k.attrs)
		all[k.plural] = k
	}
	return all
}()

var trashAttrs = []attribute{
	{name: "trash_at", typ: datetime, column: true, doc: "When the record goes to the trash."},
	{name: "delete_at", typ: datetime, column: true, doc: "When the record is deleted for good."},
	{name: "is_trashed", typ: boolean, null: false, sql: "ifnull(t.trash_at <= $now, 0)", doc: "The record is in the trash."},
}

var dataKinds = []*kind{
	{
		plural: collections, singular: "collection", class: "Collection", infix: "4zz18",
		perOwner: true, trashable: true,
		search: []string{"owner_uuid", "uuid", "name", "description", "properties", "portable_data_hash", "file_names"},
		attrs: slices.Concat([]attribute{
			{name: "name", typ: text, null: "", column: true, doc: "What users call it; one of a kind in its project."},
			{name: "description", typ: text, doc: "Text for people, in HTML."},
			{name: "properties", typ: hash, null: map[string]any{}, doc: "What users say about it, by key."},
			{name: "portable_data_hash", typ: text, null: "", column: true, doc: "MD5 and length of the manifest without signatures."},
			{name: "manifest_text", typ: longText, null: "", apart: true, doc: "Files and their blocks, signed for the reader's token."},
			{name: "unsigned_manifest_text", typ: longText, null: "", hidden: true, fixed: true, doc: "The manifest without signatures, if selected."},
			{name: "file_names", typ: longText, apart: true, secret: true},
			{name: "replication_desired", typ: integer, doc: "How many copies of each block are wanted."},
			{name: "replication_confirmed", typ: integer, doc: "How many copies of each block are known to exist."},
			{name: "replication_confirmed_at", typ: datetime, doc: "When copies were last counted."},
			{name: "storage_classes_desired", typ: array, null: []any{}, doc: "Storage classes that are to hold the blocks."},
			{name: "storage_classes_confirmed", typ: array, null: []any{}, doc: "Storage classes that are known to hold the blocks."},
			{name: "storage_classes_confirmed_at", typ: datetime, doc: "When storage classes were last looked at."},
			{name: "version", typ: integer, null: int64(1), doc: "Number of the version; this server keeps the last one only."},
			{name: "current_version_uuid", typ: text, null: "", doc: "The record itself: this server keeps no old versions."},
			{name: "preserve_version", typ: boolean, null: false, doc: "Taken and shown, without effect on this server."},
			{name: "file_count", typ: integer, null: int64(0), fixed: true, doc: "How many files there are."},
			{name: "file_size_total", typ: integer, null: int64(0), fixed: true, doc: "Sum of the sizes of all files, in bytes."},
		}, trashAttrs),
	},
	{
		plural: links, singular: "link", class: "Link", infix: "o0j2j",
		search: []string{"owner_uuid", "uuid", "name", "link_class", "head_uuid", "tail_uuid", "properties"},
		attrs: []attribute{
			{name: "name", typ: text, null: "", column: true, doc: "What the link says, within its class."},
			{name: "link_class", typ: text, null: "", column: true, doc: "What the link is for: permission, tag, docker_image_hash and so on."},
			{name: "head_uuid", typ: text, null: "", column: true, doc: "What the link is about."},
			{name: "head_kind", typ: text, null: "", fixed: true, doc: "The kind of what the link is about."},
			{name: "tail_uuid", typ: text, null: "", column: true, doc: "Of whom or what it is said."},
			{name: "tail_kind", typ: text, null: "", fixed: true, doc: "The kind of whom or what it is said of."},
			{name: "properties", typ: hash, null: map[string]any{}, doc: "More about the link, by key."},
		},
	},
	{
		plural: groups, singular: "group", class: "Group", infix: "j7d0g",
		perOwner: true, trashable: true,
		search: []string{"owner_uuid", "uuid", "name", "description", "group_class", "properties"},
		attrs: slices.Concat([]attribute{
			{name: "name", typ: text, null: "", column: true, doc: "What users call it; one of a kind in its project."},
			{name: "description", typ: text, doc: "Text for people, in HTML."},
			{name: "group_class", typ: text, null: "", column: true, doc: "project, role or filter."},
			{name: "properties", typ: hash, null: map[string]any{}, doc: "What users say about it, by key."},
			{name: "frozen_by_uuid", typ: text, doc: "Who has frozen the project, which nobody can change then."},
		}, trashAttrs),
	},
	{
		plural: workflows, singular: "workflow", class: "Workflow", infix: "7fd4e",
		search: []string{"owner_uuid", "uuid", "name", "description", "collection_uuid"},
		attrs: []attribute{
			{name: "name", typ: text, null: "", column: true, doc: "What users call it."},
			{name: "description", typ: text, doc: "Text for people, in HTML."},
			{name: "definition", typ: longText, null: "", doc: "The workflow in CWL."},
			{name: "collection_uuid", typ: text, doc: "A collection that holds the workflow, if one does."},
		},
	},
	{
		plural: keepServices, singular: "keep_service", class: "KeepService", infix: "bi6l4",
		attrs: []attribute{
			{name: "service_host", typ: text, null: "", doc: "Host name or address."},
			{name: "service_port", typ: integer, doc: "Port."},
			{name: "service_ssl_flag", typ: boolean, null: false, doc: "The service speaks HTTPS."},
			{name: "service_type", typ: text, null: "", doc: "disk or proxy."},
			{name: "read_only", typ: boolean, null: false, doc: "Blocks cannot be written there."},
		},
	},
}
