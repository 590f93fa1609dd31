// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
)

// Tx is one transaction. Its methods end with the context that it was opened
// with.
type Tx struct {
	sql    *sql.Tx
	now    string
	access map[string]access // by user, computed once
}

// errNotFound: there is no such record, or the caller cannot read it.
var errNotFound = refuse(404, "Path not found")

// Now is the time of the transaction, in timeFormat.
func (tx *Tx) Now() string { return tx.now }

// Get reads a record, whoever may read it, trashed or not.
func (tx *Tx) Get(kindName, uuid string) (Record, error) {
	rows, err := tx.List(kindName, Query{
		Filters: []Filter{Where("uuid", "=", uuid)}, IncludeTrash: true, Whole: true,
	})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, errNotFound
	}
	return rows[0], nil
}

// Put inserts or replaces a record whole. A record without UUID is an error.
func (tx *Tx) Put(kindName string, rec Record) error {
	k := kinds[kindName]
	uuid, _ := rec["uuid"].(string)
	if uuid == "" {
		return errors.New("record without uuid")
	}
	doc := maps.Clone(rec)
	names := append(k.columns(), "doc")
	values := make([]any, len(names))
	for i, name := range names[:len(names)-1] {
		values[i] = rec[name]
		if a := k.attr(name); a.apart {
			delete(doc, name)
		}
	}
	// What is computed is not stored.
	for _, a := range k.attrs {
		if a.sql != "" {
			delete(doc, a.name)
		}
	}
	buf, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	values[len(values)-1] = string(buf)
	var updates []string
	for _, name := range names {
		updates = append(updates, name+" = excluded."+name)
	}
	statement := fmt.Sprintf("INSERT INTO %s (%s) VALUES (?%s) ON CONFLICT (uuid) DO UPDATE SET %s",
		k.plural, strings.Join(names, ", "), strings.Repeat(", ?", len(names)-1), strings.Join(updates, ", "))
	if _, err := tx.sql.Exec(statement, values...); err != nil {
		return err
	}
	return tx.indexProperties(kindName, uuid, rec["properties"])
}

// Delete removes a record for good. It is no error if there is none.
func (tx *Tx) Delete(kindName, uuid string) error {
	if _, err := tx.sql.Exec("DELETE FROM properties WHERE uuid = ?", uuid); err != nil {
		return err
	}
	_, err := tx.sql.Exec("DELETE FROM "+kinds[kindName].plural+" WHERE uuid = ?", uuid)
	return err
}

func (tx *Tx) indexProperties(kindName, uuid string, properties any) error {
	if _, err := tx.sql.Exec("DELETE FROM properties WHERE uuid = ?", uuid); err != nil {
		return err
	}
	hash, _ := properties.(map[string]any)
	for key, value := range hash {
		if err := tx.indexProperty(kindName, uuid, key, value, false); err != nil {
			return err
		}
		list, _ := value.([]any)
		for _, item := range list {
			if err := tx.indexProperty(kindName, uuid, key, item, true); err != nil {
				return err
			}
		}
	}
	return nil
}

func (tx *Tx) indexProperty(kindName, uuid, key string, value any, listed bool) error {
	tag, plain, err := propertyValue(value)
	if err != nil {
		return err
	}
	_, err = tx.sql.Exec("INSERT OR IGNORE INTO properties (kind, key, tag, value, listed, uuid) VALUES (?, ?, ?, ?, ?, ?)",
		kindName, key, tag, plain, listed, uuid)
	return err
}

// propertyValue is how the index holds a value: see the table in migrate.go.
func propertyValue(value any) (tag string, plain any, err error) {
	switch v := value.(type) {
	case nil:
		return "z", "", nil
	case bool:
		return "b", fmt.Sprint(v), nil
	case string:
		return "s", v, nil
	case int, int64, float64:
		return "n", v, nil
	}
	buf, err := json.Marshal(value)
	return "j", string(buf), err
}
