// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"

	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/services/localapi/containerrules"
)

func init() { resourceMakers = append(resourceMakers, (*Server).containerRequestResource) }

// containerRequestResource is container requests. Replies have all fields of
// mounts, and an empty runtime_token, as controller writes them.
func (s *Server) containerRequestResource() *resource {
	k := *kinds[containerRequests]
	k.attrs = slices.Clone(k.attrs)
	k.attr("runtime_token").secret = false
	actions := s.crud(&k, rules{})
	actions["POST"] = action{run: s.createRequest, doc: "Make a container request."}
	actions["PATCH /{uuid}"] = action{run: s.updateRequest, doc: "Change a container request."}
	actions["DELETE /{uuid}"] = action{run: s.deleteRequest, doc: "Delete a container request, and take back what it asked for."}
	return &resource{name: k.plural, kind: &k, actions: actions, prepare: prepareRequest}
}

func prepareRequest(tx *Tx, c *Call, rec Record) error {
	maps.Copy(rec, containerrules.RequestReply(rec))
	return nil
}

func (s *Server) createRequest(tx *Tx, c *Call) (any, error) {
	ch := containerrules.RequestChange{Was: containerrules.NewRequest(), New: true, Admin: c.Caller.IsAdmin}
	return s.changeRequest(tx, c, ch)
}

func (s *Server) updateRequest(tx *Tx, c *Call) (any, error) {
	was, err := get(tx, c, kinds[containerRequests])
	if err != nil {
		return nil, err
	}
	return s.changeRequest(tx, c, containerrules.RequestChange{Was: was, Admin: c.Caller.IsAdmin})
}

// deleteRequest also takes the request out of the priority of its container.
func (s *Server) deleteRequest(tx *Tx, c *Call) (any, error) {
	rec, err := remove(tx, c, kinds[containerRequests])
	if err != nil {
		return nil, err
	}
	if uuid, _ := rec["container_uuid"].(string); uuid != "" {
		if err := s.updatePriority(tx, uuid); err != nil {
			return nil, err
		}
	}
	return rec, nil
}

// changeRequest makes a change to a request, and what follows from it. The
// reply is the request as it is after that.
func (s *Server) changeRequest(tx *Tx, c *Call, ch containerrules.RequestChange) (Record, error) {
	if err := checkProperties(c.Attrs); err != nil {
		return nil, err
	}
	var refused *containerrules.Refusal
	if ch.Is, refused = containerrules.Requests.Assign(ch.Was, containerrules.Given(c.Attrs)); refused != nil {
		return nil, refuseBy(refused)
	}
	is := ch.Is
	if is["owner_uuid"] == nil {
		is["owner_uuid"] = c.Caller.UserUUID
	}
	ch.Fill(containerrules.DefaultConfig)
	if err := s.lookUp(tx, c, &ch); err != nil {
		return nil, err
	}
	if refused := ch.Validate(); refused != nil {
		return nil, refuseBy(refused)
	}
	if !ch.New && reflect.DeepEqual(ch.Was, is) {
		return is, nil
	}
	of := change{rec: is}
	if !ch.New {
		of.old = ch.Was
	}
	if err := s.permitted(tx, c, kinds[containerRequests], of); err != nil {
		return nil, err
	}
	if err := s.complete(tx, c, ch); err != nil {
		return nil, err
	}
	if err := decodable(is); err != nil {
		return nil, err
	}
	if err := tx.Put(containerRequests, is); err != nil {
		return nil, err
	}
	return is, s.requestChanged(tx, ch)
}

// lookUp finds out what the rules want to know of other records.
func (s *Server) lookUp(tx *Tx, c *Call, ch *containerrules.RequestChange) error {
	for _, attr := range []string{"owner_uuid", "requesting_container_uuid", "container_uuid", "output_uuid", "log_uuid"} {
		uuid, _ := ch.Is[attr].(string)
		k := kindOf(uuid)
		if k == nil || uuid == ch.Was[attr] {
			continue
		}
		q := Query{Filters: []Filter{Where("uuid", "=", uuid)}}
		if attr != "container_uuid" { // cannot be read before a request names it
			q.Reader = c.Caller
		}
		n, err := tx.Count(k.plural, q)
		if err != nil {
			return err
		}
		if n == 0 {
			ch.NotFound = append(ch.NotFound, attr)
		}
	}
	if token, _ := ch.Is["runtime_token"].(string); token != "" && token != ch.Was["runtime_token"] {
		_, err := s.callerOf(tx, token)
		ch.TokenFails = err != nil
	}
	return nil
}

// complete fills in what the server says of a request, its container among it.
func (s *Server) complete(tx *Tx, c *Call, ch containerrules.RequestChange) error {
	is := ch.Is
	if is["state"] == containerrules.Final {
		containerrules.Scrub(is)
	}
	if ch.New {
		is["uuid"] = kinds[containerRequests].newUUID(s.clusterID)
		is["created_at"] = tx.now
		is["cumulative_cost"] = 0.0
		if err := s.inherit(tx, c, is); err != nil {
			return err
		}
	}
	assigned, _ := is["container_uuid"].(string)
	switch {
	case is["state"] == containerrules.Committed && ch.Was["state"] != containerrules.Committed && assigned == "":
		user, _ := is["modified_by_user_uuid"].(string)
		if user == "" {
			user = c.Caller.UserUUID
		}
		container, err := s.containerFor(tx, is, user)
		if err != nil {
			return err
		}
		if err := s.assignContainer(tx, is, container); err != nil {
			return err
		}
	case is["container_uuid"] != ch.Was["container_uuid"]:
		chosen := is["container_uuid"]
		is["container_uuid"] = ch.Was["container_uuid"]
		if err := s.assignContainer(tx, is, Record{"uuid": chosen}); err != nil {
			return err
		}
	}
	is["modified_at"], is["modified_by_user_uuid"] = tx.now, c.Caller.UserUUID
	return nil
}

// inherit gives a request by a container the priority of the requests which
// that container is for.
func (s *Server) inherit(tx *Tx, c *Call, request Record) error {
	if c.Caller.ContainerUUID == "" {
		return nil
	}
	request["requesting_container_uuid"] = c.Caller.ContainerUUID
	parents, err := tx.List(containerRequests, Query{Filters: []Filter{Where("container_uuid", "=", c.Caller.ContainerUUID)}})
	if err != nil {
		return err
	}
	highest := int64(0)
	for _, parent := range parents {
		priority, _ := parent["priority"].(int64)
		highest = max(highest, priority)
	}
	request["priority"] = highest
	return nil
}

// requestChanged does what follows from a change that is stored. A request
// whose container has ended has, too; so has one that gave its container up.
func (s *Server) requestChanged(tx *Tx, ch containerrules.RequestChange) error {
	is := ch.Is
	for _, rec := range []Record{ch.Was, is} {
		uuid, _ := rec["container_uuid"].(string)
		moved := is["state"] != ch.Was["state"] || is["priority"] != ch.Was["priority"] || is["container_uuid"] != ch.Was["container_uuid"]
		if uuid == "" || !moved {
			continue
		}
		if err := s.updatePriority(tx, uuid); err != nil {
			return err
		}
	}
	if is["state"] != containerrules.Committed {
		return nil
	}
	uuid, _ := is["container_uuid"].(string)
	if uuid == "" {
		is["state"] = containerrules.Final
		containerrules.Scrub(is)
		return tx.Put(containerRequests, is)
	}
	container, err := tx.Get(containers, uuid)
	if err != nil || !containerrules.IsFinal(container) {
		return err
	}
	if ch.Was["state"] != containerrules.Committed {
		// What others have paid for is free.
		container["cost"], container["subrequests_cost"] = 0.0, 0.0
	}
	return s.finishRequest(tx, is, container)
}

// decodable refuses what controller cannot read back, with its message:
// values of the wrong type deep inside.
func decodable(request Record) error {
	reply := containerrules.RequestReply(request)
	delete(reply, "filters")
	buf, err := encodeJSON(reply)
	if err != nil {
		return err
	}
	var probe arvados.ContainerRequest
	if err := json.Unmarshal(buf, &probe); err != nil {
		return refuseAsController(http.StatusInternalServerError, "%s", err)
	}
	return nil
}
