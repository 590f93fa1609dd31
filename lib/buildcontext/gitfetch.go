// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package buildcontext

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
)

var errTooBig = errors.New("it is bigger")

// maxRefusal is how many bytes of an HTTP error are read.
const maxRefusal = 4 << 10

// limitAnswers is a client whose answers end with errTooBig when they are too
// big.
func limitAnswers(client *http.Client, limit int64) *http.Client {
	limited := *client
	if limited.Transport == nil {
		limited.Transport = http.DefaultTransport
	}
	limited.Transport = &limitedTransport{limited.Transport, limit}
	return &limited
}

type limitedTransport struct {
	http.RoundTripper
	limit int64
}

func (t *limitedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 400 { // only its beginning goes into messages
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxRefusal), resp.Body}
	} else {
		resp.Body = &limitedBody{resp.Body, t.limit}
	}
	return resp, nil
}

type limitedBody struct {
	io.ReadCloser
	left int64
}

func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooBig
	}
	return n, err
}

// fetch downloads a pack with the commit asked for, without what came before
// it. want is what the server was asked for: the commit, or a tag of it.
func (g *gitReader) fetch(ctx context.Context, session transport.UploadPackSession) (pack []byte, want plumbing.Hash, err error) {
	refs, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		return nil, want, err
	}
	want, err = g.want(refs)
	if err != nil {
		return nil, want, err
	}
	req := packp.NewUploadPackRequestFromCapabilities(refs.Capabilities)
	req.Wants = []plumbing.Hash{want}
	for _, wish := range []capability.Capability{capability.Shallow, capability.NoProgress} {
		if refs.Capabilities.Supports(wish) {
			if err := req.Capabilities.Set(wish); err != nil {
				return nil, want, err
			}
		}
	}
	if refs.Capabilities.Supports(capability.Shallow) {
		req.Depth = packp.DepthCommits(1)
	}
	answer, err := session.UploadPack(ctx, req)
	if err != nil {
		return nil, want, err
	}
	defer answer.Close()
	var in io.Reader = answer
	switch {
	case req.Capabilities.Supports(capability.Sideband64k):
		in = sideband.NewDemuxer(sideband.Sideband64k, answer)
	case req.Capabilities.Supports(capability.Sideband):
		in = sideband.NewDemuxer(sideband.Sideband, answer)
	}
	pack, err = io.ReadAll(in)
	return pack, want, err
}

// want is the object that the URL's ref names. Branches come before tags, as
// with git checkout.
func (g *gitReader) want(refs *packp.AdvRefs) (plumbing.Hash, error) {
	ref := g.from.Ref
	if ref == "" || ref == "HEAD" {
		if refs.Head == nil {
			return plumbing.ZeroHash, g.noRef("it has no default branch", "name a branch, a tag or a commit after a #")
		}
		return *refs.Head, nil
	}
	for _, name := range []string{ref, "refs/heads/" + ref, "refs/tags/" + ref} {
		if hash, ok := refs.References[name]; ok {
			return hash, nil
		}
	}
	if !plumbing.IsHash(ref) {
		return plumbing.ZeroHash, g.noRef(fmt.Sprintf("it has no branch or tag %q", ref), "check the name; a commit is named by all its 40 digits")
	}
	commit := plumbing.NewHash(ref)
	if refs.Capabilities.Supports(capability.AllowReachableSHA1InWant) || refs.Capabilities.Supports(capability.AllowTipSHA1InWant) {
		return commit, nil
	}
	for _, hash := range refs.References {
		if hash == commit {
			return commit, nil
		}
	}
	return plumbing.ZeroHash, g.noRef("the server gives out only the newest commits of branches and tags", "name a branch or a tag")
}

func (g *gitReader) noRef(cause, hint string) error {
	return refusal("read git repository", g.from.String(), cause, hint)
}

// checkPack refuses a pack whose objects would take too much memory. It tells
// by the sizes that the pack declares, before anything of such a size is made;
// go-git holds the objects to them.
func checkPack(pack []byte, limit int64) error {
	s := packfile.NewScanner(bytes.NewReader(pack))
	_, count, err := s.Header()
	if err != nil {
		return err
	}
	for range count {
		header, err := s.NextObjectHeader()
		if err != nil {
			return err
		}
		if limit -= header.Length; limit < 0 {
			return errTooBig
		}
		if !header.Type.IsDelta() {
			if _, _, err := s.NextObject(io.Discard); err != nil {
				return err
			}
			continue
		}
		var delta bytes.Buffer
		if _, _, err := s.NextObject(&delta); err != nil {
			return err
		}
		// A delta begins with the sizes of the object that it starts from,
		// and of the one that it makes (gitformat-pack(5)).
		_, n := binary.Uvarint(delta.Bytes())
		size, m := binary.Uvarint(delta.Bytes()[max(n, 0):])
		if n <= 0 || m <= 0 {
			return errors.New("a malformed delta")
		}
		if size > uint64(limit) {
			return errTooBig
		}
		limit -= int64(size)
	}
	return nil
}
