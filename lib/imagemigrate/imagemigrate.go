// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package imagemigrate brings what links say of container images into the
// properties of their collections, so that a lookup by properties answers what
// one by links answered. Clusters that have been in use for long hold names of
// images in links of the classes docker_image_hash and docker_image_repo+tag.
// For as long as something looks at links only, it brings back into links what
// only properties say, once or continuously.
//
// It is for administrators, by way of arv-docker migrate and sync. It adds to
// properties and links and replaces none, keeps what it needs to undo itself, and
// can be stopped and started again at any point. It never changes a link, removes
// only those that it has made itself, when it is told to, and no files of a collection.
package imagemigrate

import (
	"errors"
	"net/http"
	"regexp"
	"strings"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// Migration is one way over all links of a cluster.
type Migration struct {
	Store Store // ByAPI, or another
	Rules
	// Strict is set where a vocabulary is known to be strict and to lack keys;
	// else that is found out from an API server that refuses them.
	Strict   bool
	Deep     keepfile.BlockReader // Keep with an administrator's token, to read what only images tell; nil to write only what links tell
	Parallel int                  // images that are read at a time; 0 means 4
	DryRun   bool
	Rate     float64       // writes a second at most; 0 for no limit
	Rollback *RollbackFile // gets what is needed to undo it; not used by a dry run
	// Start is where to begin: zero, or the Position where an earlier run has
	// stopped. Passed is told of each that is reached; what lies before it is
	// done.
	Start  Position
	Passed func(Position) error
	Report func(Row) error
}

// Position is how far a migration has come. In JSON it is the content of the file
// by which one goes on.
type Position struct {
	Server  string  `json:"server,omitempty"` // for whoever keeps it: which cluster it is in
	Way     string  `json:"way,omitempty"`    // "" for a Migration; WayToLinks
	Pass    int     `json:"pass,omitempty"`   // ToLinks goes through images several times
	After   string  `json:"after"`            // the last head of links, or image, that is done
	Late    []Late  `json:"late,omitempty"`   // collections that are to be done in the end
	Summary Summary `json:"summary"`
}

// Summary counts what has been seen and done.
type Summary struct {
	Links       int          `json:"links"`
	Heads       int          `json:"heads"` // what they point to
	Written     int          `json:"written"`
	Unchanged   int          `json:"unchanged"` // have the properties
	Left        int          `json:"left"`      // get none: see the cases
	Failed      int          `json:"failed"`    // the API server refused, or failed
	Cases       map[Kind]int `json:"cases"`
	NewLinks    int          `json:"new_links,omitempty"` // by ToLinks
	LastFailure string       `json:"last_failure,omitempty"`
}

// Action is what has become of a collection.
type Action string

const (
	Written    Action = "written"
	WouldWrite Action = "would-write" // in a dry run
	Unchanged  Action = "unchanged"
	Left       Action = "left"
	Failed     Action = "failed"
)

// Row is one line of the report.
type Row struct {
	Collection string    `json:"collection"` // or what else links point to
	Owner      string    `json:"owner,omitempty"`
	Action     Action    `json:"action"`
	Names      []string  `json:"names,omitempty"` // that are added
	Links      []NewLink `json:"links,omitempty"` // by ToLinks
	Cases      []Case    `json:"cases,omitempty"`
	Error      string    `json:"error,omitempty"`
	late       []string  // heads to look at again, since what has failed may pass
}

// Classes of links, and the property of theirs that tells when the image was made.
const (
	classHash      = dockerimage.LinkHash
	className      = dockerimage.LinkName
	classMigration = "docker_image_migration"
	linkTime       = dockerimage.LinkTime
)

// isRefusal reports whether the API server will never do what it was asked for, so
// that going on with the rest makes sense.
func isRefusal(err error) bool {
	var refused *arvados.TransactionError
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.StatusCode {
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusTooManyRequests:
		return false
	case http.StatusUnprocessableEntity:
		return !dbTrouble.MatchString(strings.Join(refused.Errors, "\n"))
	}
	return refused.StatusCode >= 400 && refused.StatusCode < 500
}

// dbTrouble is in answers of API servers whose database has failed for the moment. Up
// to Arvados 2.7 these are 422 like those to a request that is wrong.
var dbTrouble = regexp.MustCompile(`#<ActiveRecord::(Connection|Deadlocked|LockWaitTimeout|Query(Aborted|Canceled)|SerializationFailure|StatementTimeout)|` +
	`PG::(AdminShutdown|CannotConnectNow|ConnectionBad|CrashShutdown|InFailedSqlTransaction|LockNotAvailable|QueryCanceled|TRDeadlockDetected|TooManyConnections|UnableToSend)\b`)

// apiFault makes err an error of the API server.
func apiFault(op, subject string, err error) error {
	e := &fault.Error{Op: op, Side: fault.API, Subject: subject, Err: err, Transient: true}
	var refused *arvados.TransactionError
	if errors.As(err, &refused) {
		e.Transient = !isRefusal(err) && refused.StatusCode != http.StatusUnauthorized
	}
	return e
}
