// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package registrytest is a container registry inside a test. It serves images
// from memory or while they are generated, fails as it is told to, and keeps
// account of what it was asked for. It also starts the real thing, Debian's
// docker-registry, for tests that hold the two against each other.
//
// It takes no uploads and is for tests only.
package registrytest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"git.arvados.org/arvados.git/lib/imagetar"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// cached is the size in bytes up to which layers are kept in memory; larger
// ones are generated again for each request.
const cached = 32 << 20

// Server is a registry at a loopback address. Its methods may be called while
// it serves.
type Server struct {
	http *httptest.Server

	mtx       sync.Mutex
	manifests map[string]manifest // by "repository:tag" and "repository@digest"
	blobs     map[string]blob     // by digest, for all repositories
	scripts   []*script
	auth      auth
	requests  []*Request
}

type manifest struct {
	mediaType string
	raw       []byte
}

type blob struct {
	size int64
	open func(ctx context.Context) (io.ReadCloser, error)
}

// New starts a registry without TLS.
func New() *Server { return start((*httptest.Server).Start) }

// NewTLS starts a registry with TLS, whose certificate Certificates trusts.
func NewTLS() *Server { return start((*httptest.Server).StartTLS) }

func start(how func(*httptest.Server)) *Server {
	s := &Server{manifests: map[string]manifest{}, blobs: map[string]blob{}}
	s.http = httptest.NewUnstartedServer(s)
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are meant to fail
	how(s.http)
	return s
}

// Close stops the server, also transfers under way.
func (s *Server) Close() {
	s.http.CloseClientConnections()
	s.http.Close()
}

// Host is "127.0.0.1:port", as it stands in names of images.
func (s *Server) Host() string { return s.http.Listener.Addr().String() }

// URL is Host with the scheme.
func (s *Server) URL() string { return s.http.URL }

// Client trusts the certificate of a server with TLS.
func (s *Server) Client() *http.Client { return s.http.Client() }

// Push makes an image available under name, "repository:tag", and returns the
// digest of its manifest.
func (s *Server) Push(name string, img imagetar.Image) string {
	s.PutBlob(img.Config)
	for _, layer := range img.Layers {
		s.putLayer(layer)
	}
	return s.PutManifest(name, img.ManifestMediaType, img.Manifest)
}

func (s *Server) putLayer(layer imagetar.Layer) {
	if layer.Size > cached {
		s.put(layer.Digest, blob{size: layer.Size, open: layer.Open})
		return
	}
	body, err := layer.Open(context.Background())
	if err != nil {
		panic(err)
	}
	defer body.Close()
	content, err := io.ReadAll(body)
	if err != nil {
		panic(err)
	}
	s.ReplaceBlob(layer.Digest, content)
}

// Entry is an image of an index.
type Entry struct {
	Platform string // "linux/arm/v7"; "" for an entry without platform
	Image    imagetar.Image
	// Attestation makes the entry what buildx adds to an image; Platform is
	// not used then.
	Attestation bool
}

// PushIndex makes an OCI index available under name and returns its digest.
func (s *Server) PushIndex(name string, entries ...Entry) string {
	repository, _, _ := strings.Cut(name, ":")
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	index.SchemaVersion = 2
	for _, entry := range entries {
		descriptor := ocispec.Descriptor{
			MediaType: entry.Image.ManifestMediaType,
			Digest:    digest.Digest(s.Push(repository, entry.Image)),
			Size:      int64(len(entry.Image.Manifest)),
		}
		switch parts := strings.Split(entry.Platform, "/"); {
		case entry.Attestation:
			descriptor.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
			descriptor.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
		case entry.Platform != "":
			descriptor.Platform = &ocispec.Platform{OS: parts[0], Architecture: parts[1]}
			if len(parts) > 2 {
				descriptor.Platform.Variant = parts[2]
			}
		}
		index.Manifests = append(index.Manifests, descriptor)
	}
	raw, err := json.Marshal(index)
	if err != nil {
		panic(err)
	}
	return s.PutManifest(name, index.MediaType, raw)
}

// PutManifest makes any bytes available as a manifest, under name
// ("repository:tag", or "repository" for the digest alone) and under their
// digest, which it returns.
func (s *Server) PutManifest(name, mediaType string, raw []byte) string {
	repository, tag, tagged := strings.Cut(name, ":")
	digest := digestOf(raw)
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.manifests[repository+"@"+digest] = manifest{mediaType, raw}
	if tagged {
		s.manifests[repository+":"+tag] = manifest{mediaType, raw}
	}
	return digest
}

// PutBlob makes bytes available and returns their digest.
func (s *Server) PutBlob(content []byte) string {
	digest := digestOf(content)
	s.ReplaceBlob(digest, content)
	return digest
}

// ReplaceBlob makes the registry serve content under a digest, whether it fits
// or not.
func (s *Server) ReplaceBlob(digest string, content []byte) {
	s.put(digest, blob{size: int64(len(content)), open: func(context.Context) (io.ReadCloser, error) {
		return &seekable{bytes.NewReader(content)}, nil
	}})
}

// RemoveBlob makes the registry lose a blob.
func (s *Server) RemoveBlob(digest string) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	delete(s.blobs, digest)
}

func (s *Server) put(digest string, b blob) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.blobs[digest] = b
}

// seekable lets a range start without reading what is before it.
type seekable struct{ *bytes.Reader }

func (*seekable) Close() error { return nil }

func digestOf(content []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(content)) }
