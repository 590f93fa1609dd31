// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"cmp"
	"context"
	"errors"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/lib/imagesource/registry"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"github.com/spf13/cobra"
)

// What a pull needs of RAM, in bytes: the program, and each Keep block that is
// under way, of which more than maxBlocks gain nothing.
const (
	pullBase     = 192 << 20
	pullPerBlock = 80 << 20
	maxBlocks    = 4
)

// manyBytes is an image in which one core is not enough to check what comes.
const manyBytes = 1 << 30

// resolveTime is how long a registry has to say what a tag means; the node asks
// it again, and may be nearer.
const resolveTime = 20 * time.Second

func (p *Program) pullCommand() *cobra.Command {
	var flags requestFlags
	var platform string
	cmd := &cobra.Command{
		Use:   "pull [OPTIONS] NAME[:TAG|@DIGEST]",
		Short: "Bring an image from a registry into Keep",
		Long: `Bring an image from a registry into Keep, by a container request.

A tag is resolved to a digest here first, if the registry can be reached from
here. If your home (or the project) has the image already, nothing is submitted.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			ref, err := imageref.Parse(args[0])
			if err != nil {
				return err
			}
			if err := checkLinks(flags.links); err != nil {
				return err
			}
			s, err := p.connect(ctx)
			if err != nil {
				return err
			}
			r, err := s.pull(ctx, ref, platform, &flags)
			if err != nil {
				return err
			}
			return s.print(r, &flags)
		},
	}
	cmd.Flags().StringVar(&platform, "platform", "", "os/arch[/variant] of the image (default: that of the node)")
	flags.add(cmd)
	cmd.Flags().Var(&flags.imageID, "image-id", "take no image that is there unless its file is named by this, config or manifest (default: either will do)")
	return cmd
}

// pull finds the image in Keep, or submits the request that brings it there. What
// is there already costs as little as can be: what the tag means, of the registry,
// and one list, of the API server.
func (s *session) pull(ctx context.Context, ref imageref.Ref, platform string, f *requestFlags) (*result, error) {
	platforms, err := registry.Platforms(platform)
	if err != nil {
		return nil, err
	}
	owner, field, err := s.ownerOf(ctx, f.project)
	if err != nil {
		return nil, err
	}
	credentials, err := f.registryCredentials()
	if err != nil {
		return nil, err
	}
	source, err := registry.New(registry.Options{
		Credentials: credentials,
		Registries:  []string{"*", ref.Domain}, // whoever names it may connect to it from here
	})
	if err != nil {
		return nil, err
	}
	defer source.Close()
	ask := &question{session: s, ref: ref, anonymous: credentials == nil}
	digest := ""
	failure := ask.registry(ctx, func(ctx context.Context) (err error) {
		digest, err = source.Digest(ctx, ref)
		return err
	})
	if digest != "" && f.imageID == "" {
		// An index has images for several platforms.
		r, err := s.pulledBefore(ctx, ref, digest, owner, f, arvados.Filter{Attr: "properties." + keyPlatform, Operator: "in", Operand: platforms})
		if r != nil || err != nil {
			return r, err
		}
	}
	if err := cmp.Or(s.checkOwner(ctx, owner, field), failure); err != nil {
		return nil, err
	}
	need := resources{ram: pullBase + maxBlocks*pullPerBlock, cores: 1}
	pinned := ref
	pinned.Digest = digest
	if digest != "" {
		var image *registry.Image
		err := ask.registry(ctx, func(ctx context.Context) (err error) {
			image, err = source.Resolve(ctx, pinned, platform)
			return err
		})
		if err != nil {
			return nil, err
		}
		if image != nil {
			// Another index may have led to it before, or the platform be
			// written in another way.
			manifest := image.Digests[len(image.Digests)-1]
			var named []arvados.Filter
			switch f.imageID {
			case dockerimage.ByConfig:
				named = []arvados.Filter{{Attr: "properties." + keyHash, Operator: "=", Operand: digestOf(image.Config)}}
			case dockerimage.ByManifest: // another one if there are zstd layers; then the node finds what is there
				named = []arvados.Filter{{Attr: "properties." + keyHash, Operator: "=", Operand: manifest}}
			}
			r, err := s.pulledBefore(ctx, ref, manifest, owner, f, named...)
			if r != nil || err != nil {
				return r, err
			}
			var total int64
			for _, layer := range image.Layers {
				total += layer.Size
			}
			need = pullResources(total)
		}
	}
	request, err := f.pullRequest(owner, pinned, platform, need, credentials)
	if err != nil {
		return nil, err
	}
	needed := s.needsLinks(ctx, f.links)
	if !needed && f.links == linksAuto {
		request["output_properties"] = attrs{keyLinks: "1"}
	}
	r, err := s.submit(ctx, request, f)
	if r != nil && err == nil && needed {
		s.rememberLinks(ctx, r.Collection, r.Properties)
	}
	return r, err
}

// pullRequest is the container request for a pull.
func (f *requestFlags) pullRequest(owner string, ref imageref.Ref, platform string, need resources, credentials []byte) (attrs, error) {
	command := []string{"docker", "pull", ref.Familiar()}
	if platform != "" {
		command = []string{"docker", "pull", "--platform", platform, ref.Familiar()}
	}
	request, err := f.request(owner, "docker pull "+ref.Familiar(), command, need, nil, withCredentials(nil, credentials))
	if err != nil {
		return nil, err
	}
	// What a digest means never changes, so that what somebody else has
	// pulled is as good, but for what its file is named by.
	request["use_existing"] = ref.Digest != "" && f.imageID == ""
	request["description"] = describePull(ref, credentials != nil)
	return request, nil
}

// pullResources are for an image whose layers have so many bytes together.
func pullResources(total int64) resources {
	blocks := max(1, min(maxBlocks, (total+keepfile.BlockSize-1)/keepfile.BlockSize))
	need := resources{ram: pullBase + blocks*pullPerBlock, cores: 1}
	if total >= manyBytes {
		need.cores = 2
	}
	return need
}

// question is what is asked of a registry about a name.
type question struct {
	*session
	ref       imageref.Ref
	anonymous bool // without credentials
}

// registry asks the registry. That it cannot be seen from here is said, and no
// error: the node may reach another one by this name, or have credentials.
func (q *question) registry(ctx context.Context, ask func(context.Context) error) error {
	asking, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	err := ask(asking)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case asking.Err() != nil, fault.Transient(err), errors.Is(err, registry.ErrUnauthorized) && q.anonymous:
		q.say("%s is left to the node, since from here it cannot be seen: %v", q.ref.Familiar(), err)
		return nil
	}
	return err
}

// pulledBefore is the image as the owner has it already, under the name that is
// asked for; nil if it is not there. The filters are for its collection.
func (s *session) pulledBefore(ctx context.Context, ref imageref.Ref, digest, owner string, f *requestFlags, filters ...arvados.Filter) (*result, error) {
	coll, err := s.findImage(ctx, append(filters,
		arvados.Filter{Attr: "owner_uuid", Operator: "=", Operand: owner},
		arvados.Filter{Attr: "properties." + keyDigest, Operator: "contains", Operand: digest})...)
	if coll == nil || err != nil {
		return nil, err
	}
	if !f.dryRun {
		var names []string
		if tag := ref.RepoTag(); tag != "" {
			names = append(names, tag)
		}
		if err := s.addNames(ctx, coll, names, f.links); err != nil {
			return nil, err
		}
	}
	r := newResult(*coll)
	r.Existed = true
	if !f.quiet {
		s.say("%s (%s) is in Keep already, in collection %s", ref.Familiar(), builtin.Short(digest), coll.UUID)
		if r.Request != "" {
			s.say("container request %s made it; its log: arvados-client logs %s", r.Request, r.Request)
		}
	}
	return r, nil
}
