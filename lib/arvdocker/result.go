// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"fmt"
	"strings"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// result is an image collection, as the commands print it that make or find
// one.
type result struct {
	Request          string                 `json:"container_request,omitempty"` // that made it
	Container        string                 `json:"container,omitempty"`
	Log              string                 `json:"log,omitempty"` // collection
	Existed          bool                   `json:"existed"`       // nothing was submitted or stored for it
	Collection       string                 `json:"collection"`
	Owner            string                 `json:"owner"`
	PortableDataHash string                 `json:"portable_data_hash"`
	Image            string                 `json:"image"`
	Names            []string               `json:"names"`
	Platform         string                 `json:"platform,omitempty"`
	Properties       map[string]interface{} `json:"properties"`
}

// newResult describes a collection.
func newResult(coll arvados.Collection) *result {
	props := dockerimage.ParseProperties(coll.Properties)
	request, _ := coll.Properties["container_request"].(string)
	return &result{
		Request:          request,
		Collection:       coll.UUID,
		Owner:            coll.OwnerUUID,
		PortableDataHash: coll.PortableDataHash,
		Image:            props.Hash,
		Names:            append([]string{}, props.RepoTags...),
		Platform:         props.Platform,
		Properties:       coll.Properties,
	}
}

// outcome is what a finished request has made, with its links.
func (s *session) outcome(ctx context.Context, f *follower, links string) (*result, error) {
	coll, err := s.collection(ctx, f.request.OutputUUID)
	if err != nil {
		return nil, err
	}
	r := newResult(*coll)
	r.Request, r.Container, r.Log = f.request.UUID, f.container.UUID, f.request.LogUUID
	return r, s.writeLinks(ctx, *coll, links)
}

// print prints the result the way the flags want it. A nil result has been
// printed.
func (s *session) print(r *result, f *requestFlags) error {
	switch {
	case r == nil:
		return nil
	case f.json:
		return printJSON(s.Stdout, r)
	case f.quiet:
		_, err := fmt.Fprintln(s.Stdout, r.PortableDataHash)
		return err
	}
	return s.printText(r)
}

func (s *session) printText(r *result) error {
	var text strings.Builder
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&text, "%-20s%s\n", name+":", value)
		}
	}
	field("Image", r.Image)
	field("Names", strings.Join(r.Names, ", "))
	field("Platform", r.Platform)
	field("Collection", r.Collection)
	field("Portable data hash", r.PortableDataHash)
	field("Made by", r.Request)
	field("Log", r.Log)
	name := r.Image
	if len(r.Names) > 0 {
		name = r.Names[0]
	}
	fmt.Fprintf(&text, `
In CWL:
  $namespaces: {arv: "http://arvados.org/cwl#"}
  requirements:
    DockerRequirement:
      dockerPull: %s
      arv:dockerCollectionPDH: %s
`, name, r.PortableDataHash)
	_, err := fmt.Fprint(s.Stdout, text.String())
	return err
}
