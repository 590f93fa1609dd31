// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package arvdocker

import (
	"context"
	"crypto/md5"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"unicode/utf8"

	"git.arvados.org/arvados.git/lib/buildcontext"
	"git.arvados.org/arvados.git/lib/builtin"
	"git.arvados.org/arvados.git/lib/dockerimage"
	"git.arvados.org/arvados.git/lib/keepfile"
	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// keyContext marks collections that are build contexts; its value is the name of
// the folder. The prefix lets it pass strict vocabularies.
const keyContext = "arv:docker-build-context"

// earlierContexts is how many of the newest contexts are asked for blocks that
// need not be sent again.
const earlierContexts = 5

// upload stores a context in Keep as a collection of the owner, and returns its
// portable data hash. For a dry run it only computes that.
func (s *session) upload(ctx context.Context, f *folder, owner string, flags *requestFlags) (pdh string, err error) {
	defer s.done()
	count, total := f.tree.Size()
	store := &blockStore{}
	var earlier arvados.CollectionList
	if !flags.dryRun {
		if store.next, err = s.keep(ctx); err != nil {
			return "", err
		}
		if earlier, err = s.earlierContexts(ctx, owner); err != nil {
			return "", err
		}
		store.know(earlier)
	}
	show := s.transfer("sent")
	files, copies, err := pack(ctx, f.tree, store, func(done int64) {
		if !flags.quiet {
			show(done, total)
		}
	})
	if err != nil {
		return "", err
	}
	manifest := keepfile.FormatManifest(files)
	pdh = arvados.PortableDataHash(manifest)
	if flags.dryRun {
		return pdh, nil
	}
	if !flags.quiet {
		s.say("context %s: %d files and folders, %s, %s sent", f.name, count, builtin.Size(total), builtin.Size(store.sent))
		if copies > 0 {
			s.say("%d symbolic links in it are copies now, since Keep stores no links", copies)
		}
	}
	for _, coll := range earlier.Items {
		if coll.PortableDataHash == pdh {
			return pdh, nil
		}
	}
	return pdh, s.call(ctx, nil, http.MethodPost, "collections", attrs{
		"collection": attrs{
			"owner_uuid":    owner,
			"name":          "Build context " + f.name,
			"manifest_text": manifest,
			"properties":    attrs{keyContext: f.name},
		},
		"ensure_unique_name": true,
	})
}

// earlierContexts are the contexts that the owner has from builds before.
func (s *session) earlierContexts(ctx context.Context, owner string) (list arvados.CollectionList, err error) {
	limit := earlierContexts
	err = s.call(ctx, &list, http.MethodGet, "collections", arvados.ResourceListParams{
		Filters: []arvados.Filter{
			{Attr: "owner_uuid", Operator: "=", Operand: owner},
			{Attr: "properties." + keyContext, Operator: "exists", Operand: true},
		},
		Select: []string{"uuid", "portable_data_hash", "manifest_text"},
		Order:  "created_at desc",
		Limit:  &limit,
		Count:  "none",
	})
	return list, err
}

// pack writes the files of a context one after the other into blocks. Links to
// files become files with the same blocks; any other link is refused.
func pack(ctx context.Context, tree *buildcontext.Tree, store keepfile.BlockWriter, progress func(int64)) (files []keepfile.File, copies int, err error) {
	packer := keepfile.NewPacker(ctx, keepfile.NewWriter(store, dockerimage.BlocksInFlight(), arvados.BlockWriteOptions{}))
	defer packer.Abort()
	var done int64
	targets := map[string]string{} // of links
	filled := map[string]bool{}    // folders
	var folders []string
	for e := range tree.Entries() {
		if !utf8.ValidString(e.Path) {
			return nil, 0, wrong("context", fmt.Errorf("the name %q is not UTF-8, which Keep cannot store", e.Path), "rename it, or exclude it in "+buildcontext.IgnoreName)
		}
		if i := strings.LastIndexByte(e.Path, '/'); i >= 0 {
			filled[e.Path[:i]] = true
		}
		switch e.Kind {
		case buildcontext.Folder:
			folders = append(folders, e.Path)
		case buildcontext.Symlink:
			target, err := tree.Lookup(e.Path)
			if err == nil && target.Kind == buildcontext.Folder {
				err = fmt.Errorf("it leads to the folder %q", target.Path)
			}
			if err != nil {
				return nil, 0, wrong("context", fmt.Errorf("the symbolic link %q cannot be stored in Keep: %w", e.Path, err),
					"replace it by what it stands for, make it in the Dockerfile (RUN ln -s), or exclude it in "+buildcontext.IgnoreName)
			}
			targets[e.Path] = target.Path
		default:
			r, err := e.Open(ctx)
			if err != nil {
				return nil, 0, err
			}
			start := done
			err = packer.Add(e.Path, &counter{r: r, count: func(n int64) { done = start + n; progress(done) }})
			r.Close()
			if err != nil {
				return nil, 0, err
			}
		}
	}
	if files, err = packer.Close(); err != nil {
		return nil, 0, err
	}
	segments := map[string][]keepfile.Segment{}
	for _, file := range files {
		segments[file.Path] = file.Segments
	}
	for link, target := range targets {
		files = append(files, keepfile.File{Path: link, Segments: segments[target]})
	}
	for _, name := range folders {
		if filled[name] {
			continue
		}
		if _, err := tree.Sub(name); err != nil { // it cannot be read, and only seems to be empty
			return nil, 0, err
		}
		files = append(files, keepfile.File{Path: name + "/"})
	}
	return files, len(targets), nil
}

// blockStore stores blocks that Keep is not known to have.
type blockStore struct {
	next keepfile.BlockWriter // nil: nothing is stored

	mtx   sync.Mutex
	known map[string]string // locators that the user may read, by hash and size
	sent  int64             // bytes
}

// know takes note of the blocks of collections. A manifest that cannot be read
// is of no use.
func (b *blockStore) know(list arvados.CollectionList) {
	b.known = map[string]string{}
	for _, coll := range list.Items {
		files, err := keepfile.ParseManifest(coll.ManifestText)
		if err != nil {
			continue
		}
		for _, file := range files {
			for _, segment := range file.Segments {
				parts := strings.SplitN(segment.Locator, "+", 3)
				b.known[parts[0]+"+"+parts[1]] = segment.Locator
			}
		}
	}
}

// BlockWrite implements keepfile.BlockWriter.
func (b *blockStore) BlockWrite(ctx context.Context, opts arvados.BlockWriteOptions) (arvados.BlockWriteResponse, error) {
	opts.Hash = fmt.Sprintf("%x", md5.Sum(opts.Data))
	name := fmt.Sprintf("%s+%d", opts.Hash, len(opts.Data))
	if b.next == nil {
		return arvados.BlockWriteResponse{Locator: name}, nil
	}
	b.mtx.Lock()
	locator, known := b.known[name]
	if !known {
		b.sent += int64(len(opts.Data))
	}
	b.mtx.Unlock()
	if known {
		return arvados.BlockWriteResponse{Locator: locator}, nil
	}
	return b.next.BlockWrite(ctx, opts)
}
