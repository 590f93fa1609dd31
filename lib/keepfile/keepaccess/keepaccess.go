// Copyright (C) The Arvados Authors. All rights reserved.
//
// SPDX-License-Identifier: AGPL-3.0

// Package keepaccess makes the SDK's Keep client the way this project's programs
// need it: under a context, and without a cache. It is for whoever has a client
// of the API server and wants to read or write blocks as its user. It reads and
// writes none itself.
package keepaccess

import (
	"context"

	"git.arvados.org/arvados.git/lib/fault"
	"git.arvados.org/arvados.git/sdk/go/arvados"
	"git.arvados.org/arvados.git/sdk/go/arvadosclient"
	"git.arvados.org/arvados.git/sdk/go/keepclient"
)

// Open is Keep as the client's user sees it. The SDK asks the API server for the
// services without a context, and for minutes when it does not answer; whoever
// ends ctx does not wait for that. Errors are of side Keep and transient.
func Open(ctx context.Context, client *arvados.Client) (*keepclient.KeepClient, error) {
	type answer struct {
		kc  *keepclient.KeepClient
		err error
	}
	found := make(chan answer, 1)
	go func() {
		arv, err := arvadosclient.New(client)
		if err != nil {
			found <- answer{nil, err}
			return
		}
		kc, err := keepclient.MakeKeepClient(arv)
		found <- answer{kc, err}
	}()
	var got answer
	select {
	case got = <-found:
	case <-ctx.Done():
		got.err = context.Cause(ctx)
	}
	if got.err != nil {
		return nil, &fault.Error{Op: "find services", Side: fault.Keep, Subject: client.APIHost, Err: got.err, Transient: true}
	}
	got.kc.DiskCacheSize = keepclient.DiskCacheDisabled // blocks are used once
	return got.kc, nil
}
