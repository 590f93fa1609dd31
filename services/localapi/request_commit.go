// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"maps"

	"git.arvados.org/arvados.git/services/localapi/containerrules"
)

// containerFor is the container that a request is given when it is committed:
// one that does the same already, if that will do, or else a new one.
func (s *Server) containerFor(tx *Tx, request Record, userUUID string) (Record, error) {
	user, scopes, err := s.runtimeUser(tx, request, userUUID)
	if err != nil {
		return nil, err
	}
	def := containerrules.Definition{User: user.UserUUID, Scopes: scopes}
	if name, _ := request["container_image"].(string); containerrules.IsBuiltinImage(name) {
		def.Image = name // for crunch-run to see
	} else if def.Image, err = resolveImage(tx, user, name); err != nil {
		return nil, err
	}
	mounts, _ := request["mounts"].(map[string]any)
	var refused *containerrules.Refusal
	if def.Mounts, refused, err = containerrules.ResolveMounts(mounts, func(uuid string) (string, error) {
		return contentOf(tx, user, uuid)
	}); err != nil {
		return nil, err
	}
	if refused != nil {
		return nil, refuseBy(refused)
	}
	// Workflow runners are told from other work by their program.
	if command, _ := request["command"].([]any); len(command) > 0 && command[0] == "arvados-cwl-runner" {
		sp, _ := request["scheduling_parameters"].(map[string]any)
		sp = maps.Clone(sp)
		sp["supervisor"] = true
		request["scheduling_parameters"] = sp
	}
	container := containerrules.NewContainer(request, def, containerrules.DefaultConfig)
	if request["use_existing"] == true {
		if found, err := s.reusable(tx, container); found != nil || err != nil {
			return found, err
		}
	}
	return container, s.putNewContainer(tx, container)
}

// runtimeUser is for whom a container runs, and what its token may do: the
// user of the request, or whoever's token came with it.
func (s *Server) runtimeUser(tx *Tx, request Record, userUUID string) (*Caller, []any, error) {
	scopes := []any{"all"}
	if token, _ := request["runtime_token"].(string); token != "" {
		owner, err := s.callerOf(tx, token)
		if err != nil {
			return nil, nil, err
		}
		rec, err := tx.Get(tokens, owner.TokenUUID)
		if err != nil {
			return nil, nil, err
		}
		userUUID = owner.UserUUID
		scopes, _ = rec["scopes"].([]any)
	}
	user, err := tx.Get(users, userUUID)
	if err != nil {
		return nil, nil, err
	}
	return &Caller{UserUUID: userUUID, IsAdmin: user["is_admin"] == true}, scopes, nil
}

// contentOf is the portable data hash of a collection, "" if the user cannot
// read one of that UUID.
func contentOf(tx *Tx, user *Caller, uuid string) (string, error) {
	found, err := tx.List(collections, Query{Filters: []Filter{Where("uuid", "=", uuid)}, Reader: user})
	if err != nil || len(found) == 0 {
		return "", err
	}
	hash, _ := found[0]["portable_data_hash"].(string)
	return hash, nil
}

// reusable is a container that does what the given one would, nil if there is
// none. As in Arvados, it may be anybody's.
func (s *Server) reusable(tx *Tx, container Record) (Record, error) {
	candidates, err := tx.List(containers, Query{Filters: []Filter{
		Where("container_image", "=", container["container_image"]), Where("state", "!=", containerrules.Cancelled),
	}})
	if err != nil {
		return nil, err
	}
	everything := &Caller{UserUUID: systemUser(s.clusterID), IsAdmin: true}
	return containerrules.FindReusable(candidates, container, func(pdh string) (bool, error) {
		n, err := tx.Count(collections, Query{Filters: []Filter{Where("portable_data_hash", "=", pdh)}, Reader: everything})
		return n > 0, err
	})
}

// assignContainer gives a request its container, which may have no UUID to
// take the old one away. The log of the old one is kept.
func (s *Server) assignContainer(tx *Tx, request, container Record) error {
	old, _ := request["container_uuid"].(string)
	count, _ := request["container_count"].(int64)
	request["container_uuid"] = container["uuid"]
	request["container_count"] = count + 1
	if old == "" {
		return nil
	}
	tried, err := tx.Get(containers, old)
	if err != nil {
		return err
	}
	return s.mergeLog(tx, request, tried, false)
}
