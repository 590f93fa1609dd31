// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver
)

// Store keeps the records of a cluster in one SQLite file. What a finished
// transaction has written survives kill -9 and loss of power.
//
// Use by handlers:
//
//	err := store.Tx(ctx, func(tx *Tx) error {   // or View, to read only
//	    rec, err := tx.Get(containers, uuid)    // errNotFound if there is none
//	    rec["state"] = "Locked"
//	    return tx.Put(containers, rec)          // inserts or replaces
//	})
//	rows, err := tx.List(containers, Query{Filters: []Filter{Where("state", "=", "Queued")}})
//
// Records are plain values: changing one changes nothing in the store until
// Put. One transaction writes at a time; it sees its own writes, and either
// all of them or none remain. Actions of resources are given the transaction
// of their request and must not open another one.
type Store struct {
	writer *sql.DB // one connection
	reader *sql.DB
}

// OpenStore opens the database in dir, and makes it if there is none.
func OpenStore(ctx context.Context, dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0700); err != nil {
		return nil, err
	}
	// WAL with synchronous=FULL: readers never wait, and a commit is on disk
	// before the reply.
	common := []string{"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(20000)"}
	path := filepath.Join(dir, "api.sqlite")
	writer, err := open(path, url.Values{"_pragma": common, "_txlock": {"immediate"}})
	if err != nil {
		return nil, err
	}
	writer.SetMaxOpenConns(1)
	reader, err := open(path, url.Values{"_pragma": append(common, "query_only(1)")})
	s := &Store{writer: writer, reader: reader}
	if err == nil {
		reader.SetMaxOpenConns(8)
		err = migrate(ctx, writer)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func open(path string, params url.Values) (*sql.DB, error) {
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: params.Encode()}
	return sql.Open("sqlite", dsn.String())
}

// Close ends the use of the store, after all transactions.
func (s *Store) Close() error {
	var err error
	for _, db := range []*sql.DB{s.reader, s.writer} {
		if db != nil {
			err = errors.Join(err, db.Close())
		}
	}
	return err
}

// Tx runs f in a transaction that may write. It is committed if f returns nil.
func (s *Store) Tx(ctx context.Context, f func(*Tx) error) error {
	return run(ctx, s.writer, f)
}

// View runs f in a transaction that sees the store as it is now, and cannot
// write.
func (s *Store) View(ctx context.Context, f func(*Tx) error) error {
	return run(ctx, s.reader, f)
}

func run(ctx context.Context, db *sql.DB, f func(*Tx) error) error {
	inner, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer inner.Rollback() // without effect after Commit
	now := time.Now().UTC().Truncate(time.Microsecond).Format(timeFormat)
	if err := f(&Tx{sql: inner, now: now, access: map[string]access{}}); err != nil {
		return err
	}
	return inner.Commit()
}
