// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"github.com/spf13/cobra"
)

func (p *Program) inspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect IMAGE [IMAGE...]",
		Short: "Show all that is known of images in Keep, as JSON",
		Long: `Show all that is known of images in Keep, as JSON: their configuration, layers,
collections and properties. IMAGE is a name, a hash (at least 12 digits of it)
or a portable data hash.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			s, err := p.connect(ctx)
			if err != nil {
				return err
			}
			// As with docker, what is found is printed though something is not.
			shown := []*inspected{}
			var failure error
			for _, name := range args {
				image, err := s.inspect(ctx, name)
				switch {
				case err == nil:
					shown = append(shown, image)
				case failure == nil:
					failure = err
				default:
					s.say("%v", err)
				}
			}
			if err := printJSON(s.Stdout, shown); err != nil {
				return err
			}
			return failure
		},
	}
}

// inspected is an image as inspect prints it. Fields that docker inspect has,
// too, have docker's names.
type inspected struct {
	ID           string `json:"Id"` // what its file is named by
	ConfigDigest string
	RepoTags     []string
	Digests      []string // of manifest, and of index if it is stored
	Created      string
	Os           string
	Architecture string
	Variant      string `json:",omitempty"`
	Config       json.RawMessage
	History      json.RawMessage
	Layers       []inspectedLayer
	Arvados      inspectedCollection
}

type inspectedLayer struct {
	Digest    string
	DiffID    string
	Size      int64 // bytes as stored
	MediaType string
}

type inspectedCollection struct {
	Collection       string
	Owner            string
	PortableDataHash string
	CreatedAt        string
	ContainerRequest string                 `json:",omitempty"`
	Properties       map[string]interface{} // as the collection has them
}

// inspect finds an image and reads its configuration.
func (s *session) inspect(ctx context.Context, name string) (*inspected, error) {
	found, err := s.resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	image, err := s.open(ctx, found)
	if err != nil {
		return nil, err
	}
	coll, err := s.collection(ctx, found.UUID)
	if err != nil {
		return nil, err
	}
	var config struct {
		Created, Os, Architecture, Variant string
		Config, History                    json.RawMessage
	}
	if err := json.Unmarshal(image.Config, &config); err != nil {
		return nil, &fault.Error{Op: "read the config of", Side: fault.Request, Subject: name, Err: err}
	}
	r := newResult(*coll)
	shown := &inspected{
		ID:           hashOf(found.Found),
		ConfigDigest: digestOf(image.Config),
		RepoTags:     r.Names,
		Digests:      image.Digests,
		Created:      config.Created, Os: config.Os, Architecture: config.Architecture, Variant: config.Variant,
		Config: config.Config, History: config.History,
		Arvados: inspectedCollection{
			Collection:       r.Collection,
			Owner:            r.Owner,
			PortableDataHash: r.PortableDataHash,
			CreatedAt:        coll.CreatedAt.UTC().Format(time.RFC3339Nano),
			ContainerRequest: r.Request,
			Properties:       r.Properties,
		},
	}
	for _, layer := range image.Layers {
		shown.Layers = append(shown.Layers, inspectedLayer{layer.Digest, layer.DiffID, layer.Size, layer.MediaType})
	}
	return shown, nil
}

// open reads an image in Keep, but for its layers.
func (s *session) open(ctx context.Context, found dockerimage.Resolved) (imagetar.Image, error) {
	kc, err := s.keep(ctx)
	if err != nil {
		return imagetar.Image{}, err
	}
	return dockerimage.Open(ctx, kc, found.Found)
}

func digestOf(content []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(content)) }
