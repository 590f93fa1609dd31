// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"errors"
	"time"

	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/lib/imageref"
	"git.arvados.org/arvados.git/lib/imagesource/registry"
	"git.arvados.org/arvados.git/lib/keepfile"
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
	return cmd
}

// pull finds the image in Keep, or submits the request that brings it there.
func (s *session) pull(ctx context.Context, ref imageref.Ref, platform string, f *requestFlags) (*result, error) {
	owner, err := s.checkProject(ctx, f.project)
	if err != nil {
		return nil, err
	}
	credentials, err := f.registryCredentials()
	if err != nil {
		return nil, err
	}
	need := resources{ram: pullBase + maxBlocks*pullPerBlock, cores: 1}
	image, err := s.askRegistry(ctx, ref, platform, credentials)
	if err != nil {
		return nil, err
	}
	if image != nil {
		digest := image.Ref.Digest
		if platform != "" { // one index has images for several
			digest = image.Digests[len(image.Digests)-1]
		}
		r, err := s.pulledBefore(ctx, ref, digest, owner, f)
		if r != nil || err != nil {
			return r, err
		}
		ref.Digest = image.Ref.Digest
		var total int64
		for _, layer := range image.Layers {
			total += layer.Size
		}
		need = pullResources(total)
	}
	command := []string{"docker", "pull", ref.Familiar()}
	if platform != "" {
		command = []string{"docker", "pull", "--platform", platform, ref.Familiar()}
	}
	request, err := f.request(owner, "docker pull "+ref.Familiar(), command, need, nil, withCredentials(nil, credentials))
	if err != nil {
		return nil, err
	}
	// What a digest means never changes, so that what somebody else has
	// pulled is as good.
	request["use_existing"] = ref.Digest != ""
	return s.submit(ctx, request, f)
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

// askRegistry asks the registry what is meant, nil if it cannot say: the node
// may reach another one by this name, or have credentials.
func (s *session) askRegistry(ctx context.Context, ref imageref.Ref, platform string, credentials []byte) (*registry.Image, error) {
	source, err := registry.New(registry.Options{
		Credentials: credentials,
		Registries:  []string{"*", ref.Domain}, // whoever names it may connect to it from here
	})
	if err != nil {
		return nil, err
	}
	defer source.Close()
	asking, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	image, err := source.Resolve(asking, ref, platform)
	switch {
	case err == nil:
		return image, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case asking.Err() != nil, fault.Transient(err), errors.Is(err, registry.ErrUnauthorized) && credentials == nil:
		s.say("%s is left to the node, since from here it cannot be seen: %v", ref.Familiar(), err)
		return nil, nil
	}
	return nil, err
}

// pulledBefore is the image as the owner has it already, under the name that is
// asked for; nil if it is not there.
func (s *session) pulledBefore(ctx context.Context, ref imageref.Ref, digest, owner string, f *requestFlags) (*result, error) {
	coll, err := s.findOwn(ctx, owner, keyDigest, digest)
	if coll == nil || err != nil {
		return nil, err
	}
	if tag := ref.RepoTag(); tag != "" && !f.dryRun {
		if err := s.addNames(ctx, coll, []string{tag}, f.links); err != nil {
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
