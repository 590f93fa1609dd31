// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package sqlstore lets a migration of images (lib/imagemigrate) read and write the
// PostgreSQL database of an Arvados cluster itself, which takes minutes where the
// API takes hours.
//
// It shows what an administrator sees by the API, and writes what the API server
// would write. It holds no transaction open while anything else is done, waits for
// nobody who has locked a collection, and for some seconds only for whoever has locked
// the table, and overwrites nothing that somebody else has changed. It never makes
// versions of collections, and never works on a schema that it does not know.
package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagemigrate"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Store is a database. It is for one goroutine at a time.
type Store struct {
	// Version is that of the schema, as the latest migration names it:
	// "20251006181234".
	Version string

	conn          *pgx.Conn
	cluster, user string
}

var _ imagemigrate.Store = (*Store)(nil)

// settings are those of the session. Waiting for a lock would make others wait
// behind it. Where few of many links are for images, the planner would read whole
// tables for each page.
var settings = map[string]string{
	"application_name": "arv-docker migrate",
	"TimeZone":         "UTC", // times have no zone in Arvados's tables
	"lock_timeout":     "2s",
	"enable_seqscan":   "off",
	"jit":              "off",
}

// Open connects to a database, given as a URL or as words ("host=… dbname=…"), and
// checks that it is that of an Arvados cluster, "zzzzz". user is the UUID of the
// administrator who changes collections.
func Open(ctx context.Context, dsn, cluster, user string) (*Store, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, &fault.Error{Op: "read", Side: fault.Request, Subject: "address of the database", Err: err, // which has no password in it
			Hint: `write postgresql://USER@HOST/DATABASE, or "host=… user=… dbname=…"; the password may be in PGPASSWORD or ~/.pgpass`}
	}
	for name, value := range settings {
		config.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, &fault.Error{Op: "connect to", Side: fault.Request, Subject: "database", Err: err,
			Hint: "name host, user and database as in PostgreSQL.Connection of the cluster's config, and no pooler between"}
	}
	s := &Store{conn: conn, cluster: cluster, user: user}
	if err := s.check(ctx); err != nil {
		return nil, errors.Join(err, s.Close(ctx))
	}
	return s, nil
}

// Close ends the connection.
func (s *Store) Close(ctx context.Context) error { return s.conn.Close(ctx) }

// dbFault makes err an error of the database, which is the API server's.
func dbFault(op, subject string, err error) error {
	e := &fault.Error{Op: op, Side: fault.API, Subject: subject, Err: err, Transient: true}
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		e.Transient = isBusy(err)
	}
	return e
}

// isBusy reports whether a statement was given up because of what others do, so
// that it has changed nothing: lock_timeout, deadlocks, statements that an
// administrator or a standby's recovery has cancelled.
func isBusy(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && slices.Contains([]string{"55P03", "40P01", "40001", "57014"}, refused.Code)
}

// unknown is an error about a schema.
func unknown(format string, args ...interface{}) error {
	return &fault.Error{Op: "check", Side: fault.Request, Subject: "database", Err: fmt.Errorf(format, args...),
		Hint: "leave out --sql: the way through the API takes Arvados 2.5.0 and later"}
}
