// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"crypto/rand"
	"math/big"
	"slices"
	"strings"
)

// Record is one stored record by attribute. Values are nil, bool, int64,
// float64, string, []any and map[string]any; times are strings in timeFormat.
type Record = map[string]any

// timeFormat is how records and replies write a time, always in UTC. All times
// are of one length, so that they compare as text.
const timeFormat = "2006-01-02T15:04:05.000000000Z"

// valueType is what an attribute holds, as the discovery document names it.
type valueType string

const (
	text     valueType = "string"
	longText valueType = "text"
	datetime valueType = "datetime"
	boolean  valueType = "Boolean"
	integer  valueType = "integer"
	float    valueType = "float"
	hash     valueType = "Hash"
	array    valueType = "Array"
)

// attribute is one attribute of a kind.
type attribute struct {
	name string
	typ  valueType
	doc  string
	// null is what replies show where the record has nothing.
	null any
	// column: kept in a column of its own as well, and indexed.
	column bool
	// apart: kept in a column and not in the document, and read only when
	// asked for, since it may be megabytes.
	apart bool
	// hidden: not in replies unless selected.
	hidden bool
	// secret: never in replies.
	secret bool
	// fixed: clients cannot set it; what they send is ignored, since many
	// send back what they got.
	fixed bool
	// sql computes an attribute that is not stored. "$now" stands for the
	// time of the transaction.
	sql string
}

// kind is one kind of records.
type kind struct {
	plural   string // in paths, and name of the table
	singular string // in bodies
	class    string // in messages
	infix    string // of UUIDs
	attrs    []attribute
	// search are the attributes that a filter on "any" looks at.
	search []string
	// perOwner: names are unique among the untrashed records of an owner.
	perOwner bool
	// trashable: has trash_at and delete_at.
	trashable bool
}

// arvadosKind is the value of "kind" in replies: "arvados#containerRequest".
func (k *kind) arvadosKind() string {
	return "arvados#" + strings.ToLower(k.class[:1]) + k.class[1:]
}

// attr finds an attribute, nil if there is none.
func (k *kind) attr(name string) *attribute {
	i := slices.IndexFunc(k.attrs, func(a attribute) bool { return a.name == name })
	if i < 0 {
		return nil
	}
	return &k.attrs[i]
}

// columns are the names of the attributes that have columns.
func (k *kind) columns() (names []string) {
	for _, a := range k.attrs {
		if a.column || a.apart {
			names = append(names, a.name)
		}
	}
	return names
}

// newUUID makes up a UUID of this kind.
func (k *kind) newUUID(clusterID string) string {
	return clusterID + "-" + k.infix + "-" + randomWord(15)
}

// kindOf finds the kind of a UUID, nil if there is none.
func kindOf(uuid string) *kind {
	if len(uuid) != 27 {
		return nil
	}
	for _, k := range kinds {
		if uuid[6:11] == k.infix {
			return k
		}
	}
	return nil
}

// randomWord is n lower-case letters and digits that nobody can guess.
func randomWord(n int) string {
	const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
	word := make([]byte, n)
	for i := range word {
		pick, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			panic(err) // the system has no randomness
		}
		word[i] = alphabet[pick.Int64()]
	}
	return string(word)
}
