// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import "fmt"

func init() { resourceMakers = append(resourceMakers, linkResource) }

const permission = "permission" // link class

func linkResource(s *Server) *resource {
	k := kinds[links]
	before := func(_ *Tx, c *Call) error { return checkProperties(c.Attrs) }
	return &resource{name: k.plural, kind: k, actions: s.crud(k, rules{before: before, check: checkLink})}
}

func checkLink(tx *Tx, c *Call, ch change) error {
	rec := ch.rec
	for _, end := range []string{"head", "tail"} {
		uuid, _ := rec[end+"_uuid"].(string)
		k := kindOf(uuid)
		rec[end+"_kind"] = nil
		if k == nil {
			continue // a hash, an address, or nothing
		}
		rec[end+"_kind"] = k.arvadosKind()
		if !ch.changed(end + "_uuid") {
			continue
		}
		found, err := tx.Count(k.plural, Query{Filters: []Filter{Where("uuid", "=", uuid)}, Reader: c.Caller})
		if err != nil {
			return err
		}
		if found == 0 {
			return refuse(422, fmt.Sprintf("%s uuid '%s' not found", human(end), uuid))
		}
	}
	if rec["link_class"] == permission || ch.old["link_class"] == permission {
		return checkPermission(tx, c, ch)
	}
	return nil
}

// checkPermission lets those who can manage something share it with users and
// roles. A user has one permission on one thing: the highest that was given.
func checkPermission(tx *Tx, c *Call, ch change) error {
	rec := ch.rec
	name, _ := rec["name"].(string)
	given, known := levels[name]
	if !known {
		return refuse(422, "Name is invalid permission, must be one of 'can_read', 'can_write', 'can_manage', 'can_login'")
	}
	if ch.old != nil && (ch.changed("link_class") || ch.changed("head_uuid") || ch.changed("tail_uuid")) {
		return refuseException(422, "RuntimeError", "Can only alter permission link level")
	}
	tail, _ := rec["tail_uuid"].(string)
	switch k := kindOf(tail); {
	case k == nil || k.plural != users && k.plural != groups:
		return refuse(422, "Tail uuid must be a user or role")
	case k.plural == groups:
		role, err := tx.Get(groups, tail)
		if err != nil {
			return err
		}
		if role["group_class"] != "role" {
			return refuse(422, fmt.Sprintf("Tail uuid must be a user or role, was group with group_class %v", role["group_class"]))
		}
	}
	head, _ := rec["head_uuid"].(string)
	k := kindOf(head)
	if k == nil {
		return refuse(422, "Head uuid does not exist")
	}
	target, err := tx.Get(k.plural, head)
	if err != nil {
		return refuse(422, "Head uuid does not exist")
	}
	may, err := tx.levelOf(c.Caller, target)
	if err != nil {
		return err
	}
	if may < canManage {
		return denied("")
	}
	others, err := tx.List(links, Query{Filters: []Filter{
		Where("link_class", "=", permission), Where("tail_uuid", "=", tail), Where("head_uuid", "=", head), Where("uuid", "!=", rec["uuid"]),
	}})
	if err != nil {
		return err
	}
	for _, other := range others {
		otherName, _ := other["name"].(string)
		if levels[otherName] > given {
			rec["name"], given = otherName, levels[otherName]
		}
		if err := tx.Delete(links, other["uuid"].(string)); err != nil {
			return err
		}
	}
	return nil
}
