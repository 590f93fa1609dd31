// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imagetar"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"golang.org/x/sync/errgroup"
	check "gopkg.in/check.v1"
)

// A neighbour is anybody else who uses the same engine: another container's
// pull, or an administrator with the docker command.

// docker does what "docker pull" does, and returns a function that removes the
// names which that made.
func (s *conformance) docker(c *check.C, name, platform string) (remove func()) {
	full := s.registry.Host + "/" + name
	body, err := s.engine.cli.ImagePull(context.Background(), full, image.PullOptions{Platform: platform})
	c.Assert(err, check.IsNil)
	defer body.Close()
	c.Assert(readMessages(body, func(message) {}), check.IsNil)
	return func() { s.rmi(c, name) }
}

func (s *conformance) rmi(c *check.C, name string) {
	if !strings.HasPrefix(name, "sha256:") {
		name = s.registry.Host + "/" + name
	}
	_, err := s.engine.cli.ImageRemove(context.Background(), name, image.RemoveOptions{Force: true})
	if !cerrdefs.IsNotFound(err) { // with the last tag, an engine removes the digest's name
		c.Assert(err, check.IsNil)
	}
}

// What a neighbour had before keeps its names, whichever way he got it.
func (s *conformance) TestImageWasThere(c *check.C) {
	other := busyboxImage(c, newLabel(), "linux/amd64")
	otherDigest := s.registry.Push(c, "app", "2", other)
	for _, had := range [][]string{
		{"app:1"},
		{"app@" + s.digest},
		{"app:1", "app@" + s.digest},
		{"app:2"},
		{"app@" + otherDigest},
	} {
		for _, way := range []struct {
			pulled   string
			resolves bool
		}{{"app:1", true}, {"app:1", false}, {"app@" + s.digest, false}} {
			comment := check.Commentf("had %q, pull %s, digest can be resolved: %v", had, way.pulled, way.resolves)
			s.before = nil
			s.registry.Intercept(nil)
			var remove []func()
			for _, name := range had {
				remove = append(remove, s.docker(c, name, ""))
			}
			before := s.names(c)
			if !way.resolves {
				s.refuseToResolve(c)
			}
			archive, err := s.pull(context.Background(), PullRequest{Ref: s.parse(c, way.pulled)}, nil)
			c.Assert(err, check.IsNil, comment)
			c.Check(archive.Image.Config, check.DeepEquals, s.image.config, comment)
			after := s.names(c)
			if len(after) == len(before)+1 && !way.resolves && way.pulled == "app:1" {
				// The tag is left when removing it would take
				// the neighbour's name with it.
				c.Check(had, check.DeepEquals, []string{"app@" + s.digest}, comment)
				s.rmi(c, "app:1")
				continue
			}
			c.Check(after, check.DeepEquals, before, comment)
			for _, f := range remove {
				f()
			}
			c.Assert(s.leftovers(c), check.HasLen, 0, comment)
		}
	}
}

// A tag that a pull by tag moves goes back to the image that it meant.
func (s *conformance) TestTagIsGivenBack(c *check.C) {
	remove := s.docker(c, "app:1", "")
	defer remove()
	before, err := s.engine.cli.ImageInspect(context.Background(), s.registry.Host+"/app:1")
	c.Assert(err, check.IsNil)
	newer := busyboxImage(c, newLabel(), "linux/amd64")
	s.registry.Push(c, "app", "1", newer)
	s.refuseToResolve(c)
	archive, err := s.pull(context.Background(), PullRequest{}, nil)
	c.Assert(err, check.IsNil)
	c.Check(archive.Image.Config, check.DeepEquals, newer.config)
	after, err := s.engine.cli.ImageInspect(context.Background(), s.registry.Host+"/app:1")
	c.Assert(err, check.IsNil)
	c.Check(after.ID, check.Equals, before.ID)
}

// The neighbour has the image for another platform under the same digest. Where
// an engine cannot hold both, his stays.
func (s *conformance) TestOtherPlatformWasThere(c *check.C) {
	arm := busyboxImage(c, newLabel(), "linux/arm64")
	index := s.registry.PushIndex(c, "multi", "1", map[string]testImage{"linux/amd64": s.image, "linux/arm64": arm})
	multi := s.parse(c, "multi:1")
	for _, theirs := range []string{"multi:1", "multi@" + index} {
		remove := s.docker(c, theirs, "linux/arm64")
		before := s.names(c)
		archive, err := s.pull(context.Background(), PullRequest{Ref: multi}, nil)
		if s.info.Store == StoreContainerd {
			c.Assert(err, check.IsNil)
			c.Check(archive.Image.Config, check.DeepEquals, s.image.config)
		} else {
			s.checkFault(c, err, fault.Engine, true, `.*the engine has the image for linux/arm64, and can hold it for one platform only.*`)
		}
		archive, err = s.pull(context.Background(), PullRequest{Ref: multi, Platform: "linux/arm64"}, nil)
		c.Assert(err, check.IsNil)
		c.Check(archive.Image.Config, check.DeepEquals, arm.config)
		c.Check(s.names(c), check.DeepEquals, before)
		remove()
		c.Check(s.leftovers(c), check.HasLen, 0)
	}
}

// An image that is there is not downloaded, but the registry is asked.
func (s *conformance) TestNothingToDownload(c *check.C) {
	defer s.docker(c, "app:1", "")()
	s.registry.Intercept(nil)
	_, err := s.pull(context.Background(), PullRequest{}, nil)
	c.Assert(err, check.IsNil)
	c.Check(s.registry.Requests("/manifests/1"), check.Not(check.HasLen), 0)
	c.Check(s.registry.Requests("/blobs/"), check.HasLen, 0)
}

// What a neighbour takes up while we use the image is his.
func (s *conformance) TestNeighbourComesMeanwhile(c *check.C) {
	var remove func()
	_, err := s.pull(context.Background(), PullRequest{}, func(context.Context, PulledImage) error {
		remove = s.docker(c, "app:1", "")
		return nil
	})
	c.Assert(err, check.IsNil)
	c.Check(s.names(c), check.DeepEquals, []string{"app:1", "app@" + s.digest})
	remove()
	_, err = s.pull(context.Background(), PullRequest{}, func(ctx context.Context, img PulledImage) error {
		return s.engine.cli.ImageTag(ctx, img.ID, s.registry.Host+"/mine:1")
	})
	c.Assert(err, check.IsNil)
	c.Check(strings.Join(s.names(c), " "), check.Matches, `mine:1( mine@.*)?`)
	s.rmi(c, "mine:1")
}

// An image that runs is not taken away.
func (s *conformance) TestImageIsRun(c *check.C) {
	ctx := context.Background()
	var id, imageID string
	_, err := s.pull(ctx, PullRequest{}, func(_ context.Context, img PulledImage) error {
		imageID = img.ID
		created, err := s.engine.cli.ContainerCreate(ctx, &container.Config{Image: img.ID}, &container.HostConfig{NetworkMode: "none"}, nil, nil, "")
		id = created.ID
		return err
	})
	c.Assert(err, check.IsNil)
	c.Check(s.engine.cli.ContainerStart(ctx, id, container.StartOptions{}), check.IsNil)
	c.Check(s.engine.cli.ContainerRemove(ctx, id, container.RemoveOptions{Force: true}), check.IsNil)
	if s.engine.ImageExists(ctx, imageID) {
		s.rmi(c, imageID)
	}
}

// The neighbour who had brought the image removes it after we have pulled it,
// before it has a name of ours.
func (s *conformance) TestRemovedBeforeNamed(c *check.C) {
	for _, resolves := range []bool{true, false} {
		if !resolves {
			s.refuseToResolve(c)
		}
		inner := s.before
		removed := 0
		s.before = func(req *http.Request) {
			if inner != nil {
				inner(req)
			}
			if strings.HasSuffix(req.URL.Path, "/tag") && removed < 2 {
				removed++
				_, err := s.engine.cli.ImageRemove(context.Background(), s.registry.Host+"/app@"+s.digest, image.RemoveOptions{Force: true})
				c.Check(err, check.IsNil)
				if !resolves {
					s.engine.cli.ImageRemove(context.Background(), s.registry.Host+"/app:1", image.RemoveOptions{Force: true})
				}
			}
		}
		_, err := s.pull(context.Background(), PullRequest{}, nil)
		c.Assert(err, check.IsNil)
		c.Check(removed, check.Equals, 2)
		c.Check(s.leftovers(c), check.HasLen, 0)
	}
}

// Many containers pull the same image at the same time, and each removes it
// when it is done with it. Nobody fails, and nothing is left.
func (s *conformance) TestConcurrentPulls(c *check.C) {
	const pullers, rounds = 6, 5
	group, ctx := errgroup.WithContext(context.Background())
	for puller := range pullers {
		group.Go(func() error {
			for round := range rounds {
				req := PullRequest{}
				if puller%2 == 1 {
					req.Ref = s.parse(c, "app@"+s.digest)
				}
				archive, err := s.pull(ctx, req, nil)
				if err == nil && string(archive.Image.Config) != string(s.image.config) {
					err = fmt.Errorf("it is another image")
				}
				if err != nil {
					return fmt.Errorf("pull %d of puller %d: %w", round, puller, err)
				}
			}
			return nil
		})
	}
	c.Check(group.Wait(), check.IsNil)
	c.Check(s.leftovers(c), check.HasLen, 0)
}

// The layers that images share survive the removal of one of them in use by
// another.
func (s *conformance) TestConcurrentPullsOfRelatedImages(c *check.C) {
	related := s.image
	related.label = newLabel()
	related.config = []byte(strings.Replace(string(s.image.config), s.image.label, related.label, 1))
	related.manifest = []byte(strings.Replace(strings.Replace(string(s.image.manifest), digestOf(s.image.config), digestOf(related.config), 1),
		fmt.Sprintf(`"size":%d`, len(s.image.config)), fmt.Sprintf(`"size":%d`, len(related.config)), 1))
	s.registry.Push(c, "related", "1", related)
	group, ctx := errgroup.WithContext(context.Background())
	for name, img := range map[string]testImage{"app:1": s.image, "related:1": related} {
		group.Go(func() error {
			for range 8 {
				var archive imagetar.Archive
				archive, err := s.pull(ctx, PullRequest{Ref: s.parse(c, name)}, nil)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				if string(archive.Image.Config) != string(img.config) {
					return fmt.Errorf("%s is another image", name)
				}
			}
			return nil
		})
	}
	c.Check(group.Wait(), check.IsNil)
}
