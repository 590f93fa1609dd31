// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"database/sql"
	"fmt"
	"strings"
)

// Query says which records to list. The zero value lists all that are not
// trashed, in no particular order.
type Query struct {
	Filters      []Filter // all of them must hold
	Order        []Order
	Limit        int // 0 for all
	Offset       int
	IncludeTrash bool
	// Reader, if not nil, leaves out what the caller cannot read.
	Reader *Caller
	// Whole also reads what is kept apart from the documents: manifests.
	Whole bool
}

// Order is one key to sort by.
type Order struct {
	Attr string
	Desc bool
}

// List reads records.
func (tx *Tx) List(kindName string, q Query) ([]Record, error) {
	k := kinds[kindName]
	where, args, err := tx.where(k, q)
	if err != nil {
		return nil, err
	}
	columns := []string{"t.doc"}
	var beside []string // attributes that are not in the document
	for _, a := range k.attrs {
		if a.sql != "" || a.apart && q.Whole {
			columns = append(columns, tx.expr(k, a.name))
			beside = append(beside, a.name)
		}
	}
	statement := fmt.Sprintf("SELECT %s FROM %s t WHERE %s", strings.Join(columns, ", "), k.plural, where)
	for i, o := range q.Order {
		statement += map[bool]string{true: " ORDER BY ", false: ", "}[i == 0] + tx.expr(k, o.Attr)
		if o.Desc {
			statement += " DESC"
		}
	}
	if q.Limit > 0 || q.Offset > 0 {
		limit := q.Limit
		if limit == 0 {
			limit = -1
		}
		statement += fmt.Sprintf(" LIMIT %d OFFSET %d", limit, q.Offset)
	}
	rows, err := tx.sql.Query(statement, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var records []Record
	for rows.Next() {
		rec, err := scan(rows, beside)
		if err != nil {
			return nil, err
		}
		records = append(records, rec)
	}
	return records, rows.Err()
}

// scan reads a row of a document and what is beside it.
func scan(rows *sql.Rows, beside []string) (Record, error) {
	var doc string
	values := make([]any, len(beside))
	targets := []any{&doc}
	for i := range values {
		targets = append(targets, &values[i])
	}
	if err := rows.Scan(targets...); err != nil {
		return nil, err
	}
	value, err := decodeJSON([]byte(doc))
	if err != nil {
		return nil, err
	}
	rec := value.(map[string]any)
	for i, name := range beside {
		switch v := values[i].(type) {
		case int64: // SQLite's booleans; no number is kept beside a document
			rec[name] = v != 0
		case nil:
		default:
			rec[name] = v
		}
	}
	return rec, nil
}

// Count is how many records List would give without limit and offset.
func (tx *Tx) Count(kindName string, q Query) (int, error) {
	k := kinds[kindName]
	where, args, err := tx.where(k, q)
	if err != nil {
		return 0, err
	}
	var n int
	err = tx.sql.QueryRow(fmt.Sprintf("SELECT count(*) FROM %s t WHERE %s", k.plural, where), args...).Scan(&n)
	return n, err
}

// where is the condition of a query.
func (tx *Tx) where(k *kind, q Query) (string, []any, error) {
	terms := []string{"1"}
	var args []any
	add := func(term string, values ...any) {
		terms = append(terms, "("+term+")")
		args = append(args, values...)
	}
	for _, f := range q.Filters {
		term, values, err := tx.condition(k, f)
		if err != nil {
			return "", nil, err
		}
		add(term, values...)
	}
	if k.trashable {
		add("t.delete_at IS NULL OR t.delete_at > ?", tx.now)
		if !q.IncludeTrash {
			add("t.trash_at IS NULL OR t.trash_at > ?", tx.now)
		}
	}
	if q.Reader != nil {
		term, values, err := tx.readable(k, q.Reader, q.IncludeTrash)
		if err != nil {
			return "", nil, err
		}
		add(term, values...)
	}
	return strings.Join(terms, " AND "), args, nil
}

// expr is the SQL expression of an attribute.
func (tx *Tx) expr(k *kind, name string) string {
	a := k.attr(name)
	switch {
	case a.sql != "":
		return strings.ReplaceAll(a.sql, "$now", "'"+tx.now+"'")
	case a.column, a.apart:
		return "t." + name
	}
	return "json_extract(t.doc, '$." + name + "')"
}
