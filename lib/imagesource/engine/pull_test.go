// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	check "gopkg.in/check.v1"
)

func (s *conformance) TestPing(c *check.C) {
	info, err := s.engine.Ping(context.Background())
	c.Assert(err, check.IsNil)
	c.Check(info.APIVersion, check.Matches, `1\.\d\d`)
	c.Check(info.Version, check.Not(check.Equals), "")
	c.Check(info.Store, check.Matches, `containerd|overlay2|btrfs|zfs|vfs`)
	c.Check(info.Platform, check.Equals, "linux/amd64")
}

// The whole way: what is pulled can be saved, loaded and run.
func (s *conformance) TestPullSaveLoadRun(c *check.C) {
	ctx := context.Background()
	archive, err := s.pull(ctx, PullRequest{}, func(_ context.Context, img PulledImage) error {
		c.Check(img.Digest, check.Equals, s.digest)
		c.Check(img.Platform, check.Equals, "linux/amd64")
		return nil
	})
	c.Assert(err, check.IsNil)
	c.Check(archive.Image.Config, check.DeepEquals, s.image.config)
	c.Check(archive.Image.Layers[0].DiffID, check.Equals, s.image.diffID)
	c.Check(archive.RepoTags, check.HasLen, 0)
	c.Check(s.leftovers(c), check.HasLen, 0)

	id, err := s.engine.Load(ctx, bytes.NewReader(s.image.archive(c)))
	c.Assert(err, check.IsNil)
	defer s.engine.RemoveImage(ctx, id)
	c.Check(s.engine.ImageExists(ctx, id), check.Equals, true)
	var stdout bytes.Buffer
	result, err := s.engine.RunContainer(ctx, ContainerSpec{Image: id, Stdout: &stdout})
	c.Assert(err, check.IsNil)
	c.Check(result, check.Equals, ContainerResult{})
	c.Check(stdout.String(), check.Equals, s.image.label)
}

// The tag moves to another image while we pull: what was resolved counts.
func (s *conformance) TestTagMovesMeanwhile(c *check.C) {
	other := busyboxImage(c, newLabel(), "linux/amd64")
	s.before = func(req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/images/create") {
			s.registry.Push(c, "app", "1", other)
		}
	}
	archive, err := s.pull(context.Background(), PullRequest{}, nil)
	c.Assert(err, check.IsNil)
	c.Check(archive.Image.Config, check.DeepEquals, s.image.config)
}

func (s *conformance) TestPullByDigest(c *check.C) {
	for _, name := range []string{"app@" + s.digest, "app:other@" + s.digest} {
		archive, err := s.pull(context.Background(), PullRequest{Ref: s.parse(c, name)}, nil)
		c.Assert(err, check.IsNil)
		c.Check(archive.Image.Config, check.DeepEquals, s.image.config)
	}
}

// With the private name alone, an image is the engine's for as long as use runs.
func (s *conformance) TestNamesWhileInUse(c *check.C) {
	owner := newOwner()
	_, err := s.pull(context.Background(), PullRequest{Owner: strings.ToUpper(owner)}, func(context.Context, PulledImage) error {
		c.Check(s.names(c), check.DeepEquals, []string{"app@" + s.digest, "arvados-builtin/" + owner + ":pull"})
		return nil
	})
	c.Assert(err, check.IsNil)
}

func (s *conformance) TestBadOwner(c *check.C) {
	for _, owner := range []string{"", "a/b", "a:b", "-a", "a b", "../a"} {
		err := s.engine.Pull(context.Background(), PullRequest{Ref: s.ref, Owner: owner}, nil)
		c.Check(err, check.ErrorMatches, `.*cannot be the owner of a pull`, check.Commentf("%q", owner))
	}
}

// Two pulls give the same blobs, whatever the engine does to the tar.
func (s *conformance) TestSaveTwice(c *check.C) {
	first, err := s.pull(context.Background(), PullRequest{}, nil)
	c.Assert(err, check.IsNil)
	second, err := s.pull(context.Background(), PullRequest{}, nil)
	c.Assert(err, check.IsNil)
	c.Check(second.Image, check.DeepEquals, first.Image)
}

func (s *conformance) TestPlatforms(c *check.C) {
	arm := busyboxImage(c, newLabel(), "linux/arm64/v8")
	index := s.registry.PushIndex(c, "multi", "1", map[string]testImage{"linux/amd64": s.image, "linux/arm64/v8": arm})
	multi := s.parse(c, "multi:1")
	for _, trial := range []struct {
		platform string
		image    testImage
		has      string
	}{
		{"", s.image, "linux/amd64"},
		{"linux/amd64", s.image, "linux/amd64"},
		{"linux/arm64", arm, "linux/arm64/v8"},
		{"linux/arm64/v8", arm, "linux/arm64/v8"},
	} {
		archive, err := s.pull(context.Background(), PullRequest{Ref: multi, Platform: trial.platform}, func(_ context.Context, img PulledImage) error {
			c.Check(img.Digest, check.Equals, index)
			c.Check(img.Platform, check.Equals, trial.has)
			return nil
		})
		c.Assert(err, check.IsNil, check.Commentf("%q", trial.platform))
		c.Check(archive.Image.Config, check.DeepEquals, trial.image.config)
		c.Check(archive.Platform, check.Equals, trial.has)
	}
	for _, trial := range []struct {
		name     string
		platform string
	}{
		{"multi:1", "linux/s390x"},
		{"multi:1", "windows/amd64"},
		{"app:1", "linux/arm64"}, // engines pull it without complaint
	} {
		_, err := s.pull(context.Background(), PullRequest{Ref: s.parse(c, trial.name), Platform: trial.platform}, nil)
		s.checkFault(c, err, fault.Request, false, `.*(no matching manifest for `+trial.platform+`|the image is for linux/amd64(, linux/arm64/v8)?, not for `+trial.platform+`).*\(ask for a platform that the image has, with --platform\)`)
		c.Check(s.leftovers(c), check.HasLen, 0)
	}
}

// An engine that cannot resolve the digest (it may know the image only by a
// mirror) still pulls by tag, and the digest comes from what it prints.
func (s *conformance) TestDigestCannotBeResolved(c *check.C) {
	s.refuseToResolve(c)
	archive, err := s.pull(context.Background(), PullRequest{}, func(_ context.Context, img PulledImage) error {
		c.Check(img.Digest, check.Equals, s.digest)
		return nil
	})
	c.Assert(err, check.IsNil)
	c.Check(archive.Image.Config, check.DeepEquals, s.image.config)
	c.Check(s.leftovers(c), check.HasLen, 0)
	_, err = s.pull(context.Background(), PullRequest{Ref: s.parse(c, "app@"+s.digest)}, nil)
	c.Assert(err, check.IsNil)
}

// refuseToResolve makes the registry fail while the engine resolves digests,
// not while it pulls.
func (s *conformance) refuseToResolve(c *check.C) {
	resolving := false
	s.before = func(req *http.Request) {
		resolving = strings.Contains(req.URL.Path, "/distribution/")
	}
	s.registry.Intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		if resolving {
			w.WriteHeader(http.StatusNotFound)
		}
		return resolving
	})
}

// Streams that use leaves open do not keep the engine busy, nor the image there.
func (s *conformance) TestStreamLeftOpen(c *check.C) {
	var stream io.ReadCloser
	_, err := s.pull(context.Background(), PullRequest{}, func(ctx context.Context, img PulledImage) (err error) {
		stream, err = img.Open(context.Background())
		return err
	})
	c.Assert(err, check.IsNil)
	_, err = io.Copy(io.Discard, stream)
	c.Check(errors.Is(err, context.Canceled), check.Equals, true, check.Commentf("%v", err))
	stream.Close()
}

func (s *conformance) checkFault(c *check.C, err error, side fault.Side, transient bool, message string) {
	var f *fault.Error
	c.Assert(errors.As(err, &f), check.Equals, true, check.Commentf("%v", err))
	c.Check(f.Side, check.Equals, side, check.Commentf("%v", err))
	c.Check(f.Transient, check.Equals, transient, check.Commentf("%v", err))
	c.Check(err, check.ErrorMatches, `(?s)`+message)
}
