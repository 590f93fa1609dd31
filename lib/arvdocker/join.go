// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// keyRequest is the property by which equal requests find each other. The prefix
// lets it pass strict vocabularies.
const keyRequest = "arv:docker-request"

// maxEqual is how many requests with one key are looked at. There is one, but
// for those that somebody else has given that key.
const maxEqual = 20

// errGivenUp is the error of following a request that whoever made it has given
// up.
var errGivenUp = errors.New("the request was given up")

// contentKey is the same for requests whose containers do the same.
func contentKey(cr arvados.ContainerRequest) string {
	content, err := json.Marshal(struct {
		Image, OutputPath string
		Command           []string
		Mounts            map[string]arvados.Mount
		Environment       map[string]string `json:",omitempty"`
	}{cr.ContainerImage, cr.OutputPath, cr.Command, cr.Mounts, cr.Environment})
	if err != nil {
		panic(err) // it was JSON before
	}
	return fmt.Sprintf("%x", sha256.Sum256(content))
}

// mark gives a request the property with its key, unless it has secrets: they
// are part of what it does, and no digest of them may be seen.
func mark(request attrs) error {
	if request["secret_mounts"] != nil {
		return nil
	}
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	var cr arvados.ContainerRequest // as the server will show it
	if err := json.Unmarshal(text, &cr); err != nil {
		return err
	}
	request["properties"] = attrs{keyRequest: contentKey(cr)}
	return nil
}

// place makes the request, or finds an equal one of the same owner that is under
// way. Of those who ask for the same at the same time, the one whose request is
// the oldest does the work and the others follow it. Two whose requests a server
// stores within one moment may both do it, which costs no more than time.
func (s *session) place(ctx context.Context, request attrs) (cr arvados.ContainerRequest, joined bool, err error) {
	properties, marked := request["properties"].(attrs)
	if marked {
		other, err := s.underWay(ctx, request["owner_uuid"], properties[keyRequest])
		if other != nil || err != nil {
			return *cmp.Or(other, &cr), other != nil, err
		}
	}
	// Whoever interrupts this must not be left with a request that nobody
	// knows of.
	err = s.call(context.WithoutCancel(ctx), &cr, http.MethodPost, "container_requests", attrs{"container_request": request})
	if err != nil || !marked {
		return cr, false, err
	}
	// Another one may have been made since the look before.
	other, err := s.underWay(ctx, request["owner_uuid"], properties[keyRequest])
	if other == nil || err != nil || !older(*other, cr) {
		return cr, false, nil // it is there: better twice than not at all
	}
	if err := s.withdraw(ctx, cr.UUID); err != nil {
		return cr, false, nil // then it goes on, and is followed
	}
	return *other, true, nil
}

// underWay is the oldest request with the key that is wanted and not final, or
// nil.
func (s *session) underWay(ctx context.Context, owner, key any) (*arvados.ContainerRequest, error) {
	limit := maxEqual
	var list arvados.ContainerRequestList
	err := s.call(ctx, &list, http.MethodGet, "container_requests", arvados.ResourceListParams{
		Filters: []arvados.Filter{
			{Attr: "owner_uuid", Operator: "=", Operand: owner},
			{Attr: "state", Operator: "=", Operand: arvados.ContainerRequestStateCommitted},
			{Attr: "priority", Operator: ">", Operand: 0},
			{Attr: "properties." + keyRequest, Operator: "=", Operand: key},
		},
		Order: "created_at, uuid", Limit: &limit, Count: "none",
	})
	if err != nil {
		return nil, err
	}
	for _, cr := range list.Items {
		// Properties are what anybody who can write to the project makes them.
		if contentKey(cr) == key {
			return &cr, nil
		}
	}
	return nil, nil
}

// older reports whether a goes before b.
func older(a, b arvados.ContainerRequest) bool {
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.UUID, b.UUID)) < 0
}

// withdraw gives a request up, although ctx may be over.
func (s *session) withdraw(ctx context.Context, uuid string) error {
	ctx, end := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
	defer end()
	return s.call(ctx, nil, http.MethodPut, "container_requests/"+uuid, attrs{"container_request": attrs{"priority": 0}})
}
