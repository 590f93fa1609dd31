// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package engine

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	gofs "io/fs"
	"os"
	"strings"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/session/upload/uploadprovider"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
)

const (
	// frontend is the interpreter of Dockerfiles that is part of the engine.
	frontend = "dockerfile.v0"
	// filename of the Dockerfile in the source that has it alone.
	filename = "Dockerfile"
	// sourcePrefix of the name by which the builder asks for the Dockerfile.
	sourcePrefix = "arvados-builtin-dockerfile-"
	// cpuPeriod is the usual scheduling period in microseconds (cpu.cfs_period_us).
	cpuPeriod = 100000
	// ociStore is our name for the bases in the session with the builder.
	ociStore = "arvados-builtin"
)

func newNonce() string { return strings.ToLower(rand.Text()) }

// solve builds and exports. It returns when the builder has ended and nothing is
// read from context and bases any more.
func (b *build) solve(ctx context.Context, export bkclient.ExportEntry) error {
	upload := uploadprovider.New()
	b.context.start(ctx, b.req.Context)
	defer b.context.Close()
	opt := bkclient.SolveOpt{
		Frontend:      frontend,
		FrontendAttrs: b.attrs(upload.Add(&b.context)),
		LocalMounts:   map[string]fsutil.FS{sourcePrefix + b.nonce: oneFile(b.req.Dockerfile)},
		Exports:       []bkclient.ExportEntry{export},
		Session:       []session.Attachable{upload, secretsprovider.FromMap(b.req.Secrets)},
		OCIStores:     b.bases.stores(),
	}
	status := make(chan *bkclient.SolveStatus)
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		for s := range status {
			b.steps.update(s)
		}
		b.steps.flush()
	}()
	_, err := b.client.Solve(ctx, nil, opt, status)
	<-shown
	if err == nil {
		return nil
	}
	for _, cause := range []error{b.context.failure(), b.bases.failure()} {
		// What the builder makes of it says nothing about where the
		// trouble was. Our own giving up is no trouble of theirs.
		if cause != nil && ctx.Err() == nil {
			return cause
		}
	}
	return b.buildFault(ctx, err)
}

// attrs are the frontend's options (BuildKit's docs/reference and dockerui).
func (b *build) attrs(contextURL string) map[string]string {
	attrs := map[string]string{
		"context":       contextURL,
		"dockerfilekey": sourcePrefix + b.nonce,
		"filename":      filename,
		// Whatever it says, the engine's own frontend is used then: neither
		// a syntax line of the Dockerfile nor BUILDKIT_SYNTAX chooses one.
		"cmdline": frontend,
	}
	for name, value := range b.req.Args {
		if strings.HasPrefix(name, "BUILDKIT_") {
			// They change how the builder works.
			b.req.Log("the build arg " + name + " has no effect")
			continue
		}
		attrs["build-arg:"+name] = value
	}
	for name, value := range b.req.Labels {
		attrs["label:"+name] = value
	}
	// Builders find equal steps of other builds again, also while these run,
	// and neither secrets nor proxies make steps unequal. A name in the
	// /etc/hosts of each step does. Cache mounts go by names that everybody
	// can choose.
	scope := b.req.CacheScope
	if scope == "" {
		scope = b.nonce
		// Copied files would still be found, and their record be removed by
		// the build that has left it, while this one is about to use it.
		attrs["no-cache"] = ""
	}
	attrs["add-hosts"] = scope + ".invalid=127.0.0.1"
	attrs["build-arg:BUILDKIT_CACHE_MOUNT_NS"] = scope
	if b.req.Target != "" {
		attrs["target"] = b.req.Target
	}
	if b.req.Platform != "" {
		attrs["platform"] = b.req.Platform
	}
	if b.req.NoCache {
		attrs["no-cache"] = ""
	}
	if b.req.Network != "" {
		attrs["force-network-mode"] = b.req.Network
	}
	if b.req.Epoch != nil {
		attrs["build-arg:SOURCE_DATE_EPOCH"] = fmt.Sprint(b.req.Epoch.Unix())
	}
	if b.limited && b.req.Memory > 0 {
		attrs["memory"] = fmt.Sprint(max(b.req.Memory, minMemory))
		attrs["memswap"] = attrs["memory"]
	}
	if b.limited && b.req.CPUs > 0 {
		attrs["cpuperiod"] = fmt.Sprint(cpuPeriod)
		attrs["cpuquota"] = fmt.Sprint(max(int64(b.req.CPUs*cpuPeriod), 1000)) // no quota may be less
	}
	for name, digest := range b.bases.names {
		attrs["context:"+name] = "oci-layout://" + ociStore + "@" + digest
	}
	return attrs
}

// oneFile is a folder that has a Dockerfile with this content.
type oneFile []byte

func (f oneFile) Walk(_ context.Context, target string, see gofs.WalkDirFunc) error {
	if name := strings.Trim(target, "./"); name != "" && name != filename {
		return &os.PathError{Op: "walk", Path: target, Err: os.ErrNotExist}
	}
	stat := &fstypes.Stat{Path: filename, Mode: 0644, Size: int64(len(f))}
	return see(filename, &fsutil.DirEntryInfo{Stat: stat}, nil)
}

func (f oneFile) Open(name string) (io.ReadCloser, error) {
	if name != filename {
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
	}
	return io.NopCloser(strings.NewReader(string(f))), nil
}
