// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imageref"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
)

// PullRequest says what to pull for whom.
type PullRequest struct {
	Ref imageref.Ref
	// Platform is "os/arch" or "os/arch/variant", "" for the engine's own.
	Platform string
	// Credentials are a docker config.json, empty for none. They appear in
	// no error and no progress.
	Credentials []byte
	// Owner makes private names on the engine: the UUID of the container.
	// Two pulls at the same time must have different owners.
	Owner string
	// Progress, if not nil, gets lines on what the engine does, many a
	// second, from one goroutine at a time.
	Progress func(line string)
}

// PulledImage is an image that the engine has, for as long as the function runs
// that it was given to.
type PulledImage struct {
	ID       string // as the engine calls it; see StoreContainerd
	Digest   string // of the index or manifest at the registry; "" if the engine did not say
	Platform string // "linux/amd64", from the config
	// Open starts the stream of "docker save". It differs from engine to
	// engine; imagetar.ScanArchive reads all dialects and finds out what is
	// missing. A stream that is cut ends with an error, not with io.EOF. It
	// must be closed, and ends when the function does that got the image.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// maxAttempts bounds how often a pull begins again because neighbours removed
// the image before it had a name of ours.
const maxAttempts = 8

var ownerPattern = regexp.MustCompile(`^[0-9a-z]+(-[0-9a-z]+)*$`)

// Pull lets the engine pull an image, has use work with it, and leaves the
// engine as it was, also when something fails, when use panics and when ctx
// ends: the image is removed unless it was there before, or somebody else has
// given it a name or runs it.
//
// The image goes by its digest from the first step on, if the engine can
// resolve one. A private name, arvados-builtin/OWNER:pull, holds it meanwhile,
// so that neighbours on the node do not disturb each other: a neighbour that
// brought the image may take it away at any time but not from under a private
// name, and then whoever is last removes it. An image that is there is used as
// it is once the registry has confirmed digest and credentials.
//
// What an engine with the containerd store keeps of a pull that was cancelled
// half-way (downloaded blobs, under a lease of its own) stays until the lease
// ends after 8 hours, or "docker image prune", or another pull uses it: the API
// has no way to end one lease, and ending all of them breaks pulls that run.
//
// Other stores hold an image of several platforms for one of them only. While
// somebody has it for another one, Pull fails.
func (e *Engine) Pull(ctx context.Context, req PullRequest, use func(context.Context, PulledImage) error) error {
	p, err := e.preparePull(ctx, req)
	if err != nil {
		return err
	}
	defer p.cleanup(ctx)
	pulled, err := p.bring(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends streams that use has not closed, before the cleanup
	pulled.Open = func(opened context.Context) (io.ReadCloser, error) {
		opened, end := context.WithCancel(opened)
		context.AfterFunc(ctx, end)
		stream, err := e.save(opened, pulled.ID, pulled.Platform, p.info)
		if err != nil {
			end()
			return nil, err
		}
		return stream, nil
	}
	return use(ctx, pulled)
}

// pull is one Pull. Its methods bring the image; those in names.go clean up.
type pull struct {
	*Engine
	req      PullRequest
	auth     auth
	info     Info
	platform string
	report   func(line string)
	private  string // our name for the image
	digest   string // "" as long as it is not known
	// confirmed: the registry gave us the digest, with our credentials.
	confirmed bool
	single    bool // it is known to be for one platform only
	traces
}

// privateName is the name of ours, on the engine, for what an operation brings
// for an owner.
func privateName(op, subject, owner string) (string, error) {
	lower := strings.ToLower(owner)
	if !ownerPattern.MatchString(lower) {
		return "", &fault.Error{Op: op, Side: fault.Request, Subject: subject, Err: fmt.Errorf("%q cannot be the owner of a %s", owner, op)}
	}
	return "arvados-builtin/" + lower + ":" + op, nil
}

func (e *Engine) preparePull(ctx context.Context, req PullRequest) (*pull, error) {
	p := &pull{Engine: e, req: req, platform: req.Platform, report: req.Progress, digest: req.Ref.Digest}
	if p.report == nil {
		p.report = func(string) {}
	}
	var err error
	if p.private, err = privateName("pull", req.Ref.Familiar(), req.Owner); err != nil {
		return nil, err
	}
	if p.auth, err = credentialsFor(req.Credentials, req.Ref); err != nil {
		return nil, err
	}
	if p.info, err = e.Ping(ctx); err != nil {
		return nil, err
	}
	if p.platform == "" {
		p.platform = p.info.Platform
	}
	return p, p.resolve(ctx)
}

// resolve asks the engine for the digest of the image. That an engine cannot say
// is no error: a mirror of its may have the image all the same, and if not, the
// message of the pull is the one to show.
func (p *pull) resolve(ctx context.Context) error {
	name := p.tagged()
	if p.req.Ref.Digest != "" {
		name = p.req.Ref.Name() + "@" + p.req.Ref.Digest
	}
	p.report("resolving " + p.req.Ref.Familiar())
	found, err := p.cli.DistributionInspect(ctx, name, p.auth.header())
	if err != nil {
		if isCancel(err) || client.IsErrConnectionFailed(err) {
			return p.pullFault(p.req.Ref, p.auth, err)
		}
		return nil
	}
	p.digest, p.confirmed = found.Descriptor.Digest.String(), true
	p.single = !strings.Contains(found.Descriptor.MediaType, "index") && !strings.Contains(found.Descriptor.MediaType, "list")
	var has []string // engines know it for indexes only
	for _, platform := range found.Platforms {
		has = append(has, formatPlatform(platform))
	}
	if len(has) > 0 && !slices.ContainsFunc(has, func(h string) bool { return matches(p.platform, h) }) {
		return p.wrongPlatform(strings.Join(has, ", "))
	}
	return nil
}

// target is what the engine is asked to pull, and the name that it makes then.
func (p *pull) target() string {
	if p.req.Ref.Digest == "" && !p.confirmed {
		return p.tagged()
	}
	return p.req.Ref.Name() + "@" + p.digest
}

func (p *pull) tagged() string { return p.req.Ref.Name() + ":" + p.req.Ref.Tag }

func (p *pull) wrongPlatform(has string) error {
	return &fault.Error{Op: "pull", Side: fault.Request, Subject: p.req.Ref.Familiar(),
		Err: fmt.Errorf("the image is for %s, not for %s", has, p.platform), Hint: hintPlatform}
}

// bring makes sure that the image is on the engine, under our private name.
func (p *pull) bring(ctx context.Context) (PulledImage, error) {
	for range maxAttempts {
		before, err := p.observe(ctx, p.target())
		if err != nil {
			return PulledImage{}, err
		}
		p.traces = traces{before: before}
		fits := matches(p.platform, before.platform)
		switch {
		case before.id != "" && fits && p.confirmed:
			p.report("the engine has " + p.target() + " already")
		case before.id != "" && !fits && p.single:
			return PulledImage{}, p.wrongPlatform(before.platform)
		case before.id != "" && !fits && p.target() != p.tagged() && p.info.Store != StoreContainerd:
			return PulledImage{}, &fault.Error{Op: "pull", Side: fault.Engine, Subject: p.req.Ref.Familiar(), Transient: true,
				Err:  fmt.Errorf("the engine has the image for %s, and can hold it for one platform only", before.platform),
				Hint: "remove it from the engine of the node"}
		default:
			if err := p.download(ctx); err != nil {
				return PulledImage{}, p.pullFault(p.req.Ref, p.auth, err)
			}
		}
		source := p.target()
		if p.digest != "" {
			source = p.req.Ref.Name() + "@" + p.digest
		}
		if err := p.cli.ImageTag(ctx, source, p.private); cerrdefs.IsNotFound(err) {
			continue // removed by the neighbour who had brought it
		} else if err != nil {
			return PulledImage{}, p.fault("name image", source, err)
		}
		now, err := p.inspect(ctx, p.private, p.platform, p.info)
		if err != nil {
			return PulledImage{}, err
		}
		if now.id == "" {
			continue
		}
		if !matches(p.platform, now.platform) {
			return PulledImage{}, p.wrongPlatform(now.platform)
		}
		p.id = now.id
		return PulledImage{ID: now.id, Digest: p.digest, Platform: now.platform}, nil
	}
	return PulledImage{}, &fault.Error{Op: "pull", Side: fault.Engine, Subject: p.req.Ref.Familiar(), Transient: true,
		Err: errors.New("others on this node remove the image whenever the engine has pulled it")}
}

// download has the engine pull the target, and notes what is needed to take that
// back.
func (p *pull) download(ctx context.Context) error {
	p.asked = true
	var err error
	p.newer, err = p.stream(ctx)
	// An error in the stream, or instead of it, is an answer as well.
	p.answered = !isCancel(err) && !errors.Is(err, errCut) && !client.IsErrConnectionFailed(err)
	return err
}

// stream has the engine pull the target and reads its messages to the end.
// newer says that the engine did not have the image.
func (p *pull) stream(ctx context.Context) (newer bool, err error) {
	body, err := p.cli.ImagePull(ctx, p.target(), image.PullOptions{RegistryAuth: p.auth.header(), Platform: p.platform})
	if err != nil {
		return false, err
	}
	defer body.Close()
	finished := false
	err = readMessages(body, func(m message) {
		if digest, ok := strings.CutPrefix(m.Status, "Digest: "); ok {
			p.digest = digest
		}
		if strings.HasPrefix(m.Status, "Status: ") {
			finished = true
			newer = strings.HasPrefix(m.Status, "Status: Downloaded newer image")
		}
		p.report(m.String())
	})
	if err == nil && !finished {
		err = errCut
	}
	return newer, err
}
