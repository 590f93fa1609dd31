// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"fmt"
	"maps"
	"slices"
)

func init() { resourceMakers = append(resourceMakers, groupResource) }

func groupResource(s *Server) *resource {
	k := kinds[groups]
	r := rules{
		before: func(_ *Tx, c *Call) error { return checkProperties(c.Attrs) },
		check:  checkGroup,
	}
	actions := s.crud(k, r)
	maps.Copy(actions, s.trashActions(k, r))
	list := action{run: s.contents, doc: "List what lies in a project or home, or all that the caller can read.", params: []string{
		"uuid", "filters", "order", "select", "limit", "offset", "count", "include", "recursive", "include_trash", "cluster_id",
	}}
	actions["GET /contents"], actions["GET /{uuid}/contents"] = list, list
	return &resource{name: k.plural, kind: k, actions: actions, prepare: showRights}
}

func checkGroup(tx *Tx, c *Call, ch change) error {
	class, _ := ch.rec["group_class"].(string)
	if !slices.Contains([]string{"project", "role", "filter"}, class) {
		return refuse(422, fmt.Sprintf("Group class value must be one of 'project', 'role' or 'filter', was '%s'", class))
	}
	if ch.old != nil && ch.changed("group_class") {
		return refuse(422, "Group class cannot be modified after record is created")
	}
	if err := checkFrozen(tx, c, ch); err != nil {
		return err
	}
	if name, _ := ch.rec["name"].(string); name == "" {
		// One that is never in the way of another.
		ch.rec["name"] = "New " + class + " (" + ch.rec["uuid"].(string)[12:] + ")"
	}
	if class == "role" {
		return nil
	}
	return checkName(ch.rec)
}

// showRights says what the caller may do with a group or user.
func showRights(tx *Tx, c *Call, rec Record) error {
	may, err := tx.levelOf(c.Caller, rec)
	if err != nil {
		return err
	}
	rec["can_manage"] = may >= canManage
	if rec["can_write"], err = tx.mayWrite(c.Caller, rec); err != nil {
		return err
	}
	writers := []any{rec["owner_uuid"]}
	if may >= canWrite {
		writers = append(writers, c.Caller.UserUUID)
	}
	if may >= canManage {
		given, err := tx.List(links, Query{Filters: []Filter{
			Where("link_class", "=", permission), Where("head_uuid", "=", rec["uuid"]), Where("name", "in", []any{"can_write", "can_manage"}),
		}})
		if err != nil {
			return err
		}
		for _, link := range given {
			writers = append(writers, link["tail_uuid"])
		}
	}
	rec["writable_by"] = writers
	return nil
}
