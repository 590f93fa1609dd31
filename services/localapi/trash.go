// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"maps"
	"time"
)

// trashLifetime is how long trash can be taken out again, as in Arvados's
// defaults.
const trashLifetime = 14 * 24 * time.Hour

func later(moment string, d time.Duration) string {
	t, err := time.Parse(timeFormat, moment)
	if err != nil {
		return moment
	}
	return t.Add(d).Format(timeFormat)
}

// setTrash brings trash_at, delete_at and is_trashed of a changed record into
// agreement. Clients may set any of them.
func (s *Server) setTrash(tx *Tx, ch change) error {
	rec := ch.rec
	if ch.changed("trash_at") && rec["trash_at"] != nil {
		rec["trash_at"] = max(rec["trash_at"].(string), tx.now)
	} else if trashed := rec["is_trashed"] == true; trashed != (ch.old["is_trashed"] == true) && !ch.changed("trash_at") {
		if trashed {
			rec["trash_at"] = tx.now
		} else {
			rec["trash_at"], rec["delete_at"] = nil, nil
		}
	}
	trashAt, _ := rec["trash_at"].(string)
	rec["is_trashed"] = trashAt != "" && trashAt <= tx.now
	switch deleteAt, _ := rec["delete_at"].(string); {
	case ch.changed("trash_at") && !ch.changed("delete_at"):
		rec["delete_at"] = nil
		if trashAt != "" {
			rec["delete_at"] = later(trashAt, trashLifetime)
		}
	case trashAt != "" && deleteAt >= trashAt && ch.changed("delete_at"):
		// Not before the signatures end that have been given out.
		since := tx.now
		if was, _ := ch.old["trash_at"].(string); was != "" {
			since = min(since, was)
		}
		earliest := later(since, s.cfg.BlobSigningTTL)
		if was, _ := ch.old["delete_at"].(string); was != "" {
			earliest = min(earliest, was)
		}
		rec["delete_at"] = max(deleteAt, earliest)
	}
	deleteAt, _ := rec["delete_at"].(string)
	if (trashAt == "") != (deleteAt == "") {
		return refuse(422, "Delete at must be set if trash_at is set, and must be nil otherwise")
	}
	if deleteAt < trashAt {
		return refuse(422, "Delete at must not be earlier than trash_at")
	}
	return nil
}

// trashActions are the actions by which records go to the trash and come back.
func (s *Server) trashActions(k *kind, r rules) map[string]action {
	set := func(tx *Tx, c *Call, trashed bool) (any, error) {
		old, err := tx.find(c, k, true)
		if err != nil {
			return nil, err
		}
		if !trashed && old["is_trashed"] != true {
			return nil, refuseException(422, "ArvadosModel::InvalidStateTransitionError", "Item is not trashed, cannot untrash")
		}
		rec := maps.Clone(old)
		rec["is_trashed"] = trashed
		return s.save(tx, c, k, r, change{old: old, rec: rec})
	}
	trash := func(tx *Tx, c *Call) (any, error) { return set(tx, c, true) }
	return map[string]action{
		"DELETE /{uuid}":       {run: trash, doc: "Put a " + k.singular + " into the trash."},
		"POST /{uuid}/trash":   {run: trash, doc: "Put a " + k.singular + " into the trash."},
		"POST /{uuid}/untrash": {run: func(tx *Tx, c *Call) (any, error) { return set(tx, c, false) }, params: []string{"ensure_unique_name"}, doc: "Take a " + k.singular + " out of the trash."},
	}
}
