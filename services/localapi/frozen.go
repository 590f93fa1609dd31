// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

// mayWrite tells whether a caller may change a record, or put others into it.
// Nobody may while a project is frozen that it is, or lies in.
func (tx *Tx) mayWrite(c *Caller, rec Record) (bool, error) {
	may, err := tx.levelOf(c, rec)
	if err != nil || may < canWrite {
		return false, err
	}
	frozen, err := tx.frozen(rec["uuid"], rec["owner_uuid"])
	return !frozen, err
}

// mayChange is mayWrite, but lets those who can manage a project unfreeze it.
func (tx *Tx) mayChange(c *Caller, ch change) (bool, error) {
	if ch.old["frozen_by_uuid"] == nil || ch.rec["frozen_by_uuid"] != nil {
		return tx.mayWrite(c, ch.old)
	}
	may, err := tx.levelOf(c, ch.old)
	if err != nil || may < canManage {
		return false, err
	}
	frozen, err := tx.frozen(ch.old["owner_uuid"])
	return !frozen, err
}

// frozen tells whether one of the records is a frozen project, or a project
// below one.
func (tx *Tx) frozen(uuids ...any) (bool, error) {
	for _, uuid := range uuids {
		if uuid == nil {
			continue
		}
		found, err := tx.pairs(`WITH RECURSIVE above (uuid, owner_uuid, frozen) AS (
			SELECT uuid, owner_uuid, doc ->> '$.frozen_by_uuid' FROM groups WHERE uuid = ?
			UNION SELECT g.uuid, g.owner_uuid, g.doc ->> '$.frozen_by_uuid' FROM groups g JOIN above ON g.uuid = above.owner_uuid)
			SELECT uuid, '' FROM above WHERE frozen IS NOT NULL`, uuid)
		if err != nil || len(found) > 0 {
			return len(found) > 0, err
		}
	}
	return false, nil
}

// takesNothing tells whether an owner is a project in which nothing may be made:
// it is in the trash or frozen.
func (tx *Tx) takesNothing(owner any) (bool, error) {
	trashed, err := tx.trashedProjects()
	if err != nil || contains(trashed, owner) {
		return true, err
	}
	return tx.frozen(owner)
}

// checkFrozen refuses what RailsAPI refuses of frozen_by_uuid.
func checkFrozen(tx *Tx, c *Call, ch change) error {
	if !ch.changed("frozen_by_uuid") {
		return nil
	}
	if ch.rec["group_class"] != "project" {
		return refuse(422, "Frozen by uuid cannot be modified on a non-project group")
	}
	by := ch.rec["frozen_by_uuid"]
	if by != nil && by != c.Caller.UserUUID {
		return refuse(422, "Frozen by uuid can only be set to the current user's UUID")
	}
	if ch.old != nil {
		may, err := tx.levelOf(c.Caller, ch.old)
		if err != nil {
			return err
		}
		if may < canManage {
			return denied("")
		}
	}
	trashed, err := tx.trashedProjects()
	if err != nil {
		return err
	}
	if by != nil && (ch.rec["trash_at"] != nil || contains(trashed, ch.rec["uuid"])) {
		return refuse(422, "Frozen by uuid cannot be set on a trashed project")
	}
	return nil
}
