// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

var accountKinds = []*kind{
	{
		plural: users, singular: "user", class: "User", infix: "tpzed",
		search: []string{"owner_uuid", "uuid", "email", "first_name", "last_name", "username"},
		attrs: []attribute{
			{name: "username", typ: text, null: "", column: true, doc: "Name of the account."},
			{name: "email", typ: text, null: "", column: true, doc: "Address of the user."},
			{name: "first_name", typ: text, null: "", doc: "The user's first name."},
			{name: "last_name", typ: text, null: "", doc: "The user's last name."},
			{name: "full_name", typ: text, null: "", fixed: true, doc: "First and last name."},
			{name: "identity_url", typ: text, null: "", doc: "Name of the account at the place where the user logs in."},
			{name: "prefs", typ: hash, null: map[string]any{}, doc: "Settings of the user's programs."},
			{name: "is_active", typ: boolean, null: false, doc: "The user may use the cluster."},
			{name: "is_admin", typ: boolean, null: false, doc: "The user may do everything."},
			{name: "is_invited", typ: boolean, null: false, fixed: true, doc: "The user may become active."},
		},
	},
	{
		plural: tokens, singular: "api_client_authorization", class: "ApiClientAuthorization", infix: "gj3su",
		attrs: []attribute{
			{name: "api_token", typ: text, null: "", column: true, doc: "The secret part of the token."},
			{name: "created_by_ip_address", typ: text, doc: "Kept empty by this server."},
			{name: "expires_at", typ: datetime, column: true, doc: "When the token ends, if it does."},
			{name: "last_used_at", typ: datetime, fixed: true, doc: "Kept empty by this server."},
			{name: "last_used_by_ip_address", typ: text, fixed: true, doc: "Kept empty by this server."},
			{name: "scopes", typ: array, null: []any{}, doc: "What the token is good for: [\"all\"], or lists of method and path."},
		},
	},
}
