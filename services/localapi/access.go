// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"encoding/json"
	"slices"
)

// level is how much a user may do with a record, project or user.
type level int

const (
	noAccess level = iota
	canRead
	canWrite
	canManage
)

var levels = map[string]level{"can_read": canRead, "can_login": noAccess, "can_write": canWrite, "can_manage": canManage}

// access is what one user may do, by UUID: of projects and users, whose
// records it extends to, and of single records.
type access map[string]level

func (a access) uuids(at level) []string {
	var list []string
	for uuid, l := range a {
		if l >= at {
			list = append(list, uuid)
		}
	}
	slices.Sort(list)
	return list
}

// accessOf finds what a user may do: by ownership, down through projects, and
// by permission links to the user, to the user's roles, and to everybody.
func (tx *Tx) accessOf(c *Caller) (access, error) {
	if found := tx.access[c.UserUUID]; found != nil {
		return found, nil
	}
	found := access{}
	type step struct {
		uuid  string
		level level
	}
	todo := []step{{c.UserUUID, canManage}, {allUsersGroup(c.UserUUID), canRead}, {emptyCollection(c.UserUUID), canRead}}
	for len(todo) > 0 {
		at := todo[0]
		todo = todo[1:]
		if found[at.uuid] >= at.level {
			continue
		}
		found[at.uuid] = at.level
		next, err := tx.pairs(`SELECT uuid, 'can_manage' FROM groups WHERE owner_uuid = ?1
			UNION ALL SELECT head_uuid, name FROM links WHERE link_class = 'permission' AND tail_uuid = ?1`, at.uuid)
		if err != nil {
			return nil, err
		}
		for _, pair := range next {
			todo = append(todo, step{pair[0], min(at.level, levels[pair[1]])})
		}
	}
	tx.access[c.UserUUID] = found
	return found, nil
}

// trashedProjects are the projects in the trash and all below them.
func (tx *Tx) trashedProjects() ([]string, error) {
	pairs, err := tx.pairs(`WITH RECURSIVE gone (uuid) AS (
		SELECT uuid FROM groups WHERE trash_at <= ?
		UNION SELECT g.uuid FROM groups g JOIN gone ON g.owner_uuid = gone.uuid) SELECT uuid, '' FROM gone`, tx.now)
	var list []string
	for _, pair := range pairs {
		list = append(list, pair[0])
	}
	return list, err
}

// pairs are the rows of a query for two texts.
func (tx *Tx) pairs(query string, args ...any) ([][2]string, error) {
	rows, err := tx.sql.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list [][2]string
	for rows.Next() {
		var pair [2]string
		if err := rows.Scan(&pair[0], &pair[1]); err != nil {
			return nil, err
		}
		list = append(list, pair)
	}
	return list, rows.Err()
}

// readable is the condition for records that a caller can read.
func (tx *Tx) readable(k *kind, c *Caller, includeTrash bool) (string, []any, error) {
	term, args := "1", []any(nil)
	if !includeTrash {
		gone, err := tx.trashedProjects()
		if err != nil {
			return "", nil, err
		}
		if len(gone) > 0 {
			term, args = "t.owner_uuid NOT IN (SELECT value FROM json_each(?))", []any{jsonList(gone)}
		}
	}
	if c.IsAdmin || k.plural == users || k.plural == keepServices {
		return term, args, nil
	}
	may, err := tx.accessOf(c)
	if err != nil {
		return "", nil, err
	}
	const mine = "(SELECT value FROM json_each(?))"
	list := jsonList(may.uuids(canRead))
	switch k.plural {
	case containers:
		term += " AND EXISTS (SELECT 1 FROM container_requests r WHERE r.container_uuid = t.uuid AND r.owner_uuid IN " + mine + ")"
		args = append(args, list)
	case tokens:
		term += " AND t.owner_uuid = ?"
		args = append(args, c.UserUUID)
	case links:
		term += " AND (t.owner_uuid IN " + mine + " OR t.uuid IN " + mine + " OR t.tail_uuid = ?)"
		args = append(args, list, list, c.UserUUID)
	default:
		term += " AND (t.owner_uuid IN " + mine + " OR t.uuid IN " + mine + ")"
		args = append(args, list, list)
	}
	return term, args, nil
}

// levelOf is what a caller may do with a record.
func (tx *Tx) levelOf(c *Caller, rec Record) (level, error) {
	if c.IsAdmin {
		return canManage, nil
	}
	may, err := tx.accessOf(c)
	if err != nil {
		return noAccess, err
	}
	owner, _ := rec["owner_uuid"].(string)
	uuid, _ := rec["uuid"].(string)
	return max(may[owner], may[uuid]), nil
}

func jsonList(list []string) string {
	buf, err := json.Marshal(list)
	if err != nil {
		panic(err) // strings always can be encoded
	}
	return string(buf)
}

// UUIDs that every cluster has. uuid is any UUID of the cluster, or its ID.
func wellKnown(uuid, infix, rest string) string { return uuid[:5] + "-" + infix + "-" + rest }

func systemUser(clusterID string) string  { return wellKnown(clusterID, "tpzed", "000000000000000") }
func systemGroup(clusterID string) string { return wellKnown(clusterID, "j7d0g", "000000000000000") }
func rootToken(clusterID string) string   { return wellKnown(clusterID, "gj3su", "000000000000000") }

// emptyCollection is the collection without files, which everybody can read.
func emptyCollection(clusterID string) string {
	return wellKnown(clusterID, "4zz18", emptyHash[:15])
}

// allUsersGroup has every user as its member.
func allUsersGroup(clusterID string) string {
	return wellKnown(clusterID, "j7d0g", "fffffffffffffff")
}
