// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"maps"

	"git.arvados.org/arvados.git/services/localapi/containerrules"
)

// changeContainer changes a container and all that depends on it: its token,
// the logs of its requests and, when it ends, the requests themselves.
func (s *Server) changeContainer(tx *Tx, caller *Caller, was Record, given containerrules.Given) (Record, error) {
	ch := containerrules.ContainerChange{Was: was, Given: given, Caller: containerrules.ContainerCaller{
		Admin: caller.IsAdmin,
		Token: caller.TokenUUID,
		Own:   caller.TokenUUID == was["auth_uuid"],
	}}
	var refused *containerrules.Refusal
	if ch.Is, refused = containerrules.Containers.Assign(was, given); refused != nil {
		return nil, refuseBy(refused)
	}
	is := ch.Is
	if is["output"] != was["output"] {
		known, err := tx.Count(collections, Query{
			Filters: []Filter{Where("portable_data_hash", "=", is["output"])}, Reader: caller, IncludeTrash: true,
		})
		if err != nil {
			return nil, err
		}
		ch.OutputUnknown = is["output"] == nil || known == 0
	}
	if refused = ch.Prepare(containerrules.DefaultConfig, tx.now); refused != nil {
		return nil, refuseBy(refused)
	}
	if refused = ch.Validate(); refused != nil {
		return nil, refuseBy(refused)
	}
	secrets := maps.Clone(is) // before they are gone, for a retry
	ch.Settle()
	if err := s.assignToken(tx, is); err != nil {
		return nil, err
	}
	is["modified_at"], is["modified_by_user_uuid"] = tx.now, caller.UserUUID
	if err := tx.Put(containers, is); err != nil {
		return nil, err
	}
	ended := containerrules.IsFinal(is)
	if !ended && is["log"] != was["log"] {
		if err := s.saveLogs(tx, is); err != nil {
			return nil, err
		}
	}
	if ended && is["state"] != was["state"] {
		if err := s.containerEnded(tx, is, secrets); err != nil {
			return nil, err
		}
	}
	return is, nil
}

// assignToken gives a container the token that it needs in its state, or ends
// the one that it had.
func (s *Server) assignToken(tx *Tx, container Record) error {
	uuid, _ := container["auth_uuid"].(string)
	needed := containerrules.HasToken(container)
	switch {
	case needed && uuid == "":
		token := Record{
			"uuid": kinds[tokens].newUUID(s.clusterID), "owner_uuid": container["runtime_user_uuid"],
			"api_token": randomWord(50), "scopes": container["runtime_auth_scopes"], "created_at": tx.now,
		}
		container["auth_uuid"] = token["uuid"]
		return tx.Put(tokens, token)
	case !needed && uuid != "":
		container["auth_uuid"] = nil
		token, err := tx.Get(tokens, uuid)
		if err != nil {
			return err
		}
		token["expires_at"] = tx.now
		return tx.Put(tokens, token)
	}
	return nil
}

// containerEnded gives the requests of a container that has ended what they
// waited for, or another container. secrets is the container with the secrets
// that it had.
func (s *Server) containerEnded(tx *Tx, container, secrets Record) error {
	if container["state"] == containerrules.Cancelled {
		if err := s.retry(tx, container, secrets); err != nil {
			return err
		}
	}
	waiting, err := s.committedRequests(tx, "container_uuid", container)
	if err != nil {
		return err
	}
	for _, request := range waiting {
		if err := s.finishRequest(tx, request, container); err != nil {
			return err
		}
	}
	return s.cancelChildren(tx, container)
}

// retry makes the next container for those requests of a cancelled one that
// want it tried again.
func (s *Server) retry(tx *Tx, container, secrets Record) error {
	waiting, err := s.committedRequests(tx, "container_uuid", container)
	if err != nil {
		return err
	}
	trashed, err := tx.trashedProjects()
	if err != nil {
		return err
	}
	var again []Record
	for _, request := range waiting {
		parent, err := s.requestingContainer(tx, request)
		if err != nil {
			return err
		}
		if containerrules.CanRetry(request, parent) && !contains(trashed, request["owner_uuid"]) {
			again = append(again, request)
		}
	}
	if len(again) == 0 {
		return nil
	}
	next := containerrules.Retry(secrets, again)
	if err := s.putNewContainer(tx, next); err != nil {
		return err
	}
	for _, request := range again {
		addCost(request, "cumulative_cost", container)
		if err := s.assignContainer(tx, request, next); err != nil {
			return err
		}
		request["modified_at"] = tx.now
		if err := tx.Put(containerRequests, request); err != nil {
			return err
		}
	}
	return s.updatePriority(tx, next["uuid"].(string))
}

// cancelChildren takes back the requests that a container has made. What does
// not run yet is not started; what runs is left to the dispatcher, which
// cancels containers of priority 0.
func (s *Server) cancelChildren(tx *Tx, container Record) error {
	children, err := s.committedRequests(tx, "requesting_container_uuid", container)
	if err != nil {
		return err
	}
	for _, child := range children {
		uuid, _ := child["container_uuid"].(string)
		child["priority"] = int64(0)
		child["modified_at"] = tx.now
		its, err := tx.Get(containers, uuid)
		if err != nil {
			return err
		}
		if its["state"] == containerrules.Queued || its["state"] == containerrules.Locked {
			child["state"] = containerrules.Final
			containerrules.Scrub(child)
		}
		if err := tx.Put(containerRequests, child); err != nil {
			return err
		}
		if err := s.updatePriority(tx, uuid); err != nil {
			return err
		}
	}
	return nil
}

// committedRequests are the requests whose attribute names the container.
func (s *Server) committedRequests(tx *Tx, attr string, container Record) ([]Record, error) {
	return tx.List(containerRequests, Query{
		Filters: []Filter{Where(attr, "=", container["uuid"]), Where("state", "=", containerrules.Committed)},
		Order:   []Order{{Attr: "uuid"}},
	})
}

// requestingContainer is the container that made a request, nil if none did.
func (s *Server) requestingContainer(tx *Tx, request Record) (Record, error) {
	uuid, _ := request["requesting_container_uuid"].(string)
	if uuid == "" {
		return nil, nil
	}
	return tx.Get(containers, uuid)
}

// putNewContainer stores a container that has no UUID yet.
func (s *Server) putNewContainer(tx *Tx, container Record) error {
	root := systemUser(s.clusterID)
	container["uuid"] = kinds[containers].newUUID(s.clusterID)
	container["owner_uuid"], container["modified_by_user_uuid"] = root, root
	container["created_at"], container["modified_at"] = tx.now, tx.now
	return tx.Put(containers, container)
}

// addCost adds to a cost what a container has cost with its children.
func addCost(record Record, attr string, container Record) {
	record[attr] = amount(record[attr]) + amount(container["cost"]) + amount(container["subrequests_cost"])
}

// amount is a stored number; whole ones come back as int64.
func amount(v any) float64 {
	switch v := v.(type) {
	case int64:
		return float64(v)
	case float64:
		return v
	}
	return 0
}

func contains(list []string, v any) bool {
	for _, item := range list {
		if item == v {
			return true
		}
	}
	return false
}
