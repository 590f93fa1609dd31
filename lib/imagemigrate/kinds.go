// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package imagemigrate

// Kind is one thing about links or collections that is out of the ordinary. The
// administrator's page has a row for each.
type Kind string

// About names.
const (
	SeveralNames    Kind = "several-names"     // a list is written
	RepeatedName    Kind = "repeated-name"     // several links say the same
	OtherOwner      Kind = "other-owner"       // of a link than of the collection
	OtherSpelling   Kind = "other-spelling"    // the familiar form is written
	BadName         Kind = "bad-name"          // no name at all by docker's rules
	NoTag           Kind = "no-tag"            // lookups always ask for one
	HashPart        Kind = "part-of-hash"      // to lookups by properties, as of any image
	HashAsName      Kind = "hash-as-name"      // the image's own; it is found by that anyway
	DigestName      Kind = "digest-name"       // is written as a digest
	NullName        Kind = "null-name"         // the property is null
	NameWithoutLink Kind = "name-without-link" // only the property tells it
)

// About hashes and times.
const (
	SeveralHashLinks    Kind = "several-hash-links"
	NoHashLink          Kind = "no-hash-link"
	OtherHash           Kind = "other-hash"            // than the file's
	NoTime              Kind = "no-time"               // no link tells it
	OddTime             Kind = "odd-time"              // is not in the form of a time, or is none
	HiddenTime          Kind = "hidden-time"           // 1980 or before
	LaterThanCollection Kind = "later-than-collection" // image made after it was stored
	TimesDiffer         Kind = "times-differ"          // from link to link
	TimeKept            Kind = "time-kept"             // the property says another one
	OddProperty         Kind = "odd-property"          // is there but cannot be read
)

// About what links point to.
const (
	NotAnImage  Kind = "not-an-image"
	OldFormat   Kind = "old-format"      // of Docker before 1.10
	UnusualFile Kind = "unusual-file"    // in a folder, or capital digits: cannot be run
	CannotPass  Kind = "cannot-pass"     // its own properties say that it was changed
	Inherited   Kind = "inherited"       // names of an image that this one has replaced
	HashHead    Kind = "head-is-hash"    // a portable data hash, which lookups passed over
	OtherHead   Kind = "head-is-other"   // no collection of this cluster
	GoneHead    Kind = "head-is-gone"    // no such collection any more
	TrashedHead Kind = "head-is-trashed" // or in a project in the trash
	OldHead     Kind = "head-is-old"     // an old version of a collection
)

// About reading images.
const (
	NotRead Kind = "not-read" // it cannot be read, or not without reading too much of it
	NoSize  Kind = "no-size"  // that would take reading too much
)

// About writing.
const (
	Frozen      Kind = "frozen"       // the project takes no changes
	NoObject    Kind = "no-object"    // its properties are no JSON object
	KeptVersion Kind = "kept-version" // its owner has asked to keep this version; the database's way makes none
	Twinned     Kind = "twinned"      // keys that a strict vocabulary lets pass
)

// Case is one special case.
type Case struct {
	Kind   Kind   `json:"kind"`
	Detail string `json:"detail,omitempty"`
}
