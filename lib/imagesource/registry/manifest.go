// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package registry

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const manifestOp = "read manifest"

var (
	indexTypes = []string{ocispec.MediaTypeImageIndex, string(types.DockerManifestList)}
	imageTypes = []string{ocispec.MediaTypeImageManifest, string(types.DockerManifestSchema2)}
	// Asked for as well, so that an old image is refused for what it is
	// and not reported missing.
	schema1Types = []string{string(types.DockerManifestSchema1), string(types.DockerManifestSchema1Signed)}
	configTypes  = []string{ocispec.MediaTypeImageConfig, string(types.DockerConfigJSON), "application/octet-stream"} // the last by Docker 1.10

	// accepted is the header of every request for a manifest: what a
	// registry answers to it, and so the digest, depends on it.
	accepted = http.Header{"Accept": {strings.Join(slices.Concat(indexTypes, imageTypes, schema1Types), ", ")}}

	wellFormed = regexp.MustCompile(`^sha256:[a-f0-9]{64}$`)
)

// manifest is an image manifest or an index, as the registry has it.
type manifest struct {
	raw       []byte
	digest    string
	mediaType string
	content
}

// content is what manifests and indexes say; a thing with the parts of both is
// neither.
type content struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	ArtifactType  string               `json:"artifactType"`
	Config        *ocispec.Descriptor  `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
	Manifests     []ocispec.Descriptor `json:"manifests"`
}

func (m *manifest) isIndex() bool { return slices.Contains(indexTypes, m.mediaType) }

// head is the digest of what the tag names, as the registry has it in a header;
// "" if it does not say, for whatever reason.
func (ss *session) head(ctx context.Context) string {
	resp, err := ss.request(ctx, http.MethodHead, "manifests/"+ss.ref.Tag, accepted)
	if err != nil {
		return ""
	}
	resp.Body.Close()
	digest := resp.Header.Get("Docker-Content-Digest")
	if !wellFormed.MatchString(digest) {
		return ""
	}
	return digest
}

// manifest fetches what the reference names. Nothing else gets content by tag.
func (ss *session) manifest(ctx context.Context) (*manifest, error) {
	identifier := ss.ref.Digest
	if identifier == "" {
		identifier = ss.ref.Tag
	}
	m, err := ss.fetch(ctx, identifier, ss.ref.Familiar())
	var status *statusError
	if errors.As(err, &status) && status.code == http.StatusNotFound {
		return nil, ss.missing(ctx, err)
	}
	return m, err
}

// fetch reads a manifest by tag or digest; subject is for errors.
func (ss *session) fetch(ctx context.Context, identifier, subject string) (*manifest, error) {
	m := &manifest{}
	var contentType string
	err := ss.source.retry(ctx, "reading the manifest of "+subject, func(ctx context.Context) error {
		resp, err := ss.get(ctx, "manifests/"+identifier, accepted)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		contentType, _, _ = strings.Cut(resp.Header.Get("Content-Type"), ";")
		if resp.ContentLength > imagetar.MaxManifest {
			return ss.invalid(manifestOp, subject, "its %d bytes are more than the %d that a manifest may have", resp.ContentLength, imagetar.MaxManifest)
		}
		m.raw, err = io.ReadAll(io.LimitReader(resp.Body, imagetar.MaxManifest+1))
		return err
	})
	if err != nil {
		return nil, ss.fail(manifestOp, subject, err)
	}
	if len(m.raw) > imagetar.MaxManifest {
		return nil, ss.invalid(manifestOp, subject, "it is longer than the %d bytes that a manifest may have", imagetar.MaxManifest)
	}
	m.digest = fmt.Sprintf("sha256:%x", sha256.Sum256(m.raw))
	if strings.Contains(identifier, ":") && m.digest != identifier {
		return nil, ss.fail(manifestOp, subject, &imagetar.ContentError{Digest: identifier, Problem: "it is " + m.digest})
	}
	if err := json.Unmarshal(m.raw, &m.content); err != nil {
		return nil, ss.invalid(manifestOp, subject, "it is not the JSON of a manifest: %w", err)
	}
	return m, ss.classify(m, strings.TrimSpace(contentType), subject)
}

// classify decides what m is: what it says itself, else what the registry
// calls it, else what it looks like.
func (ss *session) classify(m *manifest, contentType, subject string) error {
	known := slices.Concat(indexTypes, imageTypes)
	m.mediaType = m.MediaType
	switch {
	case m.SchemaVersion == 1 || slices.Contains(schema1Types, contentType):
		return &fault.Error{Op: manifestOp, Side: fault.Request, Subject: subject,
			Err:  errors.New("it has the old format schema 1, which current engines do not take either"),
			Hint: "pull the image with an old docker and push it again, or choose a newer image"}
	case m.MediaType != "" && slices.Contains(known, contentType) && contentType != m.MediaType:
		return ss.invalid(manifestOp, subject, "the registry calls it %s, but it calls itself %.100q", contentType, m.MediaType)
	case m.MediaType != "":
	case slices.Contains(known, contentType):
		m.mediaType = contentType
	case m.Manifests != nil:
		m.mediaType = ocispec.MediaTypeImageIndex
	default:
		m.mediaType = ocispec.MediaTypeImageManifest
	}
	switch {
	case !slices.Contains(known, m.mediaType):
		return ss.artifact(subject, "its media type is "+m.mediaType)
	case m.SchemaVersion != 2:
		return ss.invalid(manifestOp, subject, "schema version %d instead of 2", m.SchemaVersion)
	case m.Manifests != nil && (m.Config != nil || m.Layers != nil):
		// Readers disagree on what such a thing is (CVE-2021-41190).
		return ss.invalid(manifestOp, subject, "it is an image and an index at the same time")
	case m.isIndex():
		return nil
	case m.Config == nil:
		return ss.invalid(manifestOp, subject, "it names no config")
	case !slices.Contains(configTypes, m.Config.MediaType):
		return ss.artifact(subject, "the media type of its config is "+m.Config.MediaType)
	}
	return nil
}

// missing says whether it is the tag that does not exist, or the repository.
// Registries answer the same to both, but can be asked for tags.
func (ss *session) missing(ctx context.Context, err error) error {
	f := &fault.Error{Op: manifestOp, Side: fault.Registry, Subject: ss.ref.Familiar()}
	text := "the registry has no such image"
	f.Hint = "check the name"
	tags, status := ss.tags(ctx)
	switch {
	case status != nil && status.errorCode == transport.NameUnknownErrorCode:
		text = fmt.Sprintf("%s has no repository %s", ss.ref.Domain, ss.ref.Path)
		f.Hint = "check the name of the repository"
	case ss.ref.Digest != "":
		text = fmt.Sprintf("%s has no image with this digest in %s", ss.ref.Domain, ss.ref.Path)
		f.Hint = "check the digest, which must be that of a manifest or index, or name a tag"
	case len(tags) > 0:
		text = fmt.Sprintf("%s has no tag %s in %s", ss.ref.Domain, ss.ref.Tag, ss.ref.Path)
		f.Hint = "check the tag; there are " + strings.Join(tags[:min(len(tags), 10)], ", ")
		if len(tags) > 10 {
			f.Hint += " and others"
		}
	}
	f.Err = &cause{text: text, err: err}
	return f
}

// tags are some tags of the repository. Anything that goes wrong means none.
func (ss *session) tags(ctx context.Context) ([]string, *statusError) {
	var status *statusError
	resp, err := ss.get(ctx, "tags/list?n=100", nil)
	if err != nil {
		errors.As(err, &status)
		return nil, status
	}
	defer resp.Body.Close()
	var list struct {
		Tags []string `json:"tags"`
	}
	// Shortened, it is no JSON, and there are no tags to name.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	_ = json.Unmarshal(body, &list)
	return slices.DeleteFunc(list.Tags, func(tag string) bool { return len(tag) > 128 }), nil
}

func (ss *session) artifact(subject, why string) error {
	return &fault.Error{Op: manifestOp, Side: fault.Request, Subject: subject,
		Err:  errors.New("it is no container image: " + oneLine(why)),
		Hint: "name a container image; other artifacts, such as charts and signatures, cannot be run"}
}

// invalid is the error for a manifest or config that is not as it should be.
func (ss *session) invalid(op, subject, format string, args ...any) error {
	return &fault.Error{Op: op, Side: fault.Registry, Subject: subject, Err: fmt.Errorf(format, args...),
		Hint: "push the image again with current tools, or name another one"}
}
