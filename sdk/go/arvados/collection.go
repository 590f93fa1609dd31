// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package arvados

import (
	"crypto/md5"
	"fmt"
	"regexp"
	"strings"
	"time"
)

var (
	// UUIDMatch tells whether a string is a UUID of any Arvados record.
	UUIDMatch = regexp.MustCompile(`^[0-9a-z]{5}-[0-9a-z]{5}-[0-9a-z]{15}$`).MatchString
	// PDHMatch tells whether a string is a portable data hash.
	PDHMatch = regexp.MustCompile(`^[0-9a-f]{32}\+[0-9]+$`).MatchString
)

// Collection is a set of files: a manifest that lists Keep blocks, and what
// users say about it. A record read by its portable data hash has only
// PortableDataHash and ManifestText; its UUID is then the hash as well.
type Collection struct {
	UUID                      string                 `json:"uuid"`
	Etag                      string                 `json:"etag"`
	OwnerUUID                 string                 `json:"owner_uuid"`
	TrashAt                   *time.Time             `json:"trash_at"`
	ManifestText              string                 `json:"manifest_text"` // locators signed for the reader's token
	UnsignedManifestText      string                 `json:"unsigned_manifest_text"`
	Name                      string                 `json:"name"`
	CreatedAt                 time.Time              `json:"created_at"`
	ModifiedAt                time.Time              `json:"modified_at"`
	ModifiedByUserUUID        string                 `json:"modified_by_user_uuid"`
	PortableDataHash          string                 `json:"portable_data_hash"`
	ReplicationConfirmed      *int                   `json:"replication_confirmed"`
	ReplicationConfirmedAt    *time.Time             `json:"replication_confirmed_at"`
	ReplicationDesired        *int                   `json:"replication_desired"`
	StorageClassesDesired     []string               `json:"storage_classes_desired"`
	StorageClassesConfirmed   []string               `json:"storage_classes_confirmed"`
	StorageClassesConfirmedAt *time.Time             `json:"storage_classes_confirmed_at"`
	DeleteAt                  *time.Time             `json:"delete_at"`
	IsTrashed                 bool                   `json:"is_trashed"`
	Properties                map[string]interface{} `json:"properties"`
	WritableBy                []string               `json:"writable_by,omitempty"`
	FileCount                 int                    `json:"file_count"`
	FileSizeTotal             int64                  `json:"file_size_total"`
	Version                   int                    `json:"version"`
	PreserveVersion           bool                   `json:"preserve_version"`
	CurrentVersionUUID        string                 `json:"current_version_uuid"`
	Description               string                 `json:"description"`
}

// CollectionList is one page of collections.
type CollectionList struct {
	Items          []Collection `json:"items"`
	ItemsAvailable int          `json:"items_available"`
	Offset         int          `json:"offset"`
	Limit          int          `json:"limit"`
}

// PortableDataHash is the name of a manifest by its content: the MD5 of the
// text without signatures and other hints, "+", and the length of that text.
// It does not check that mt is a manifest.
func PortableDataHash(mt string) string {
	bare := mapLocators(mt, func(locator string) string {
		size, hints, found := strings.Cut(locator[hashLength+1:], "+")
		if !found || hints == "" || size == "" || strings.Trim(size, "0123456789") != "" {
			return locator
		}
		return locator[:hashLength+1+len(size)]
	})
	return fmt.Sprintf("%x+%d", md5.Sum(bare), len(bare))
}

// A block locator begins with so many hex digits, and a "+".
const hashLength = 32

// mapLocators is manifest with each block locator replaced by f of it. It does
// without regular expressions, which take 30 times as long: large collections
// have manifests of many megabytes.
func mapLocators(manifest string, f func(locator string) string) []byte {
	out := make([]byte, 0, len(manifest))
	for rest := manifest; rest != ""; {
		end := strings.IndexAny(rest, " \n")
		if end < 0 {
			end = len(rest)
		}
		token := rest[:end]
		if len(token) > hashLength && token[hashLength] == '+' && strings.Trim(token[:hashLength], "0123456789abcdef") == "" {
			token = f(token)
		}
		out = append(out, token...)
		if rest = rest[end:]; rest != "" {
			out = append(out, rest[0])
			rest = rest[1:]
		}
	}
	return out
}
