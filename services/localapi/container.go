// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package localapi

import (
	"maps"
	"net/http"

	"git.arvados.org/arvados.git/services/localapi/containerrules"
)

func init() { resourceMakers = append(resourceMakers, (*Server).containerResource) }

// containerResource is containers: read by the users of their requests, moved
// along by dispatchers and by the containers themselves, made by requests
// alone.
func (s *Server) containerResource() *resource {
	k := kinds[containers]
	actions := s.crud(k, rules{})
	delete(actions, "DELETE /{uuid}")
	actions["POST"] = action{run: refuseToMakeContainer, doc: "Refused: containers are made by committing container requests."}
	actions["PATCH /{uuid}"] = action{run: s.updateContainer, doc: "Change a container."}
	actions["POST /{uuid}/lock"] = action{run: s.lockContainer, doc: "Lock a container, for a dispatcher that is about to run it."}
	actions["POST /{uuid}/unlock"] = action{run: s.unlockContainer, doc: "Give a locked container back to the queue."}
	actions["GET /{uuid}/auth"] = action{run: s.containerAuth, doc: "Read the token that a container runs with, for who has locked it."}
	actions["GET /{uuid}/secret_mounts"] = action{run: s.containerSecrets, doc: "Read the secret mounts of a container, with its own token."}
	actions["GET /current"] = action{run: s.currentContainer, doc: "Read the container that the token was made for."}
	return &resource{name: k.plural, kind: k, raw: true, actions: actions}
}

func refuseToMakeContainer(tx *Tx, c *Call) (any, error) {
	if !c.Caller.IsAdmin {
		return nil, denied("")
	}
	return nil, refuseAsController(http.StatusNotImplemented, "this server makes containers for container requests only")
}

// updateContainer makes the change that a call asks for.
func (s *Server) updateContainer(tx *Tx, c *Call) (any, error) {
	was, err := get(tx, c, kinds[containers])
	if err != nil {
		return nil, err
	}
	return s.changeContainer(tx, c.Caller, was, containerrules.Given(c.Attrs))
}

func (s *Server) lockContainer(tx *Tx, c *Call) (any, error) {
	return s.moveContainer(tx, c, containerrules.Queued, containerrules.Locked, containerrules.LockFailed("cannot lock when "))
}

func (s *Server) unlockContainer(tx *Tx, c *Call) (any, error) {
	return s.moveContainer(tx, c, containerrules.Locked, containerrules.Queued, containerrules.NotLocked("cannot unlock when "))
}

// moveContainer is an update of the state, for containers in one state alone.
// Its reply is short.
func (s *Server) moveContainer(tx *Tx, c *Call, from, to string, otherwise *containerrules.Refusal) (any, error) {
	was, err := get(tx, c, kinds[containers])
	if err != nil {
		return nil, err
	}
	if state, _ := was["state"].(string); state != from {
		otherwise.Messages[0] += state
		return nil, refuseBy(otherwise)
	}
	is, err := s.changeContainer(tx, c.Caller, was, containerrules.Given{"state": []byte(`"` + to + `"`)})
	if err != nil {
		return nil, err
	}
	reply := Record{}
	for _, attr := range []string{"uuid", "state", "priority", "auth_uuid", "locked_by_uuid"} {
		reply[attr] = is[attr]
	}
	return verbatim(reply), nil
}

// containerAuth is for the holder of the lock: crunch-run gives the token to
// the container.
func (s *Server) containerAuth(tx *Tx, c *Call) (any, error) {
	container, err := get(tx, c, kinds[containers])
	if err != nil {
		return nil, err
	}
	if container["locked_by_uuid"] != c.Caller.TokenUUID {
		return nil, denied("Not locked by your token")
	}
	uuid, _ := container["auth_uuid"].(string)
	token, err := tx.Get(tokens, uuid)
	if err != nil {
		return nil, err
	}
	k := kinds[tokens]
	reply := Record{"kind": k.arvadosKind(), "etag": etag(token)}
	for _, a := range k.attrs {
		reply[a.name] = token[a.name]
	}
	return verbatim(reply), nil
}

func (s *Server) containerSecrets(tx *Tx, c *Call) (any, error) {
	container, err := get(tx, c, kinds[containers])
	if err != nil {
		return nil, err
	}
	if c.Caller.ContainerUUID != c.UUID {
		return nil, refuse(http.StatusForbidden, "Token is not associated with this container.")
	}
	secrets, _ := container["secret_mounts"].(map[string]any)
	return verbatim(Record{"secret_mounts": maps.Clone(secrets)}), nil
}

func (s *Server) currentContainer(tx *Tx, c *Call) (any, error) {
	if c.Caller.ContainerUUID == "" {
		return nil, refuse(http.StatusNotFound, "Token is not associated with a container.")
	}
	return tx.Get(containers, c.Caller.ContainerUUID)
}

// refuseBy is a refusal by the rules, nil if there is none.
func refuseBy(r *containerrules.Refusal) error {
	if r == nil {
		return nil
	}
	return refuse(r.Status, r.Lines()...)
}
