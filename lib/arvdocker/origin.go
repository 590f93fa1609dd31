// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// maxOrigins is how many images are looked up for one history. Properties are
// written by anybody, and may claim any number.
const maxOrigins = 50

// origin is what is on record of an image: as JSON, what history prints.
type origin struct {
	Name             string     `json:"name"` // as it was asked for, or as the recipe has it
	Image            string     `json:"image"`
	Collection       string     `json:"collection,omitempty"` // "" if it is not in Keep
	Owner            string     `json:"owner,omitempty"`
	PortableDataHash string     `json:"portable_data_hash,omitempty"`
	Stored           *time.Time `json:"stored,omitempty"`
	Request          string     `json:"container_request,omitempty"`
	Title            string     `json:"container_request_name,omitempty"`
	Command          []string   `json:"command,omitempty"`
	Container        string     `json:"container,omitempty"`
	Log              string     `json:"log,omitempty"`     // collection
	Missing          []string   `json:"missing,omitempty"` // what cannot be read, and why
	Bases            []*origin  `json:"bases,omitempty"`   // images that it was built upon
}

// miss takes note of what cannot be read.
func (o *origin) miss(what string, err error) {
	reason := err.Error()
	var refused *arvados.TransactionError
	if errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound {
		reason = "it is gone, or you may not read it"
	}
	o.Missing = append(o.Missing, what+": "+reason)
}

// tracer follows images to those that they were built upon.
type tracer struct {
	*session
	seen  map[string]bool // portable data hashes
	count int
}

// trace reads what is on record of an image and its bases. What cannot be read
// is in the record; the error is that of ctx.
func (t *tracer) trace(ctx context.Context, name string, found dockerimage.Found) (*origin, error) {
	o := &origin{
		Name: name, Image: hashOf(found), Collection: found.UUID, Owner: found.OwnerUUID,
		PortableDataHash: found.PDH, Stored: &found.CreatedAt,
	}
	t.count++
	if t.seen[found.PDH] {
		return o, nil // it is told of elsewhere
	}
	t.seen[found.PDH] = true
	coll, err := t.collection(ctx, found.UUID)
	if err != nil {
		o.miss("collection "+found.UUID, err)
	}
	o.Request, _ = coll.Properties["container_request"].(string)
	if o.Request != "" {
		t.traceRequest(ctx, o)
	}
	for _, base := range found.Properties.Bases {
		if t.count >= maxOrigins {
			o.Missing = append(o.Missing, fmt.Sprintf("more bases: no more than %d images are looked up", maxOrigins))
			break
		}
		below, err := t.traceBase(ctx, base)
		if err != nil {
			return nil, err
		}
		o.Bases = append(o.Bases, below)
	}
	return o, context.Cause(ctx)
}

// traceRequest reads the request that made the image.
func (t *tracer) traceRequest(ctx context.Context, o *origin) {
	var cr arvados.ContainerRequest
	if err := t.call(ctx, &cr, http.MethodGet, "container_requests/"+o.Request, nil); err != nil {
		o.miss("container request "+o.Request, err)
		return
	}
	o.Title, o.Container, o.Log = cr.Name, cr.ContainerUUID, cr.LogUUID
	for _, word := range cr.Command {
		o.Command = append(o.Command, withoutPassword(word))
	}
	if o.Log != "" {
		if err := t.call(ctx, nil, http.MethodGet, "collections/"+o.Log, nil); err != nil {
			o.miss("log "+o.Log, err)
		}
	}
}

// withoutPassword is a word of a command that may be a URL.
func withoutPassword(word string) string {
	if u, err := url.Parse(word); err == nil && u.User != nil {
		return u.Redacted()
	}
	return word
}

// traceBase looks for an image that another was built upon.
func (t *tracer) traceBase(ctx context.Context, base dockerimage.Base) (*origin, error) {
	t.count++
	o := &origin{Name: base.Name, Image: base.Hash, PortableDataHash: base.PDH}
	key := base.Hash // taken from a registry then, but perhaps it was stored since
	if base.PDH != "" {
		key = base.PDH
	}
	found, err := dockerimage.Resolve(ctx, t.API, key, dockerimage.Policy{Links: true})
	switch {
	case err == nil:
		t.count-- // trace counts it
		return t.trace(ctx, base.Name, found.Found)
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case !errors.Is(err, dockerimage.ErrNotFound):
		o.miss("image", err)
	case base.PDH != "":
		o.Missing = []string{"image: it was in Keep, and is gone or you may not read it"}
	default:
		o.Missing = []string{"image: it came from its registry, and is not in Keep"}
	}
	return o, nil
}

// hashOf is the hash in the name of an image collection's file.
func hashOf(found dockerimage.Found) string {
	files, err := keepfile.ParseManifest(found.ManifestText)
	if err != nil || len(files) == 0 {
		return found.Properties.Hash
	}
	return strings.TrimSuffix(files[0].Path, ".tar")
}

// print prints the record as text, and those of the bases further to the right.
func (o *origin) print(w io.Writer, indent string) error {
	text := &strings.Builder{}
	fmt.Fprintf(text, "%s%s\n", indent, o.Name)
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(text, "%s  %-20s%s\n", indent, name+":", value)
		}
	}
	field("Image", o.Image)
	field("Collection", o.Collection)
	field("Owner", o.Owner)
	field("Portable data hash", o.PortableDataHash)
	if o.Stored != nil {
		field("Stored", o.Stored.UTC().Format(time.DateTime)+" UTC")
	}
	field("Made by", strings.TrimSpace(o.Request+" "+o.Title))
	field("Command", strings.Join(o.Command, " "))
	field("Log", o.Log)
	if o.Collection != "" && o.Request == "" {
		field("Made by", "no container request; it was loaded or copied")
	}
	for _, missing := range o.Missing {
		field("Not to be read", missing)
	}
	if _, err := io.WriteString(w, text.String()); err != nil {
		return err
	}
	for _, base := range o.Bases {
		if _, err := fmt.Fprintf(w, "%s  Built upon:\n", indent); err != nil {
			return err
		}
		if err := base.print(w, indent+"    "); err != nil {
			return err
		}
	}
	return nil
}
