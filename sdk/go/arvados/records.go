// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import "time"

// Link says something (LinkClass, Name) about one record (head), or of one
// record to another (tail to head): a permission, a tag, a name of an image.
type Link struct {
	UUID               string                 `json:"uuid,omitempty"`
	Etag               string                 `json:"etag"`
	OwnerUUID          string                 `json:"owner_uuid"`
	Name               string                 `json:"name"`
	LinkClass          string                 `json:"link_class"`
	CreatedAt          time.Time              `json:"created_at"`
	ModifiedAt         time.Time              `json:"modified_at"`
	ModifiedByUserUUID string                 `json:"modified_by_user_uuid"`
	HeadUUID           string                 `json:"head_uuid"`
	HeadKind           string                 `json:"head_kind"`
	TailUUID           string                 `json:"tail_uuid"`
	TailKind           string                 `json:"tail_kind"`
	Properties         map[string]interface{} `json:"properties"`
}

// LinkList is one page of links.
type LinkList struct {
	Items          []Link `json:"items"`
	ItemsAvailable int    `json:"items_available"`
	Offset         int    `json:"offset"`
	Limit          int    `json:"limit"`
}

// Group is a project (GroupClass "project"), a role ("role") or a saved
// search ("filter").
type Group struct {
	UUID               string                 `json:"uuid"`
	Name               string                 `json:"name"`
	OwnerUUID          string                 `json:"owner_uuid"`
	GroupClass         string                 `json:"group_class"`
	Etag               string                 `json:"etag"`
	TrashAt            *time.Time             `json:"trash_at"`
	CreatedAt          time.Time              `json:"created_at"`
	ModifiedAt         time.Time              `json:"modified_at"`
	ModifiedByUserUUID string                 `json:"modified_by_user_uuid"`
	DeleteAt           *time.Time             `json:"delete_at"`
	IsTrashed          bool                   `json:"is_trashed"`
	Properties         map[string]interface{} `json:"properties"`
	WritableBy         []string               `json:"writable_by,omitempty"`
	Description        string                 `json:"description"`
	FrozenByUUID       string                 `json:"frozen_by_uuid"`
	CanWrite           bool                   `json:"can_write"`
	CanManage          bool                   `json:"can_manage"`
}

// GroupList is one page of groups.
type GroupList struct {
	Items          []Group       `json:"items"`
	ItemsAvailable int           `json:"items_available"`
	Offset         int           `json:"offset"`
	Limit          int           `json:"limit"`
	Included       []interface{} `json:"included"`
}

// User is an account.
type User struct {
	UUID               string                 `json:"uuid"`
	Etag               string                 `json:"etag"`
	IsActive           bool                   `json:"is_active"`
	IsAdmin            bool                   `json:"is_admin"`
	Username           string                 `json:"username"`
	Email              string                 `json:"email"`
	FullName           string                 `json:"full_name"`
	FirstName          string                 `json:"first_name"`
	LastName           string                 `json:"last_name"`
	IdentityURL        string                 `json:"identity_url"`
	IsInvited          bool                   `json:"is_invited"`
	OwnerUUID          string                 `json:"owner_uuid"`
	CreatedAt          time.Time              `json:"created_at"`
	ModifiedAt         time.Time              `json:"modified_at"`
	ModifiedByUserUUID string                 `json:"modified_by_user_uuid"`
	Prefs              map[string]interface{} `json:"prefs"`
	WritableBy         []string               `json:"writable_by,omitempty"`
	CanWrite           bool                   `json:"can_write"`
	CanManage          bool                   `json:"can_manage"`
}

// UserList is one page of users.
type UserList struct {
	Items          []User `json:"items"`
	ItemsAvailable int    `json:"items_available"`
	Offset         int    `json:"offset"`
	Limit          int    `json:"limit"`
}

// CurrentUser is the account that c's token belongs to.
func (c *Client) CurrentUser() (User, error) {
	var u User
	err := c.RequestAndDecode(&u, "GET", "arvados/v1/users/current", nil, nil)
	return u, err
}

// APIClientAuthorization is a token. APIToken is its secret part alone.
type APIClientAuthorization struct {
	UUID                string    `json:"uuid"`
	APIToken            string    `json:"api_token"`
	CreatedAt           time.Time `json:"created_at"`
	CreatedByIPAddress  string    `json:"created_by_ip_address"`
	Etag                string    `json:"etag"`
	ExpiresAt           time.Time `json:"expires_at"`
	LastUsedAt          time.Time `json:"last_used_at"`
	LastUsedByIPAddress string    `json:"last_used_by_ip_address"`
	ModifiedAt          time.Time `json:"modified_at"`
	ModifiedByUserUUID  string    `json:"modified_by_user_uuid"`
	OwnerUUID           string    `json:"owner_uuid"`
	Scopes              []string  `json:"scopes"`
}

// APIClientAuthorizationList is one page of tokens.
type APIClientAuthorizationList struct {
	Items []APIClientAuthorization `json:"items"`
}

// TokenV2 is the token as clients send it: "v2/UUID/SECRET".
func (aca APIClientAuthorization) TokenV2() string {
	return "v2/" + aca.UUID + "/" + aca.APIToken
}
