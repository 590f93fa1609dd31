// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package registry reads container images straight from registries, without an
// engine: from a name and a platform to an imagetar.Image whose layers are
// streamed when they are opened. It speaks the OCI distribution protocol and
// Docker's (schema 2), with go-containerregistry for the handshake.
//
// A tag is resolved once, everything after that goes by digest, and every byte
// is checked against its digest. Transfers that break are resumed.
//
// The package never writes to disk, never decompresses, never runs a
// credential helper, and never connects to an address that the site's rules do
// not admit (see Options.Registries). Errors and log lines hold no credentials.
package registry

import (
	"context"
	"io"
	"math/rand/v2"
	"time"

	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/lib/imagetar"
	"github.com/sirupsen/logrus"
)

// Options say what a Source may do.
type Options struct {
	// Credentials is a docker config.json, nil for none. Only its "auths"
	// are used; a credential helper that would be needed is an error.
	Credentials []byte

	// Registries are the site's rules, in any order:
	//
	//	registry.example.com       this registry, at the port of HTTPS
	//	registry.example.com:5000  this one, at this port
	//	localhost:*                this one, at any port
	//	*.example.com              every registry whose name ends so
	//	http://10.0.0.7:5000       this one, also without TLS
	//	*                          every other registry
	//
	// If there are any, no other registry may be named. What is listed by
	// its name or by *.domain may have a loopback or private address; the
	// entry * and an empty list admit public addresses only. That goes for
	// every host that a registry sends us to, too (for tokens or by
	// redirects), which need not be listed otherwise. Link-local addresses
	// and those of cloud metadata services are never contacted. Loopback
	// registries may be without TLS, as in docker.
	Registries []string

	// Log gets the resolved digest and every retry. Nil for no log.
	Log logrus.FieldLogger
}

// Source reads images from registries. It may be used by several goroutines at
// a time.
type Source struct {
	credentials credentials
	policy      policy
	guard       *guard
	log         logrus.FieldLogger

	// What tests replace.
	sleep  func(context.Context, time.Duration) error
	random func() float64 // 0 to 1, for jitter
	stall  time.Duration  // silence that ends a transfer
}

// Image is an image in a registry.
type Image struct {
	imagetar.Image
	// Ref is what was asked for, with the digest it had: of the index if
	// there is one, else of the manifest.
	Ref imageref.Ref
	// Platform is "linux/arm64", with the variant if the image names one.
	Platform string
}

// New checks the options. Errors are *fault.Error: of side Request for
// credentials that cannot be used.
func New(opts Options) (*Source, error) {
	rules, err := parsePolicy(opts.Registries)
	if err != nil {
		return nil, err
	}
	creds, err := parseCredentials(opts.Credentials)
	if err != nil {
		return nil, err
	}
	if opts.Log == nil {
		quiet := logrus.New()
		quiet.Out = io.Discard
		opts.Log = quiet
	}
	return &Source{
		credentials: creds,
		policy:      rules,
		guard:       newGuard(rules, creds.hide()),
		log:         opts.Log,
		sleep:       sleep,
		random:      rand.Float64,
		stall:       time.Minute,
	}, nil
}

// Close drops connections that are kept for reuse. Layers that are being read
// are not disturbed.
func (s *Source) Close() {
	s.guard.direct.CloseIdleConnections()
	s.guard.proxied.CloseIdleConnections()
}

// Resolve finds the image of a name for a platform, "os/arch" or
// "os/arch/variant"; "" is linux on this machine's architecture. It fetches
// manifests and config, but no layer.
//
// Errors are *fault.Error: of side Request for what the user must change in
// the request or the site's rules forbid, else of side Registry.
// errors.Is(err, ErrUnauthorized) tells that the registry wants other
// credentials, or any.
func (s *Source) Resolve(ctx context.Context, ref imageref.Ref, platform string) (*Image, error) {
	want, err := parsePlatform(platform)
	if err != nil {
		return nil, err
	}
	session, err := s.connect(ctx, ref)
	if err != nil {
		return nil, err
	}
	found, err := session.manifest(ctx)
	if err != nil {
		return nil, err
	}
	image := &Image{Ref: ref}
	image.Ref.Digest = found.digest
	if found.isIndex() {
		image.Digests = append(image.Digests, found.digest)
		if found, err = session.choose(ctx, found, want); err != nil {
			return nil, err
		}
	}
	image.Digests = append(image.Digests, found.digest)
	if err := session.fill(ctx, image, found, want); err != nil {
		return nil, err
	}
	s.log.Infof("%s is %s for %s", ref.Familiar(), image.Ref.Digest, image.Platform)
	return image, nil
}

// Digest is what a name means at the moment: the digest of the index if there is
// one, else of the manifest. A name with a digest needs no registry; for others
// it takes two requests, and one for a token where tokens are wanted. The registry
// is taken at its word, which Resolve does not do. Errors are those of Resolve.
func (s *Source) Digest(ctx context.Context, ref imageref.Ref) (string, error) {
	if ref.Digest != "" {
		return ref.Digest, nil
	}
	session, err := s.connect(ctx, ref)
	if err != nil {
		return "", err
	}
	if digest := session.head(ctx); digest != "" {
		return digest, nil
	}
	found, err := session.manifest(ctx) // says what is wrong, if anything is
	if err != nil {
		return "", err
	}
	return found.digest, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
