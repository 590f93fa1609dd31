// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"git.arvados.org/arvados.git/lib/imageref"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
)

// settleTime is how long an engine may take to notice that a pull is cancelled.
// Until then the pull may still succeed and make its name.
const settleTime = 2 * time.Second

// observed is what the engine had under a name before it pulled it.
type observed struct {
	seen
	name  string
	names map[string]bool // all names that the repository had, tags and digests
}

// observe looks at the target of a pull before it begins.
func (p *pull) observe(ctx context.Context, target string) (observed, error) {
	before := observed{name: target, names: map[string]bool{}}
	var err error
	if before.seen, err = p.inspect(ctx, target, p.platform, p.info); err != nil {
		return before, err
	}
	images, err := p.cli.ImageList(ctx, image.ListOptions{Filters: filters.NewArgs(filters.Arg("reference", p.repository()))})
	if err != nil {
		return before, p.fault("list images of", p.repository(), err)
	}
	for _, img := range images {
		for _, name := range append(img.RepoTags, img.RepoDigests...) {
			before.names[name] = true
		}
	}
	return before, nil
}

// repository is the familiar name without tag and digest, as engines list it.
func (p *pull) repository() string {
	bare := imageref.Ref{Domain: p.req.Ref.Domain, Path: p.req.Ref.Path, Tag: "t"}
	return strings.TrimSuffix(bare.Familiar(), ":t")
}

// traces are what is known of the names that a pull leaves on the engine beside
// our private one.
type traces struct {
	before observed
	// asked: the engine was asked to pull, and answered: to the end. As long
	// as an answer is due, the target's name may yet appear.
	asked, answered bool
	newer           bool   // the engine says that it did not have the image
	id              string // of the image that got our private name
}

// cleanup removes our private name and what the pull has left. What cannot be
// removed is reported as progress: the image itself may be safe in Keep.
func (p *pull) cleanup(ctx context.Context) {
	ctx, cancel := detached(ctx)
	defer cancel()
	if p.asked {
		p.undo(ctx)
	}
	p.warn("remove", p.private, p.untag(ctx, p.private))
}

// undo compares the names that the engine has after its pull with those that it
// had before, and takes back what is different.
func (p *pull) undo(ctx context.Context) {
	tag := p.before.name
	after, err := p.settled(ctx)
	if err != nil {
		p.warn("look up", tag, err)
		return
	}
	digest := p.repository() + "@" + p.digest
	byTag := !strings.Contains(tag, "@")
	tags := p.otherTags(ctx)
	// While we used the image, somebody may have pulled it by a tag of the
	// same repository. Its name with the digest is his then; besides, the
	// containerd store would remove the tag along with that name.
	claimed := false
	for _, t := range tags {
		claimed = claimed || !p.before.names[t] || p.info.Store == StoreContainerd
	}
	switch {
	case after.id == "", p.id != "" && after.id != p.id:
		// Somebody has removed it, or given the tag another meaning.
	case p.before.id != "" && p.before.id != after.id:
		p.warn("restore", tag, p.restore(ctx))
	case p.before.id != "" && !p.newer:
		// It was there, and meant the same image.
	case byTag && p.before.names[digest] && len(tags) == 0:
		// With the repository's last tag an engine removes its name with
		// the digest, which is a neighbour's. So the tag stays.
	case byTag || !claimed:
		// If it was there (and a pull brought it anew), a neighbour took
		// it away after we had looked.
		p.warn("remove", tag, p.untag(ctx, tag))
	}
	// Pulling by tag makes the name with the digest as well, with most stores.
	if byTag && p.digest != "" && !p.before.names[digest] && !claimed {
		p.warn("remove", digest, p.untag(ctx, digest))
	}
}

// otherTags are those of the same repository that the image has beside the one
// that we pulled by.
func (p *pull) otherTags(ctx context.Context) (tags []string) {
	img, err := p.cli.ImageInspect(ctx, p.private)
	if err != nil { // it never got that far
		if img, err = p.cli.ImageInspect(ctx, p.before.name); err != nil {
			return nil
		}
	}
	for _, tag := range img.RepoTags {
		pulled := p.before.name == p.tagged() && tag == p.repository()+":"+p.req.Ref.Tag
		if strings.HasPrefix(tag, p.repository()+":") && !pulled {
			tags = append(tags, tag)
		}
	}
	return tags
}

// settled looks at the target's name once the engine has surely ended its pull.
func (p *pull) settled(ctx context.Context) (seen, error) {
	after, err := p.inspect(ctx, p.before.name, p.platform, p.info)
	if p.answered {
		return after, err
	}
	tick := time.NewTicker(settleTime / 20)
	defer tick.Stop()
	for end := time.Now().Add(settleTime); err == nil && after.id == p.before.id && time.Now().Before(end); <-tick.C {
		after, err = p.inspect(ctx, p.before.name, p.platform, p.info)
	}
	return after, err
}

func (p *pull) warn(op, name string, err error) {
	if err != nil {
		p.report(fmt.Sprintf("could not %s the name %s on the engine: %v", op, name, err))
	}
}

// restore gives a tag back to the image that it meant before, or takes it away
// if that image is gone by now.
func (p *pull) restore(ctx context.Context) error {
	if !p.ImageExists(ctx, p.before.id) {
		return p.untag(ctx, p.before.name)
	}
	return p.cli.ImageTag(ctx, p.before.id, p.before.name)
}

// untag removes a name, and the image with its last name if no container uses
// it. It is no error if the name is gone already.
func (e *Engine) untag(ctx context.Context, name string) error {
	// Without force an engine keeps the last name of an image that a
	// container uses. With force only the name goes; the image stays.
	_, err := e.cli.ImageRemove(ctx, name, image.RemoveOptions{Force: true, PruneChildren: true})
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	return err
}
