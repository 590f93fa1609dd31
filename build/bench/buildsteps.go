// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

package main

import (
	"context"
	"io"
	"regexp"
	"slices"
	"time"

	"git.arvados.org/arvados.git/lib/buildcontext"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"golang.org/x/sync/errgroup"
)

// clientOf is the API server for a step, whose first arguments are its address
// and a token.
func clientOf(args []string) *arvados.Client {
	return &arvados.Client{APIHost: args[0], AuthToken: args[1], Insecure: true, Timeout: time.Minute}
}

// contextStep streams a collection as a build context. Its third argument is
// the collection.
func contextStep(ctx context.Context, args []string) error {
	client := clientOf(args)
	keep, err := keepOf(client)
	if err != nil {
		return err
	}
	tree, err := buildcontext.FromCollection(ctx, client, keep, args[2])
	if err != nil {
		return err
	}
	stream := tree.Open(ctx)
	defer stream.Close()
	_, err = io.Copy(io.Discard, stream)
	return err
}

// blocksStep is the least that must be done to read the same collection: get
// its manifest, and read and MD5 each block, three at a time as the context
// stream does.
func blocksStep(ctx context.Context, args []string) error {
	client := clientOf(args)
	keep, err := keepOf(client)
	if err != nil {
		return err
	}
	var coll arvados.Collection
	err = client.RequestAndDecodeContext(ctx, &coll, "GET", "arvados/v1/collections/"+args[2], nil, map[string]interface{}{
		"select": []string{"manifest_text"},
	})
	if err != nil {
		return err
	}
	reads, ctx := errgroup.WithContext(ctx)
	reads.SetLimit(3)
	for _, block := range slices.Compact(locator.FindAllString(coll.ManifestText, -1)) {
		reads.Go(func() error {
			_, err := keep.BlockRead(ctx, arvados.BlockReadOptions{Locator: block, WriteTo: io.Discard})
			return err
		})
	}
	return reads.Wait()
}

// locator is a block in a manifest. The next folder may begin with the block
// that the last one ended with.
var locator = regexp.MustCompile(`[0-9a-f]{32}\+\d+\S*`)
