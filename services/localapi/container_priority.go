// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import "git.arvados.org/arvados.git/services/localapi/containerrules"

// updatePriority brings the priority of a container, and of all that it has
// asked for, to what its requests say now.
func (s *Server) updatePriority(tx *Tx, uuid string) error {
	return s.updatePriorities(tx, uuid, map[string]bool{})
}

// updatePriorities is updatePriority without the containers that are done:
// two containers may have asked for each other, since requests share.
func (s *Server) updatePriorities(tx *Tx, uuid string, seen map[string]bool) error {
	if seen[uuid] {
		return nil
	}
	seen[uuid] = true
	container, err := tx.Get(containers, uuid)
	if err != nil {
		return err
	}
	if containerrules.IsFinal(container) {
		return nil
	}
	priority, err := s.priorityOf(tx, container)
	if err != nil {
		return err
	}
	if container["priority"] == priority {
		return nil
	}
	container["priority"] = priority
	if err := tx.Put(containers, container); err != nil {
		return err
	}
	children, err := s.committedRequests(tx, "requesting_container_uuid", container)
	if err != nil {
		return err
	}
	for _, child := range children {
		if its, _ := child["container_uuid"].(string); its != "" {
			if err := s.updatePriorities(tx, its, seen); err != nil {
				return err
			}
		}
	}
	return nil
}

// priorityOf is the highest that a request gives to its container: its own
// for a user's request, that of the container which made it for any other.
func (s *Server) priorityOf(tx *Tx, container Record) (int64, error) {
	requests, err := s.committedRequests(tx, "container_uuid", container)
	if err != nil {
		return 0, err
	}
	trashed, err := tx.trashedProjects()
	if err != nil {
		return 0, err
	}
	highest := int64(0)
	for _, request := range requests {
		own := containerrules.RequestPriority(request)
		if own == 0 || contains(trashed, request["owner_uuid"]) {
			continue
		}
		parent, err := s.requestingContainer(tx, request)
		if err != nil {
			return 0, err
		}
		if parent != nil {
			own, _ = parent["priority"].(int64)
		}
		highest = max(highest, own)
	}
	return highest, nil
}
