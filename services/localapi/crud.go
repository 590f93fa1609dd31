// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"maps"
	"reflect"
)

// change is one record before and after what a call asks for.
type change struct {
	old Record // nil if the record is new
	rec Record
}

// changed tells whether an attribute gets another value.
func (ch change) changed(name string) bool {
	return !reflect.DeepEqual(ch.old[name], ch.rec[name])
}

// rules are what is special about the records of one kind. Each may be nil.
type rules struct {
	// before may mend or refuse the call itself.
	before func(tx *Tx, c *Call) error
	// check completes and validates a record, and refuses what may not be.
	check func(tx *Tx, c *Call, ch change) error
}

// crud are the actions that most kinds have.
func (s *Server) crud(k *kind, r rules) map[string]action {
	return map[string]action{
		"GET":            {run: func(tx *Tx, c *Call) (any, error) { return list(tx, c, k) }, doc: "List " + k.plural + "."},
		"GET /{uuid}":    {run: func(tx *Tx, c *Call) (any, error) { return get(tx, c, k) }, doc: "Read a " + k.singular + "."},
		"POST":           {run: func(tx *Tx, c *Call) (any, error) { return s.create(tx, c, k, r) }, doc: "Make a " + k.singular + "."},
		"PATCH /{uuid}":  {run: func(tx *Tx, c *Call) (any, error) { return s.update(tx, c, k, r) }, doc: "Change a " + k.singular + "."},
		"DELETE /{uuid}": {run: func(tx *Tx, c *Call) (any, error) { return remove(tx, c, k) }, doc: "Delete a " + k.singular + "."},
	}
}

// get is the record that the call names, if the caller can read it.
func get(tx *Tx, c *Call, k *kind) (Record, error) {
	return tx.find(c, k, c.Params.Bool("include_trash"))
}

// find is get with or without trash.
func (tx *Tx) find(c *Call, k *kind, includeTrash bool) (Record, error) {
	found, err := tx.List(k.plural, Query{
		Filters: []Filter{Where("uuid", "=", c.UUID)}, Reader: c.Caller, IncludeTrash: includeTrash, Whole: true,
	})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errNotFound
	}
	return found[0], nil
}

func (s *Server) create(tx *Tx, c *Call, k *kind, r rules) (Record, error) {
	if r.before != nil {
		if err := r.before(tx, c); err != nil {
			return nil, err
		}
	}
	rec := Record{}
	if err := assign(k, rec, c.Attrs); err != nil {
		return nil, err
	}
	if rec["uuid"] == nil {
		rec["uuid"] = k.newUUID(s.clusterID)
	} else if !c.Caller.IsAdmin || kindOf(rec["uuid"].(string)) != k {
		return nil, denied("")
	}
	if rec["owner_uuid"] == nil {
		rec["owner_uuid"] = c.Caller.UserUUID
	}
	return s.save(tx, c, k, r, change{rec: rec})
}

func (s *Server) update(tx *Tx, c *Call, k *kind, r rules) (Record, error) {
	old, err := get(tx, c, k)
	if err != nil {
		return nil, err
	}
	if r.before != nil {
		if err := r.before(tx, c); err != nil {
			return nil, err
		}
	}
	rec := maps.Clone(old)
	if err := assign(k, rec, c.Attrs); err != nil {
		return nil, err
	}
	if rec["uuid"] != old["uuid"] {
		return nil, denied("")
	}
	return s.save(tx, c, k, r, change{old: old, rec: rec})
}

// save checks a change and makes it.
func (s *Server) save(tx *Tx, c *Call, k *kind, r rules, ch change) (Record, error) {
	if ch.old != nil && reflect.DeepEqual(ch.old, ch.rec) {
		return ch.rec, nil // modified_at stays as well
	}
	if err := s.permitted(tx, c, k, ch); err != nil {
		return nil, err
	}
	if k.trashable {
		if err := s.setTrash(tx, ch); err != nil {
			return nil, err
		}
	}
	if r.check != nil {
		if err := r.check(tx, c, ch); err != nil {
			return nil, err
		}
	}
	if k.perOwner {
		if err := tx.uniqueName(c, k, ch); err != nil {
			return nil, err
		}
	}
	if ch.old == nil {
		ch.rec["created_at"] = tx.now
	}
	ch.rec["modified_at"], ch.rec["modified_by_user_uuid"] = tx.now, c.Caller.UserUUID
	return ch.rec, tx.Put(k.plural, ch.rec)
}

// permitted refuses to change what the caller may not, and owners that are
// not theirs to give to.
func (s *Server) permitted(tx *Tx, c *Call, k *kind, ch change) error {
	if ch.old != nil {
		may, err := tx.mayChange(c.Caller, ch)
		if err != nil {
			return err
		}
		if !may {
			return denied("")
		}
	}
	if !ch.changed("owner_uuid") {
		return nil
	}
	owner, _ := ch.rec["owner_uuid"].(string)
	ownerKind := kindOf(owner)
	if ownerKind == nil || ownerKind.plural != users && ownerKind.plural != groups {
		return denied("")
	}
	project, err := tx.Get(ownerKind.plural, owner)
	if err == errNotFound {
		return refuse(422, "Owner uuid is not owned by any user: ActiveRecord::RecordNotFound")
	}
	if err != nil {
		return err
	}
	may, err := tx.mayWrite(c.Caller, Record{"uuid": owner})
	if err != nil {
		return err
	}
	if !may || ownerKind.plural == groups && project["group_class"] != "project" {
		return denied("")
	}
	// A project must not come to lie below itself.
	for above := owner; k.plural == groups && kindOf(above).plural == groups; {
		if above == ch.rec["uuid"] {
			return refuse(422, "Owner uuid would create an ownership cycle")
		}
		next, err := tx.Get(groups, above)
		if err != nil {
			return err
		}
		above, _ = next["owner_uuid"].(string)
	}
	return nil
}

// uniqueName refuses a name that the owner has given already, or makes it
// unique if the call says so.
func (tx *Tx) uniqueName(c *Call, k *kind, ch change) error {
	name, _ := ch.rec["name"].(string)
	if name == "" || ch.rec["is_trashed"] == true || !ch.changed("name") && !ch.changed("owner_uuid") && !ch.changed("is_trashed") {
		return nil
	}
	others, err := tx.Count(k.plural, Query{Filters: []Filter{
		Where("owner_uuid", "=", ch.rec["owner_uuid"]), Where("name", "=", name), Where("uuid", "!=", ch.rec["uuid"]),
	}})
	if err != nil || others == 0 {
		return err
	}
	if !c.Params.Bool("ensure_unique_name") {
		return refuse(422, notUnique(k.plural, "owner_uuid, name", ch.rec["owner_uuid"], name))
	}
	uuid := ch.rec["uuid"].(string)
	if runes := []rune(name); len(runes) > 237 {
		name = string(runes[:237])
	}
	ch.rec["name"] = name + " (" + uuid[len(uuid)-15:] + ")"
	return nil
}

// remove deletes a record for good.
func remove(tx *Tx, c *Call, k *kind) (Record, error) {
	rec, err := get(tx, c, k)
	if err != nil {
		return nil, err
	}
	may, err := tx.mayWrite(c.Caller, rec)
	if err != nil {
		return nil, err
	}
	if !may {
		return nil, denied("")
	}
	return rec, tx.Delete(k.plural, c.UUID)
}
