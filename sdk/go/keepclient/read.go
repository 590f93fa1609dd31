// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: Apache-2.0

package keepclient

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"git.arvados.org/arvados.git/sdk/go/arvados"
)

// BlockRead copies a block to opts.WriteTo as it arrives, holding no more than
// a piece of it in memory. When a service breaks off, the rest comes from the
// next one. It returns the number of bytes written; they are the block only if
// the error is nil. An error of opts.WriteTo is returned as it is.
func (kc *KeepClient) BlockRead(ctx context.Context, opts arvados.BlockReadOptions) (int, error) {
	loc, err := MakeLocator(opts.Locator)
	if err != nil {
		return 0, err
	}
	return kc.read(ctx, loc, &stream{to: opts.WriteTo})
}

// ReadAt fills p from a block, off bytes into it. At the block's end it
// returns what there is, and io.EOF. It reads the whole block to check it, so
// for many pieces of a block BlockRead is the better way.
func (kc *KeepClient) ReadAt(locator string, p []byte, off int) (int, error) {
	loc, err := MakeLocator(locator)
	if err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, fmt.Errorf("cannot read block %s: negative offset %d", loc.bare(), off)
	}
	size, err := kc.read(context.Background(), loc, &window{p: p, from: off})
	if err != nil {
		return 0, err
	}
	n := max(0, min(len(p), size-off))
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// read brings a block from the services to dst: first from those that the
// locator names, then in the order of the RootSorter, then again from those
// that failed in a way that may pass.
func (kc *KeepClient) read(ctx context.Context, loc *Locator, dst sink) (int, error) {
	if loc.Hash == emptyHash {
		return 0, nil
	}
	transfer := newTransfer(loc, dst)
	requestID := kc.requestID()
	err := kc.eachServer(ctx, loc, func(server string, proxies bool) failure {
		return kc.readFrom(ctx, server, proxies, requestID, transfer)
	})
	return transfer.done, err
}

// LocalLocator turns a locator that another cluster has signed (hint R) into
// one that this cluster has signed; the service fetches the block if need be.
// Any other locator is returned as it is.
func (kc *KeepClient) LocalLocator(locator string) (string, error) {
	if !strings.Contains(locator, "+R") {
		return locator, nil
	}
	loc, err := MakeLocator(locator)
	if err != nil {
		return "", err
	}
	ctx := context.Background()
	requestID := kc.requestID()
	local := ""
	err = kc.eachServer(ctx, loc, func(server string, proxies bool) failure {
		ctx, dog := kc.watch(ctx, proxies)
		defer dog.stop()
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, server+"/"+locator, nil)
		if err != nil {
			return failure{err: err}
		}
		req.Header.Set(XKeepSignature, "local, time="+time.Now().UTC().Format(time.RFC3339))
		resp, err := kc.send(req, proxies, requestID)
		if err != nil {
			return failure{err: err, again: true}
		}
		if resp.StatusCode != http.StatusOK {
			return refused(resp)
		}
		resp.Body.Close()
		local = resp.Header.Get(XKeepLocator)
		if answer, err := MakeLocator(local); err != nil || answer.Hash != loc.Hash {
			return failure{err: fmt.Errorf("answered with locator %q", local)}
		}
		return failure{}
	})
	if err != nil {
		return "", err
	}
	return local, nil
}
