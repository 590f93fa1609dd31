// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package builtinrun

import (
	"context"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// writeLinks makes the links by which API servers of today find an image, on
// the output collection of every request that this container was for. It runs
// after the final update, when those collections exist and the container's
// token is gone, so it uses the dispatcher's, with the requests' owners.
// Failing here fails nothing: the image is there, and can be tagged again.
func (s *Session) writeLinks(ctx context.Context, when string) {
	if when == "never" || when == "auto" && s.resolvesByProperties(ctx) {
		return
	}
	var requests arvados.ContainerRequestList
	err := s.dispatch(ctx, &requests, "GET", "container_requests", map[string]interface{}{
		"filters": [][]interface{}{{"container_uuid", "=", s.Container.UUID}, {"output_uuid", "!=", nil}},
		"select":  []string{"uuid", "owner_uuid", "output_uuid"},
	})
	for _, request := range requests.Items {
		var output arvados.Collection
		if err == nil {
			err = s.dispatch(ctx, &output, "GET", "collections/"+request.OutputUUID, nil)
		}
		if err != nil {
			break
		}
		for _, link := range dockerimage.ParseProperties(output.Properties).Links() {
			link.OwnerUUID, link.HeadUUID = request.OwnerUUID, request.OutputUUID
			if err == nil {
				err = s.dispatch(ctx, &arvados.Link{}, "POST", "links", map[string]interface{}{"link": map[string]interface{}{
					"owner_uuid": link.OwnerUUID,
					"link_class": link.LinkClass,
					"name":       link.Name,
					"head_uuid":  link.HeadUUID,
					"properties": link.Properties,
				}})
			}
		}
	}
	if err != nil {
		s.Log.Errorf("image links could not be written: %v", err)
	}
}

// resolvesByProperties reports whether the API server says that it finds
// images by the properties of their collections.
func (s *Session) resolvesByProperties(ctx context.Context) bool {
	var config struct {
		Containers struct{ ResolveImagesByProperties bool }
	}
	return s.dispatch(ctx, &config, "GET", "config", nil) == nil && config.Containers.ResolveImagesByProperties
}
